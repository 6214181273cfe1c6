//! iscsi-perf of libiscsi, where it is installed: a second opinion on reads.
//!
//! It tops out near 265,000 requests a second, tells no latencies, and counts in whole seconds.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::address::Address;
use crate::cpu;
use crate::interrupt;
use crate::load::{Load, Order};
use crate::sample::Method;
use crate::tally::{Figures, Latency};

/// It asks in blocks of the unit, and all units here have such.
const LOGICAL_BLOCK_BYTES: u32 = 512;
const RESULT: &str = "iops average ";

/// Whether it is here.
pub fn presence() -> Result<()> {
    let mut command = Command::new("iscsi-perf");
    command.output().context("iscsi-perf is not installed (Debian: libiscsi-bin)")?;
    Ok(())
}

/// Whether it can produce `load`: it only reads, in one session.
pub fn can_drive(load: &Load) -> bool {
    load.write_percent == 0 && load.connections == 1 && load.block_bytes.is_multiple_of(LOGICAL_BLOCK_BYTES)
}

/// `load`, on the client's CPU.
pub fn drive(address: &Address, load: &Load, method: &Method) -> Result<Figures> {
    ensure!(can_drive(load), "iscsi-perf only reads");
    let seconds = method.sample.as_secs_f64().ceil() as u64;
    let mut command = Command::new("iscsi-perf");
    command.args(["-t", &seconds.to_string(), "-m", &load.depth.to_string()]);
    command.args(["-b", &(load.block_bytes / LOGICAL_BLOCK_BYTES).to_string()]);
    command.args((load.order == Order::Random).then_some("-r"));
    command.arg(address.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = cpu::pinned(&[method.client_cpu], || {
        interrupt::spawn(&mut command).context("cannot run iscsi-perf")
    })?;
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    match iops(&told) {
        Some(iops) if output.status.success() => Ok(figures(iops, seconds)),
        _ => bail!("iscsi-perf: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

fn figures(iops: f64, seconds: u64) -> Figures {
    let unknown = f64::NAN;
    Figures {
        requests: (iops * seconds as f64) as u64,
        errors: 0,
        elapsed: Duration::from_secs(seconds),
        latency: Latency { p50_us: unknown, p99_us: unknown, p999_us: unknown, max_us: unknown },
    }
}

/// The last average that it told; the lines before are those of each second.
fn iops(told: &str) -> Option<f64> {
    let last = told.rsplit(RESULT).next().filter(|_| told.contains(RESULT))?;
    last.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_average_counts() {
        let told = "\r00:00:01 - lba 1, iops current 9 (1 MB/s), iops average 9 (1 MB/s), in_flight 32\r\
                    iops average 37972 (148 MB/s)     \n\nfinished.\n";
        assert_eq!(iops(told), Some(37972.0));
        assert_eq!(iops("Login Failed\n"), None);
    }
}
