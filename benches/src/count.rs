//! Counts, apart from timings: system calls and instructions for each request.
//!
//! `perf stat` counts. strace could, too, but it slows a server so much that it gathers more than it would.
//! Rule: no time is taken while counters run.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::generator::{Generator, Until};
use crate::interrupt;
use crate::load::Load;
use crate::server::Server;

const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";
const INSTRUCTIONS: &str = "instructions";
const COUNTED: Duration = Duration::from_millis(400);
const ATTACH_MAX: Duration = Duration::from_secs(5);

/// What one request costs, in things that can be counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// System calls; `None` where nothing here can count them.
    pub system_calls: Option<f64>,
    /// Instructions, of kernel and user; `None` where the machine has no such counter.
    pub instructions: Option<f64>,
}

/// Runs `load` on `server` once more, with counters.
pub fn count(server: &Server, load: &Load) -> Result<Counts> {
    let _awake = server.wake()?;
    let mut generator = Generator::open(&server.address, load)?;
    generator.run(Until::Elapsed(COUNTED / 4))?;
    let pids: Vec<String> = server.pids()?.iter().map(i32::to_string).collect();
    let counter = start(&pids.join(","))?;
    let requests = generator.run(Until::Elapsed(COUNTED))?.requests as f64;
    let report = finish(counter)?;
    let each = |event| value_of(&report, event).map(|count| count / requests);
    Ok(Counts { system_calls: each(SYSTEM_CALLS), instructions: each(INSTRUCTIONS) })
}

fn start(pids: &str) -> Result<Child> {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", SYSTEM_CALLS, "-e", INSTRUCTIONS, "-p", pids]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = interrupt::spawn(&mut command).context("perf is not installed (Debian: linux-perf)")?;
    let began = Instant::now();
    while !is_attached(child.id()) {
        if child.try_wait()?.is_some() || began.elapsed() > ATTACH_MAX {
            bail!("perf does not attach: {}", finish(child)?.trim());
        }
        sleep(Duration::from_millis(5));
    }
    // All events are open at about the same time; this is for the last of them.
    sleep(Duration::from_millis(50));
    Ok(child)
}

fn is_attached(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target.to_string_lossy().contains("perf_event"))
}

fn finish(child: Child) -> Result<String> {
    // It may have ended by itself, with an error that its output tells.
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGINT);
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A line of perf: `COUNT,UNIT,EVENT,…`, COUNT being `<not supported>` where it is so.
fn value_of(report: &str, event: &str) -> Option<f64> {
    let fields = |line: &str| line.split(',').map(String::from).collect::<Vec<_>>();
    let lines = report.lines().map(fields);
    let line = lines.into_iter().find(|fields| fields.get(2).is_some_and(|name| name.starts_with(event)))?;
    line[0].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_unsupported_ones_left_out() {
        let report = "29,,raw_syscalls:sys_enter,1100,100.00,,\n<not supported>,,instructions,0,100.00,,\n";
        assert_eq!(value_of(report, SYSTEM_CALLS), Some(29.0));
        assert_eq!(value_of(report, INSTRUCTIONS), None);
    }
}
