//! A disk with a volatile cache, which a power cut empties; and one that fails or is full when told so.
//!
//! Its one rule: what was not flushed is lost with the power, all of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::device::FuseFile;
use crate::skip::{lacks, lacks_root_and};

/// A disk.
pub struct Disk {
    point: PathBuf,
    words: Vec<String>,
    fails: PathBuf,
    shown: Option<FuseFile>,
}

/// Whether this machine has no such disks; then that is said.
pub fn lacks_disks() -> bool {
    lacks(&["nbdfuse", "nbdkit"]) || lacks_root_and(&["/dev/fuse"])
}

impl Disk {
    /// Whose platters are a file, made in `folder`, behind a cache of its own.
    pub fn cached(folder: &Path, bytes: u64) -> Result<Disk> {
        let platters = folder.join("platters.img");
        fs::File::create(&platters)?.set_len(bytes)?;
        let file = platters.display().to_string();
        Disk::show(folder, &["--filter=cache", "file", &file, "cache=writeback"])
    }

    /// Whose writes, reads and flushes fail while `failing` says so.
    pub fn failing(folder: &Path, bytes: u64, error: &str) -> Result<Disk> {
        let fails = format!("error-file={}", folder.join("fails").display());
        let (size, error) = (bytes.to_string(), format!("error={error}"));
        Disk::show(folder, &["--filter=error", "memory", &size, &error, "error-rate=100%", &fails])
    }

    fn show(folder: &Path, words: &[&str]) -> Result<Disk> {
        let words = [&["[", "nbdkit", "--exit-with-parent"], words, &["]"]].concat();
        let words = words.into_iter().map(str::to_owned).collect();
        let mut disk =
            Disk { point: folder.join("fuse/disk"), words, fails: folder.join("fails"), shown: None };
        disk.power_on()?;
        Ok(disk)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Empties its cache, and takes it away.
    pub fn power_off(&mut self) -> Result<()> {
        self.shown.take().context("a disk that is on")?.pull()
    }

    /// Brings it back as it is on its platters.
    pub fn power_on(&mut self) -> Result<()> {
        self.shown = Some(FuseFile::mount(&self.point, self.words.iter().map(String::as_str))?);
        Ok(())
    }

    /// Answers nothing from now on, or all again.
    pub fn set_hanging(&self, hangs: bool) -> Result<()> {
        let pid = self.shown.as_ref().context("a disk that is on")?.pid();
        let signal = if hangs { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
    }

    /// Whether all that is asked of it fails from now on.
    pub fn set_failing(&self, fails: bool) -> Result<()> {
        if fails {
            fs::write(&self.fails, "")?
        } else {
            fs::remove_file(&self.fails)?
        }
        Ok(())
    }
}
