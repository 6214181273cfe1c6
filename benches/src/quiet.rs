//! Whether anything else used our cores while we measured.
//!
//! The time that the two cores were busy, less what the server, the client and the kernel's own threads used,
//! was somebody else's: a compiler, a timer, or the hypervisor (steal). The kernel tells busy time in two ways:
//! what is not idle, to which going to sleep and waking add, and samples by the clock's tick, which are coarse.
//! The smaller of the two is believed.
//! Rule: a sample that strangers touched is flagged or taken again, never silently kept.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{self, ticks};

/// Long against the hundredths of a second in which the kernel tells idle time.
const LOOK: Duration = Duration::from_millis(100);

/// One moment of the cores that we measure on.
pub struct Watch {
    began: Instant,
    cores: CoreTimes,
    kernel_threads: Duration,
    cpus: Vec<usize>,
}

/// Times of some cores since the system's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct CoreTimes {
    /// Idle, or waiting for a disk.
    idle: Duration,
    /// Found busy by the tick.
    busy: Duration,
}

impl Watch {
    /// Begins to watch `cpus`, which are different.
    pub fn begin(cpus: &[usize]) -> Result<Watch> {
        let kernel_threads = kernel_threads()?;
        Ok(Watch { began: Instant::now(), cores: core_times(cpus)?, kernel_threads, cpus: cpus.to_vec() })
    }

    /// The share of one core that strangers used since, where we ourselves used `ours`.
    pub fn strangers(&self, ours: Duration) -> Result<f64> {
        let elapsed = self.began.elapsed();
        let cores = core_times(&self.cpus)?;
        let not_idle = (elapsed * self.cpus.len() as u32).saturating_sub(cores.idle - self.cores.idle);
        let busy = not_idle.min(cores.busy - self.cores.busy);
        let kernel_threads = kernel_threads()?.saturating_sub(self.kernel_threads);
        let strangers = busy.saturating_sub(ours).saturating_sub(kernel_threads);
        Ok(strangers.as_secs_f64() / elapsed.as_secs_f64())
    }
}

/// Waits until strangers leave `cpus` alone, at most until `deadline`; we ourselves must be idle.
pub fn await_quiet(cpus: &[usize], strangers_max: f64, deadline: Instant) -> Result<()> {
    loop {
        let watch = Watch::begin(cpus)?;
        sleep(LOOK);
        if watch.strangers(Duration::ZERO)? <= strangers_max || Instant::now() > deadline {
            return Ok(());
        }
    }
}

fn kernel_threads() -> Result<Duration> {
    Ok(process::all()?.iter().filter(|stat| stat.kernel).map(|stat| stat.cpu).sum())
}

fn core_times(cpus: &[usize]) -> Result<CoreTimes> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let mut sum = CoreTimes::default();
    for cpu in cpus {
        let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} ")));
        let times = line.and_then(parse).with_context(|| format!("/proc/stat does not tell of CPU {cpu}"))?;
        sum.idle += times.idle;
        sum.busy += times.busy;
    }
    Ok(sum)
}

/// The fields after the CPU's name: user, nice, system, idle, waiting for a disk, irq, softirq, steal, and guests,
/// who are in user already.
fn parse(fields: &str) -> Option<CoreTimes> {
    let fields: Vec<u64> =
        fields.split_whitespace().map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let [user, nice, system, idle, waiting, irq, softirq, steal, ..] = fields[..] else { return None };
    Some(CoreTimes { idle: ticks(idle + waiting), busy: ticks(user + nice + system + irq + softirq + steal) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle_and_guests_count_once() {
        let times = parse("10 20 30 100 20 1 2 3 10 0").expect("a line of the kernel");
        assert_eq!(times, CoreTimes { idle: Duration::from_millis(1200), busy: Duration::from_millis(660) });
    }

    #[test]
    fn a_watch_over_nothing_sees_no_negative_strangers() {
        let watch = Watch::begin(&[0]).expect("/proc is there");
        let strangers = watch.strangers(Duration::from_secs(1000)).expect("/proc is there");
        assert_eq!(strangers, 0.0);
    }
}
