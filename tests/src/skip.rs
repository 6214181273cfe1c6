//! What a machine cannot run is said, never silently passed: a line `SKIP test: why`, which `tests/run` counts.
//!
//! The line goes past the test runner's capture, and into the file that RINGSAN_SKIPS names.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

/// Says that the running test cannot run here, and why. Always true, so that a test can say
/// `if broken && skip("…") { return Ok(()); }`.
pub fn skip(why: &str) -> bool {
    let line = format!("SKIP {}: {why}\n", thread::current().name().unwrap_or("test"));
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("RINGSAN_SKIPS")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
    true
}

/// Whether any of these programs is missing; then that is said.
pub fn lacks(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| !installed(name)).collect();
    !missing.is_empty() && skip(&format!("not installed: {}", missing.join(", ")))
}

/// Whether this is not root with these device files; then that is said.
pub fn lacks_root_and(devices: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root");
    }
    let missing: Vec<&str> = devices.iter().copied().filter(|path| !Path::new(path).exists()).collect();
    !missing.is_empty() && skip(&format!("no {}", missing.join(", ")))
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(Into::into));
    folders.iter().any(|folder| folder.join(program).is_file())
}
