//! QEMU's own mirror: qemu-storage-daemon with the quorum driver over a file and what another one exports over NBD.
//!
//! The driver sends each write to all of its children and answers when all have; `vote-threshold=1` only lets it go on
//! when one fails, as a mirror of two does, and `read-pattern=fifo` reads from the file alone, without comparing.
//! Both files lie in tmpfs, the second daemon is where our second node is.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::experiment::Laboratory;
use crate::load::Load;
use crate::sample::{Method, Sample};
use crate::server::{Server, free_port, volume_at};
use crate::stage;

/// Two daemons.
pub struct Quorum {
    near: Server,
    far: Server,
    _folder: TempDir,
}

impl Quorum {
    /// Starts both, full of random bytes.
    pub fn start(laboratory: &Laboratory, size_bytes: u64) -> Result<Quorum> {
        let method = laboratory.plan.method;
        let folder = tempfile::Builder::new().prefix("bench-quorum-").tempdir_in("/dev/shm")?;
        let file = |name: &str| -> Result<String> {
            let path = folder.path().join(name);
            File::create(&path)?.set_len(size_bytes)?;
            Ok(format!("driver=file,node-name=file,filename={},aio=io_uring,locking=off", path.display()))
        };
        let start = |name: &str, nodes: &[String], export: &str, portal: SocketAddr, cpu| -> Result<Server> {
            let mut command = Command::new("qemu-storage-daemon");
            command.args(nodes.iter().flat_map(|node| ["--blockdev", node]));
            let server = format!("addr.type=inet,addr.host=127.0.0.1,addr.port={}", portal.port());
            let export = format!("type=nbd,id=export,node-name={export},name=disk,writable=on");
            command.args(["--nbd-server", &server, "--export", &export]);
            let log = folder.path().join(format!("{name}.log"));
            Server::start(name, command.into(), volume_at(laboratory.protocol, portal), &[cpu], &log)
        };
        let (near_portal, far_portal) = (free_port()?, free_port()?);
        let far = start("quorum-far", &[file("far.img")?], "file", far_portal, method.client_cpu)?;
        let nodes = children(file("near.img")?, far_portal);
        let near = start("quorum", &nodes, "quorum", near_portal, method.server_cpu)?;
        stage::fill(&near.address)?;
        Ok(Quorum { near, far, _folder: folder })
    }

    /// `load` on it; the cost is that of both daemons.
    pub fn measure(&self, method: &Method, load: &Load) -> Result<Sample> {
        method.measure_together(&self.near.address, &[&self.near, &self.far], load)
    }
}

fn children(file: String, far: SocketAddr) -> [String; 3] {
    let port = far.port();
    [
        file,
        format!(
            "driver=nbd,node-name=far,server.type=inet,server.host=127.0.0.1,server.port={port},export=disk"
        ),
        "driver=quorum,node-name=quorum,vote-threshold=1,read-pattern=fifo,children.0=file,children.1=far"
            .into(),
    ]
}
