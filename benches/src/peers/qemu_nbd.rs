//! qemu-nbd with io_uring: past the page cache where the backing asks for it, else through it.

use super::{Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;

pub const PROGRAM: Program = Program {
    name: "qemu-nbd",
    protocol: Protocol::Nbd,
    serves: |_| true,
    launch: |place| {
        let cache = if place.backing.kind == BackingKind::Direct { "none" } else { "writeback" };
        let file = place.backing.path.display();
        // Locks are off because the other servers hold the same file open.
        Ok(command(
            "qemu-nbd",
            [
                "--persistent".into(),
                "--bind=127.0.0.1".into(),
                format!("--port={}", place.portal.port()),
                "--export-name=disk".into(),
                "--shared=0".into(),
                "--aio=io_uring".into(),
                format!("--cache={cache}"),
                "--image-opts".into(),
                format!("driver=raw,file.driver=file,file.filename={file},file.locking=off"),
            ],
        )
        .into())
    },
    version: |_| Ok(command("qemu-nbd", ["--version".into()])),
    starts_empty: |_| false,
};
