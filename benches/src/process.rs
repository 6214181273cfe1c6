//! What processes cost: CPU time, memory, and who they are. Read from /proc and the CPU clocks.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::ClockId;
use nix::unistd::Pid;

const KERNEL_THREAD: u64 = 0x0020_0000;

/// One line of /proc/PID/stat, as far as it matters.
pub struct Stat {
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// It is a thread of the kernel.
    pub kernel: bool,
    /// It has ended and waits to be noticed.
    pub ended: bool,
    /// User and system time.
    pub cpu: Duration,
}

/// All processes.
pub fn all() -> Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(stat).collect())
}

/// `pid` and what it has forked: servers with a process for each client.
pub fn family(pid: i32) -> Result<Vec<i32>> {
    let all = all()?;
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        next += 1;
    }
    Ok(family)
}

/// Whether `pid` has not ended.
pub fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !stat.ended)
}

/// CPU time that `pids` have used, threads that ended included, to the nanosecond.
pub fn cpu_time(pids: &[i32]) -> Duration {
    let clock =
        |&pid: &i32| Some(Duration::from(ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok()?.now().ok()?));
    pids.iter().filter_map(clock).sum()
}

/// CPU time of this process and of the children that it has waited for.
pub fn cpu_of_this_and_children() -> Result<Duration> {
    Ok(usage(UsageWho::RUSAGE_SELF)? + usage(UsageWho::RUSAGE_CHILDREN)?)
}

fn usage(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// The most memory that `pids` have had resident, together.
pub fn peak_bytes(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| status_kib(*pid, "VmHWM:")).sum::<u64>() * 1024
}

fn status_kib(pid: i32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    let pid = line.split(' ').next()?.parse().ok()?;
    // The name may hold anything, so the fields begin after its last parenthesis.
    let fields: Vec<&str> = line[line.rfind(')')? + 2..].split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ended = matches!(*fields.first()?, "Z" | "X");
    let cpu = ticks(number(11)? + number(12)?);
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        kernel: number(6)? & KERNEL_THREAD != 0,
        ended,
        cpu,
    })
}

/// The kernel tells times to user space in hundredths of a second, on every architecture that we know.
pub fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_read_over() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 2097216 0 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        let stat = parse(line).expect("a line of the kernel");
        assert_eq!((stat.pid, stat.parent, stat.kernel), (42, 7, true));
        assert_eq!(stat.cpu, Duration::from_secs(2));
    }

    #[test]
    fn this_process_is_in_its_own_family() {
        let pid = std::process::id() as i32;
        assert!(family(pid).expect("/proc is there").contains(&pid));
        assert!(cpu_time(&[pid]) > Duration::ZERO);
        assert!(peak_bytes(&[pid]) > 0);
    }
}
