//! Which CPUs a thread may run on. Children inherit them, which is how servers are pinned.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, for the calls that want a process.
const SELF: Pid = Pid::from_raw(0);

/// Pins the calling thread to `cpus`.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    }
    sched_setaffinity(SELF, &set).with_context(|| {
        format!("cannot run on CPU {cpus:?}; name other ones with --server-cpu and --client-cpu")
    })
}

/// Runs `start` pinned to `cpus`, so that what it spawns stays there, then goes back.
pub fn pinned<T>(cpus: &[usize], start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(SELF)?;
    pin(cpus)?;
    let result = start();
    sched_setaffinity(SELF, &before)?;
    result
}
