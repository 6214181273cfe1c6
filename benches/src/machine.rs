//! The machine that a run was made on: what must stand beside every figure.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// One machine at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Year-month-day hour:minute, UTC.
    pub date: String,
    /// The processor.
    pub processor: String,
    /// How many of them are online.
    pub cpus: usize,
    /// Memory.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// The hypervisor, or none.
    pub hypervisor: String,
    /// What TCP sockets use by default.
    pub congestion_control: String,
    /// The commit of this tree, with a mark where files differ from it.
    pub commit: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let kib =
            field(&read("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|kib| kib.parse().ok());
        let virtual_machine = cpuinfo.split_whitespace().any(|flag| flag == "hypervisor");
        Machine {
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            processor: field(&cpuinfo, "model name"),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: kib.unwrap_or(0u64) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            hypervisor: if virtual_machine { "virtual machine".into() } else { "bare metal".into() },
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control").trim().into(),
            commit: commit(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "{} · {} · {} CPUs, {} GiB, {} · Linux {} · TCP {} · commit {}",
            self.date,
            self.processor,
            self.cpus,
            self.memory_gib,
            self.hypervisor,
            self.kernel,
            self.congestion_control,
            self.commit
        )
    }
}

/// `2026-11-23 00:12`, of seconds since 1970, UTC.
fn date(seconds: u64) -> String {
    let (day, minute) = (seconds / 86_400, seconds % 86_400 / 60);
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

/// Year, month and day of a day since 1970, by counting years from March on, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn commit() -> String {
    let describe = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    let known = describe.ok().filter(|output| output.status.success());
    known.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().into())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_once(':')).map_or("unknown".into(), |(_, value)| value.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400 + 3660), "2000-02-29 01:01 UTC");
        assert_eq!(date(1_795_392_030), "2026-11-23 00:00 UTC");
    }
}
