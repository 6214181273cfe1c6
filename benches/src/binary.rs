//! The programs of this workspace that are measured: freshly built, or those that the environment names.
//!
//! Rule: built once a run, so that nobody measures yesterday's binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

/// The target.
pub fn ringsan() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&BINARY, "RINGSAN", "ringsan", "ringsan")
}

/// The client.
pub fn ringsan_nbd() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(&BINARY, "RINGSAN_NBD", "nbd-client", "ringsan-nbd")
}

fn found(
    binary: &OnceLock<Result<PathBuf, String>>,
    variable: &str,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let find = || find(variable, package, name).map_err(|error| format!("{error:#}"));
    binary.get_or_init(find).clone().map_err(anyhow::Error::msg)
}

fn find(variable: &str, package: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    if let Some(cargo) = env::var_os("CARGO") {
        build(Path::new(&cargo), package)?;
    }
    let path = env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!("{} is missing; run cargo build --release, or set {variable} to a binary", path.display());
    }
    Ok(path)
}

fn build(cargo: &Path, package: &str) -> Result<()> {
    let status = Command::new(cargo).args(["build", "--quiet", "--release", "-p", package]).status()?;
    if !status.success() {
        bail!("{package} does not build");
    }
    Ok(())
}
