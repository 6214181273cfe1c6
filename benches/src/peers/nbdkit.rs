//! nbdkit: its memory plugin for memory, its file plugin for files. It has no way past the page cache.

use super::{Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;

pub const PROGRAM: Program = Program {
    name: "nbdkit",
    protocol: Protocol::Nbd,
    serves: |kind| kind != BackingKind::Direct,
    launch: |place| {
        let port = place.portal.port();
        let plugin = match place.backing.kind {
            // Its sparse array, the default, is slower on a volume that is full.
            BackingKind::Memory => format!("memory size={} allocator=malloc", place.backing.size_bytes),
            _ => format!("file {}", place.backing.path.display()),
        };
        let arguments = format!("--foreground --ipaddr 127.0.0.1 --port {port} {plugin}");
        Ok(command("nbdkit", arguments.split(' ').map(String::from)).into())
    },
    version: |_| Ok(command("nbdkit", ["--version".into()])),
    starts_empty: |kind| kind == BackingKind::Memory,
};
