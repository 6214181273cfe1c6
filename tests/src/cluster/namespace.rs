//! A network namespace of the test's own.
//!
//! It has no name in the file system: it lasts while its descriptor, or a process in it, does. So nothing of it can
//! be left behind, however the test ends. Its one rule: only threads made for it ever enter it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Tool;

/// A namespace.
pub struct Namespace(OwnedFd);

impl Namespace {
    /// Makes one, with its loopback up.
    pub fn new() -> Result<Namespace> {
        let make = || -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
        };
        let made = thread::scope(|scope| scope.spawn(make).join().expect("making one does not panic"))?;
        let namespace = Namespace(made);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `task` on a thread within it; whatever the thread starts is within it, too.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("a namespace that lasts can be entered");
            task()
        };
        let thread = thread::Builder::new().name(thread::current().name().unwrap_or("test").to_owned());
        thread::scope(|scope| {
            let ran = thread.spawn_scoped(scope, inside).expect("a thread can be made").join();
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip WORDS…` within it.
    pub fn ip(&self, words: &[&str]) -> Result<String> {
        self.run(|| Tool::new("ip").args(words).ok())
    }

    /// A path by which other processes find it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }
}
