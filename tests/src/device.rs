//! Loop devices, mounts and FUSE files of a test. Each is undone when dropped; what stays in use is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tool::Tool;

/// A loop device over a file.
pub struct Loop(PathBuf);

impl Loop {
    /// Attaches `file`, with direct I/O where its file system has it.
    pub fn attach(file: &Path) -> Result<Loop> {
        Loop::attach_with(file, &[])
    }

    /// The same, with more options of losetup.
    pub fn attach_with(file: &Path, options: &[&str]) -> Result<Loop> {
        let name =
            Tool::new("losetup").args(["--find", "--show", "--direct-io=on"]).args(options).arg(file).ok()?;
        Ok(Loop(PathBuf::from(name.trim())))
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        report(Tool::new("losetup").arg("--detach").arg(&self.0).ok());
    }
}

/// A mounted file system.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts `device` at `point`, which is made.
    pub fn device(device: &Path, point: &Path) -> Result<Mount> {
        fs::create_dir_all(point)?;
        Tool::new("mount").arg(device).arg(point).ok()?;
        Ok(Mount(point.to_owned()))
    }

    /// Mounts memory of `bytes` at `point`, which is made.
    pub fn tmpfs(point: &Path, bytes: u64) -> Result<Mount> {
        fs::create_dir_all(point)?;
        Tool::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(point).ok()?;
        Ok(Mount(point.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        report(unmount(&self.0));
    }
}

/// A file that nbdfuse makes of an NBD export.
pub struct FuseFile {
    path: PathBuf,
    nbdfuse: Child,
}

impl FuseFile {
    /// Makes the file `path` (its folder is made); `source` are nbdfuse's arguments after it: a URI, or a
    /// command in brackets.
    pub fn mount<A: AsRef<std::ffi::OsStr>>(
        path: &Path,
        source: impl IntoIterator<Item = A>,
    ) -> Result<FuseFile> {
        let folder = path.parent().context("a FUSE file has a folder")?;
        fs::create_dir_all(folder)?;
        let pidfile = folder.with_extension("pid");
        let _ = fs::remove_file(&pidfile); // of an earlier mount there
        let mut command = Command::new("nbdfuse");
        command.arg("--pidfile").arg(&pidfile).arg(path).args(source).stdin(Stdio::null());
        let file = FuseFile { path: path.to_owned(), nbdfuse: command.spawn().context("starting nbdfuse")? };
        file.await_ready(&pidfile)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that serves it.
    pub fn pid(&self) -> u32 {
        self.nbdfuse.id()
    }

    /// Ends what serves it at once: whoever waits for the file gets an error.
    pub fn pull(&mut self) -> Result<()> {
        self.nbdfuse.kill()?;
        self.nbdfuse.wait()?;
        Ok(())
    }

    fn await_ready(mut self, pidfile: &Path) -> Result<FuseFile> {
        // nbdfuse writes its pid file once the file is there; it offers no event to wait for
        let end = Instant::now() + Duration::from_secs(20);
        while !pidfile.exists() {
            ensure!(self.nbdfuse.try_wait()?.is_none(), "nbdfuse ended");
            ensure!(Instant::now() < end, "nbdfuse is not ready after 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self)
    }
}

impl Drop for FuseFile {
    fn drop(&mut self) {
        let folder = self.path.parent().unwrap_or(&self.path);
        report(unmount(folder));
        // it ends by itself, unless a request is stuck in it
        let end = Instant::now() + Duration::from_secs(5);
        while self.nbdfuse.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.nbdfuse.kill();
        let _ = self.nbdfuse.wait();
    }
}

/// The kernel closes what a killed process held a little after its end; what is busy for longer goes when it is free.
fn unmount(path: &Path) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        if let Ok(said) = Tool::new("umount").arg(path).ok() {
            return Ok(said);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{} is busy", path.display());
    Tool::new("umount").arg("--lazy").arg(path).ok()
}

fn report(result: Result<String>) {
    if let Err(error) = result {
        eprintln!("cleaning up: {error:#}");
    }
}
