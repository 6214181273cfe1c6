//! The servers that are up for one backing, each on the server's core, idle until its turn.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::address::{Address, Endpoint};
use crate::backing::Backing;
use crate::floor::{EXPORT, Echo};
use crate::generator::{Generator, Until};
use crate::load::Load;
use crate::peers::{Place, Program};
use crate::sample::Method;
use crate::server::{Launch, Server, export_at, free_port};

/// Where servers are put.
pub struct Stage<'a> {
    /// The bytes that they serve.
    pub backing: &'a Backing,
    /// For their own files and their output.
    pub scratch: &'a Path,
    /// Says which core.
    pub method: Method,
}

impl Stage<'_> {
    /// Starts `program`, full of random bytes.
    pub fn start(&self, program: &Program) -> Result<Server> {
        let place = self.place()?;
        let server = self.run(program.name, (program.launch)(&place)?, export_at(place.portal))?;
        if (program.starts_empty)(self.backing.kind) {
            fill(&server).with_context(|| format!("cannot fill {}", program.name))?;
        }
        Ok(server)
    }

    /// Starts the floor for `load`; mixed loads have none.
    pub fn floor(&self, load: &Load) -> Result<Option<Server>> {
        let Some(echo) = Echo::of(load) else { return Ok(None) };
        let portal = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor".into(), portal.to_string()]);
        command.args([echo.request_payload, echo.reply_payload].map(|size| size.to_string()));
        let address = Address { endpoint: Endpoint::Tcp(portal), export: EXPORT.into() };
        self.run("floor", command.into(), address).map(Some)
    }

    fn run(&self, name: &str, launch: Launch, address: Address) -> Result<Server> {
        let log = self.scratch.join(format!("{name}.log"));
        Server::start(name, launch, address, &[self.method.server_cpu], &log)
    }

    /// A place on a free port.
    pub fn place(&self) -> Result<Place<'_>> {
        let cpu = self.method.server_cpu;
        Ok(Place { backing: self.backing, portal: free_port()?, scratch: self.scratch, cpu })
    }
}

/// Writes random bytes over the whole of an export.
fn fill(server: &Server) -> Result<()> {
    let load = Load::sequential_128k(100);
    let mut generator = Generator::open(&server.address, &load)?;
    let blocks = generator.size_bytes() / u64::from(load.block_bytes);
    generator.run(Until::Requests(blocks))?;
    Ok(())
}
