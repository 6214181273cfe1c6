//! The end of a file that FUSE shows, brought about from another process.
//!
//! Its one rule: nothing here waits longer than it says, whatever the server does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::state::{Attachment, StateFolder, fuse_name};
use super::SOURCE;
use crate::error::{Error, Kind};

/// For the kernel to take the file away, and for its process to flush and end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether that has happened.
const LOOK: Duration = Duration::from_millis(20);

/// Takes the file away that is shown in (or as) `path`, and waits until all is written.
///
/// With `force` what is not yet written is lost, and whoever uses the file gets errors.
pub fn detach_fuse(path: &Path, folder: &StateFolder, force: bool) -> Result<(), Error> {
    let (name, attachment) = find(path, folder)?;
    let point = attachment.device.parent().unwrap_or(&attachment.device).to_owned();
    if force {
        return detach_now(&name, &point, attachment.pid, folder);
    }
    let ends = Instant::now() + PATIENCE;
    match folder.is_watched(&name) {
        true => unmount_until(&point, ends)?,
        // its process has ended without doing so
        false => unmount_lazily(&point)?,
    }
    if !await_end(&name, folder, ends) {
        let text = format!("{} is gone, but its process still writes to the server", point.display());
        let remedy = format!(
            "wait for it; or give up what is not written, with `ringsan-nbd detach --force {}`",
            point.display()
        );
        return Err(Error::new(Kind::Busy, text).remedy(remedy));
    }
    folder.forget(&name);
    Ok(())
}

/// What is shown in `path`, or as it. A folder whose process has ended, or hangs, cannot be looked at: then only its
/// name counts.
fn find(path: &Path, folder: &StateFolder) -> Result<(String, Attachment), Error> {
    let named = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_it = |known: &Path, path: &Path| known == path || known.parent() == Some(path);
    let by_name = |path: &Path| {
        let mut all = folder.all().into_iter();
        all.find(|(name, it)| {
            *name == fuse_name(it.device.parent().unwrap_or(path)) && is_it(&it.device, path)
        })
    };
    if let Some(found) = by_name(&named) {
        return Ok(found);
    }
    const REMEDY: &str = "`ringsan-nbd status` tells what is attached";
    let real: PathBuf = path.canonicalize().map_err(|error| {
        let text = format!("{} cannot be detached", path.display());
        Error::caused(Kind::Local, text, error).remedy(REMEDY)
    })?;
    let text = || format!("{} shows no export", real.display());
    by_name(&real).ok_or_else(|| Error::new(Kind::Local, text()).remedy(REMEDY))
}

/// The process first: without it nothing in the kernel waits for the server any more.
fn detach_now(name: &str, point: &Path, pid: u32, folder: &StateFolder) -> Result<(), Error> {
    if folder.is_watched(name) {
        let pid = i32::try_from(pid).unwrap_or_default();
        let text = format!("{}: process {pid}, which shows it, cannot be ended", point.display());
        if pid <= 1 {
            return Err(Error::new(Kind::Local, text).remedy("end it by hand, and unmount the folder"));
        }
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL)
            && error != Errno::ESRCH
        {
            return Err(Error::caused(Kind::Local, text, error).remedy("be root, or who attached it"));
        }
        if !await_end(name, folder, Instant::now() + PATIENCE) {
            return Err(Error::new(Kind::Busy, text).remedy("end it by hand, and unmount the folder"));
        }
    }
    unmount_lazily(point)?;
    folder.forget(name);
    Ok(())
}

fn await_end(name: &str, folder: &StateFolder, ends: Instant) -> bool {
    while folder.is_watched(name) {
        if Instant::now() >= ends {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// Takes the file away, if nobody uses it. The kernel writes what it still has before that, for as long as it takes.
fn unmount_until(point: &Path, ends: Instant) -> Result<(), Error> {
    let (done, end) = mpsc::channel();
    let folder = point.to_owned();
    thread::spawn(move || done.send(unmount(&folder)));
    match end.recv_timeout(ends.saturating_duration_since(Instant::now())) {
        Ok(result) => result,
        Err(_) => {
            let text = format!("{} is still written to, and the server does not answer", point.display());
            let remedy = format!(
                "see that the server runs; or give up what is not written, with `ringsan-nbd detach --force {}`",
                point.display()
            );
            Err(Error::new(Kind::Busy, text).remedy(remedy))
        }
    }
}

/// Takes the file away, if nobody uses it and it is still there.
pub(super) fn unmount(point: &Path) -> Result<(), Error> {
    match umount2(point, MntFlags::empty()) {
        // somebody else did that
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(Errno::EPERM) => unmount_as_user(point, "-u").map_err(|error| failed(point, error)),
        Err(error) => Err(failed(point, error.into())),
    }
}

fn unmount_lazily(point: &Path) -> Result<(), Error> {
    if !is_shown(point) {
        return Ok(()); // what is mounted there since is not ours
    }
    match umount2(point, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(Errno::EPERM) => unmount_as_user(point, "-uz").map_err(|error| failed(point, error)),
        Err(error) => Err(failed(point, error.into())),
    }
}

/// Whether the kernel still shows a file of this tool there.
fn is_shown(point: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let escaped = point.display().to_string().replace('\\', "\\134").replace(' ', "\\040");
    let mut there = mounts.lines().filter(|line| line.split(' ').nth(1) == Some(&escaped));
    there.next_back().is_some_and(|line| line.starts_with(SOURCE))
}

fn unmount_as_user(point: &Path, how: &str) -> io::Result<()> {
    let output = Command::new("fusermount3").arg(how).arg("--").arg(point).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn failed(point: &Path, error: io::Error) -> Error {
    let text = format!("{} cannot be unmounted", point.display());
    match error.raw_os_error() {
        Some(nix::libc::EBUSY) => Error::new(Kind::Busy, format!("{text}: it is in use"))
            .remedy("end what uses it (`losetup --list` tells of loop devices)"),
        _ => Error::caused(Kind::Local, text, error).remedy("see `findmnt`, and unmount it by hand"),
    }
}
