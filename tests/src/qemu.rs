//! QEMU's tools for iSCSI, which may be others than those in PATH: `tests/qemu-iscsi` finds or makes them.

use std::path::{Path, PathBuf};

use crate::skip::skip;
use crate::tool::{Tool, said};

/// A QEMU tool that speaks iSCSI.
pub fn iscsi_tool(name: &str) -> Tool {
    Tool::new(folder().join(name))
}

/// Whether there is none; then that is said.
pub fn lacks_iscsi() -> bool {
    // nobody listens there: a tool that knows the protocol tries to connect
    let probe = iscsi_tool("qemu-img").args(["info", "iscsi://127.0.0.1:1/iqn.2026-11.test:none/0"]).output();
    let speaks = probe.is_ok_and(|output| said(&output).contains("iSCSI: Failed to connect"));
    !speaks && skip("no QEMU tools that speak iSCSI: see tests/qemu-iscsi")
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("RINGSAN_QEMU_ISCSI") {
        return folder.into();
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home).unwrap_or_default();
    let private = cache.join("ringsan-tests/qemu-iscsi/bin");
    if private.is_dir() { private } else { PathBuf::new() }
}
