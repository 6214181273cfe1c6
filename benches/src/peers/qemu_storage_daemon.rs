//! qemu-storage-daemon with io_uring: past the page cache where the backing asks for it, else through it.

use super::{Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;

pub const PROGRAM: Program = Program {
    name: "qemu-storage-daemon",
    protocol: Protocol::Nbd,
    serves: |_| true,
    launch: |place| {
        let direct = if place.backing.kind == BackingKind::Direct { "on" } else { "off" };
        let file = place.backing.path.display();
        let port = place.portal.port();
        Ok(command(
            "qemu-storage-daemon",
            [
                "--blockdev".into(),
                format!(
                    "driver=file,node-name=file,filename={file},aio=io_uring,cache.direct={direct},locking=off"
                ),
                "--nbd-server".into(),
                format!("addr.type=inet,addr.host=127.0.0.1,addr.port={port}"),
                "--export".into(),
                "type=nbd,id=export,node-name=file,name=disk,writable=on".into(),
            ],
        ).into())
    },
    version: |_| Ok(command("qemu-storage-daemon", ["--version".into()])),
    starts_empty: |_| false,
};
