//! fio, where it is installed: straight on a file as the local floor, and as a second client.
//!
//! Its nbd engine tops out near 165,000 requests a second: against anything faster it measures itself. Its libiscsi
//! engine is left out of many distributions' builds, Debian's among them.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::address::Address;
use crate::backing::{Backing, BackingKind};
use crate::cpu;
use crate::interrupt;
use crate::load::{Load, Order};
use crate::protocol::Protocol;
use crate::sample::Method;
use crate::tally::{Figures, Latency};

/// `load` over the network, on the client's CPU.
pub fn drive(address: &Address, load: &Load, method: &Method) -> Result<Figures> {
    let engine = engine(address.protocol());
    let place = match address.protocol() {
        Protocol::Nbd => [format!("--ioengine={engine}"), format!("--uri={address}")],
        // A colon would else separate two files.
        Protocol::Iscsi => [
            format!("--ioengine={engine}"),
            format!("--filename={}", address.to_string().replace(':', "\\:")),
        ],
    };
    Ok(run(&place, load, method, method.client_cpu)?.figures())
}

/// `load` by io_uring on the file of `backing`, as its kind is meant, on the server's CPU; and fio's CPU time
/// while the load ran.
pub fn local(backing: &Backing, load: &Load, method: &Method) -> Result<(Figures, Duration)> {
    let place = [
        "--ioengine=io_uring".into(),
        format!("--filename={}", backing.path.display()),
        format!("--size={}", backing.size_bytes),
        format!("--direct={}", u8::from(backing.kind == BackingKind::Direct)),
        "--invalidate=0".into(),
    ];
    let job = run(&place, load, method, method.server_cpu)?;
    let figures = job.figures();
    Ok((figures, figures.elapsed.mul_f64((job.usr_cpu + job.sys_cpu) / 100.0)))
}

/// An error where it is not here, or has no engine for `protocol`.
pub fn presence(protocol: Protocol) -> Result<()> {
    let engine = engine(protocol);
    let output = Command::new("fio").arg("--enghelp").output().context("fio is not installed")?;
    let engines = String::from_utf8_lossy(&output.stdout);
    ensure!(
        engines.lines().any(|line| line.trim() == engine),
        "this fio is built without its {engine} engine"
    );
    Ok(())
}

fn engine(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Nbd => "nbd",
        Protocol::Iscsi => "libiscsi",
    }
}

/// What fio says of its version.
pub fn version() -> Result<String> {
    let output = Command::new("fio").arg("--version").output().context("fio is not installed")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn run(place: &[String], load: &Load, method: &Method, cpu: usize) -> Result<Job> {
    let mut command = Command::new("fio");
    command.args(place).args(arguments(load, method));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = cpu::pinned(&[cpu], || interrupt::spawn(&mut command).context("cannot run fio"))?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("fio: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&output.stdout)
}

fn arguments(load: &Load, method: &Method) -> Vec<String> {
    let pattern = match load.order {
        Order::Random => "rand",
        Order::Sequential => "",
    };
    let direction = match load.write_percent {
        0 => "read",
        100 => "write",
        _ => "rw",
    };
    vec![
        "--name=load".into(),
        format!("--rw={pattern}{direction}"),
        format!("--rwmixwrite={}", load.write_percent),
        format!("--bs={}", load.block_bytes),
        format!("--iodepth={}", load.depth),
        format!("--numjobs={}", load.connections),
        format!("--randseed={}", load.seed),
        format!("--runtime={}ms", method.sample.as_millis()),
        "--time_based".into(),
        "--norandommap".into(),
        "--thread".into(),
        "--group_reporting".into(),
        // From the request on: a read from the page cache is complete as soon as it is submitted.
        "--clat_percentiles=0".into(),
        "--lat_percentiles=1".into(),
        "--output-format=json".into(),
    ]
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    read: Direction,
    write: Direction,
    /// The first error number.
    error: i64,
    /// Percent of the run's time.
    usr_cpu: f64,
    sys_cpu: f64,
}

#[derive(Deserialize)]
struct Direction {
    total_ios: u64,
    /// Milliseconds.
    runtime: u64,
    lat_ns: Latencies,
}

#[derive(Deserialize)]
struct Latencies {
    max: u64,
    #[serde(default)]
    percentile: std::collections::BTreeMap<String, u64>,
}

fn parse(output: &[u8]) -> Result<Job> {
    // fio may warn on its standard output before the report begins.
    let start = output.iter().position(|byte| *byte == b'{').context("fio printed no report")?;
    let report: Report =
        serde_json::from_slice(&output[start..]).context("fio's report has changed its form")?;
    report.jobs.into_iter().next().context("fio ran no job")
}

impl Job {
    fn figures(&self) -> Figures {
        let busiest = if self.write.total_ios > self.read.total_ios { &self.write } else { &self.read };
        Figures {
            requests: self.read.total_ios + self.write.total_ios,
            errors: u64::from(self.error != 0),
            elapsed: Duration::from_millis(busiest.runtime.max(1)),
            latency: busiest.latency(),
        }
    }
}

impl Direction {
    fn latency(&self) -> Latency {
        let at = |percent: &str| self.lat_ns.percentile.get(percent).map_or(0.0, |ns| *ns as f64 / 1000.0);
        Latency {
            p50_us: at("50.000000"),
            p99_us: at("99.000000"),
            p999_us: at("99.900000"),
            max_us: self.lat_ns.max as f64 / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_behind_a_warning_is_read() {
        let report = br#"note: both iodepth >= 1
            {"jobs": [{"error": 0, "usr_cpu": 10.5, "sys_cpu": 20,
              "read": {"total_ios": 0, "runtime": 0, "lat_ns": {"max": 0}},
              "write": {"total_ios": 500, "runtime": 250, "lat_ns": {"max": 9000,
                "percentile": {"50.000000": 2000, "99.000000": 3000, "99.900000": 4000}}}}]}"#;
        let figures = parse(report).expect("a report").figures();
        assert_eq!(figures.iops(), 2000.0);
        assert_eq!(figures.latency, Latency { p50_us: 2.0, p99_us: 3.0, p999_us: 4.0, max_us: 9.0 });
    }
}
