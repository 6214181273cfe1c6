//! Which CPU a thread may run on. Children inherit it, which is how servers are pinned.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Pins the calling thread to `cpu`.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("cannot run on CPU {cpu}; name CPUs of this machine with --server-cpu and --client-cpu"))
}

/// Runs `start` pinned to `cpu`, so that what it spawns stays there, then goes back.
pub fn pinned<T>(cpu: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    pin(cpu)?;
    let result = start();
    sched_setaffinity(Pid::from_raw(0), &before)?;
    result
}
