//! The servers that are up for one backing, each on the server's core, idle until its turn.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::address::{Address, Name};
use crate::backing::Backing;
use crate::floor::Echo;
use crate::generator::{Generator, Until};
use crate::load::{Load, Waiting};
use crate::peers::{Binaries, Place, Program};
use crate::protocol::Protocol;
use crate::sample::Method;
use crate::server::{Launch, Server, free_port, volume_at};

/// Where servers are put.
pub struct Stage<'a> {
    /// The bytes that they serve.
    pub backing: &'a Backing,
    /// For their own files and their output.
    pub scratch: &'a Path,
    /// Says which core.
    pub method: Method,
    /// Programs that are not in the search path.
    pub binaries: &'a Binaries,
}

impl Stage<'_> {
    /// Starts `program`, full of random bytes.
    pub fn start(&self, program: &Program) -> Result<Server> {
        let place = self.place()?;
        let launch = (program.launch)(&place)?;
        let mut address = volume_at(program.protocol, place.portal);
        if let Name::Unit { lun, .. } = &mut address.name {
            *lun = launch.lun;
        }
        let server = self.run(program.name, launch, address)?;
        if (program.starts_empty)(self.backing.kind) {
            let _awake = server.wake()?;
            fill(&server.address).with_context(|| format!("cannot fill {}", program.name))?;
        }
        Ok(server)
    }

    /// Starts the floor for `load`; mixed loads have none.
    pub fn floor(&self, protocol: Protocol, load: &Load) -> Result<Option<Server>> {
        let Some(echo) = Echo::of(protocol, load) else { return Ok(None) };
        let portal = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(echo.arguments(portal));
        self.run("floor", command.into(), volume_at(protocol, portal)).map(Some)
    }

    fn run(&self, name: &str, launch: Launch, address: Address) -> Result<Server> {
        let log = self.scratch.join(format!("{name}.log"));
        Server::start(name, launch, address, &[self.method.server_cpu], &log)
    }

    /// A place on a free port.
    pub fn place(&self) -> Result<Place<'_>> {
        let cpu = self.method.server_cpu;
        let (backing, scratch, binaries) = (self.backing, self.scratch, self.binaries);
        Ok(Place { backing, portal: free_port()?, scratch, cpu, binaries })
    }
}

/// Writes random bytes over the whole of a volume; sleeps meanwhile, for a server may share this core.
pub fn fill(address: &Address) -> Result<()> {
    let load = Load { waiting: Waiting::Sleep, ..Load::sequential_128k(100) };
    let mut generator = Generator::open(address, &load)?;
    let blocks = generator.size_bytes() / u64::from(load.block_bytes);
    generator.run(Until::Requests(blocks))?;
    Ok(())
}
