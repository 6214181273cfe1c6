//! nbd-server, the reference implementation: a process for each client. It has no way past the page cache.

use std::fs;

use anyhow::Context;

use super::{Program, command};
use crate::backing::BackingKind;
use crate::protocol::Protocol;
use crate::server::Launch;

pub const PROGRAM: Program = Program {
    name: "nbd-server",
    protocol: Protocol::Nbd,
    serves: |kind| kind != BackingKind::Direct,
    launch: |place| {
        let (config, pid_file) =
            (place.scratch.join("nbd-server.conf"), place.scratch.join("nbd-server.pid"));
        let (file, port) = (place.backing.path.display(), place.portal.port());
        let text = format!("[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n[disk]\nexportname = {file}\n");
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        // In the foreground it serves one client and ends.
        let arguments =
            ["-C", &config.to_string_lossy(), "-p", &pid_file.to_string_lossy()].map(String::from);
        Ok(Launch { pid_file: Some(pid_file), ..command("nbd-server", arguments).into() })
    },
    version: |_| Ok(command("nbd-server", ["-V".into()])),
    starts_empty: |_| false,
};
