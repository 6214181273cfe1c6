//! The servers that are measured side by side, one small file each.
//!
//! Rule: each is started as its own manual would have it for speed on this backing, and all on the same bytes.

mod nbd_server;
mod nbdkit;
mod qemu_nbd;
mod qemu_storage_daemon;
mod ringsan;
mod spdk;
mod tgt;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::backing::{Backing, BackingKind};
use crate::protocol::Protocol;
use crate::server::Launch;

pub use ringsan::serve as serve_ringsan;

/// What a server is started with.
pub struct Place<'a> {
    /// The bytes.
    pub backing: &'a Backing,
    /// Where to listen.
    pub portal: SocketAddr,
    /// A directory for its own files.
    pub scratch: &'a Path,
    /// The CPU it runs on.
    pub cpu: usize,
    /// Programs that are not in the search path.
    pub binaries: &'a Binaries,
}

/// Programs that are not in the search path, where they were named.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Binaries {
    /// SPDK's iscsi_tgt.
    pub spdk: Option<PathBuf>,
}

/// A server program.
pub struct Program {
    /// Its name in tables.
    pub name: &'static str,
    /// What it is measured over.
    pub protocol: Protocol,
    /// Whether it can serve a backing in the way that the backing's kind means.
    pub serves: fn(BackingKind) -> bool,
    /// How it is started.
    pub launch: fn(&Place) -> Result<Launch>,
    /// How it is asked for its version.
    pub version: fn(&Binaries) -> Result<Command>,
    /// Its memory is its own and holds zeroes at first.
    pub starts_empty: fn(BackingKind) -> bool,
}

/// The subject of it all.
pub fn ringsan(protocol: Protocol) -> Program {
    match protocol {
        Protocol::Nbd => ringsan::NBD,
        Protocol::Iscsi => ringsan::ISCSI,
    }
}

/// The servers that it is compared to.
pub const PEERS: [Program; 9] = [
    nbdkit::PROGRAM,
    qemu_nbd::PROGRAM,
    qemu_storage_daemon::PROGRAM,
    nbd_server::PROGRAM,
    tgt::RDWR,
    tgt::AIO,
    spdk::MALLOC,
    spdk::AIO,
    spdk::URING,
];

/// A program that is here, or why it is not.
#[derive(Clone, Debug, Serialize)]
pub struct Presence {
    /// Which.
    pub name: &'static str,
    /// Over what.
    pub protocol: Protocol,
    /// The first line of what it says of its version, or the reason to skip it.
    pub version: Result<String, String>,
}

impl Program {
    /// Looks whether it is here.
    pub fn presence(&self, binaries: &Binaries) -> Presence {
        let version = (self.version)(binaries).and_then(first_line).map_err(|error| format!("{error:#}"));
        Presence { name: self.name, protocol: self.protocol, version }
    }
}

fn first_line(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} is not installed"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => Ok(line.trim().into()),
        None => bail!("{program} does not tell its version"),
    }
}

fn command(program: &str, arguments: impl IntoIterator<Item = String>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
