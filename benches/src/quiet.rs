//! Whether anything else used our cores while we measured.
//!
//! The time that the two cores were busy, less what the server, the client and the kernel's own threads used,
//! was somebody else's: a compiler, a timer, or the hypervisor (steal).
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
    idle: Duration,
    kernel_threads: Duration,
    cpus: Vec<usize>,
}

impl Watch {
    /// Begins to watch `cpus`, which are different.
    pub fn begin(cpus: &[usize]) -> Result<Watch> {
        let kernel_threads = kernel_threads()?;
        Ok(Watch { began: Instant::now(), idle: idle(cpus)?, kernel_threads, cpus: cpus.to_vec() })
    }

    /// The share of one core that strangers used since, where we ourselves used `ours`.
    pub fn strangers(&self, ours: Duration) -> Result<f64> {
        let elapsed = self.began.elapsed().as_secs_f64();
        let idle = (idle(&self.cpus)? - self.idle).as_secs_f64();
        let kernel_threads = (kernel_threads()?.saturating_sub(self.kernel_threads)).as_secs_f64();
        let busy = elapsed * self.cpus.len() as f64 - idle;
        Ok(((busy - ours.as_secs_f64() - kernel_threads) / elapsed).max(0.0))
    }
}

/// Waits until strangers leave `cpus` alone, at most for `patience`; we ourselves must be idle.
pub fn await_quiet(cpus: &[usize], strangers_max: f64, patience: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        let watch = Watch::begin(cpus)?;
        sleep(LOOK);
        if watch.strangers(Duration::ZERO)? <= strangers_max || began.elapsed() > patience {
            return Ok(());
        }
    }
}

fn kernel_threads() -> Result<Duration> {
    Ok(process::all()?.iter().filter(|stat| stat.kernel).map(|stat| stat.cpu).sum())
}

fn idle(cpus: &[usize]) -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let idle_of = |cpu: usize| {
        let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{cpu} ")));
        line.and_then(parse_idle).with_context(|| format!("/proc/stat does not tell of CPU {cpu}"))
    };
    cpus.iter().map(|cpu| idle_of(*cpu)).sum()
}

/// Idle and waiting for a disk, from the fields after the CPU's name.
fn parse_idle(fields: &str) -> Option<Duration> {
    let mut fields = fields.split_whitespace().skip(3).map(str::parse::<u64>);
    Some(ticks(fields.next()?.ok()? + fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle() {
        assert_eq!(parse_idle("5188 0 4464 100 20 0 8 12 0 0"), Some(Duration::from_millis(1200)));
    }

    #[test]
    fn a_watch_over_nothing_sees_no_negative_strangers() {
        let watch = Watch::begin(&[0]).expect("/proc is there");
        let strangers = watch.strangers(Duration::from_secs(1000)).expect("/proc is there");
        assert_eq!(strangers, 0.0);
    }
}
