//! The load that `ringsan-nbd bench` offers to ringsan, against that of fio's nbd engine, on the same core.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Laboratory;
use crate::backing::BackingKind;
use crate::load::Load;
use crate::protocol::Protocol;
use crate::sample::Client;
use crate::server::Server;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};
use crate::{binary, cpu, fio, interrupt};

const TIMES_FIO: f64 = 1.5;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    fio::presence(Protocol::Nbd)?;
    let backing = laboratory.backing(BackingKind::Memory)?;
    let server = laboratory.ringsan(&backing)?;
    let mut verdicts = Vec::new();
    for (name, rw, write_percent) in [("reads", "randread", 0), ("writes", "randwrite", 100)] {
        let load = Load::random_4k(write_percent, 32);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..laboratory.plan.rounds {
            interrupt::check()?;
            ours.push(bench(laboratory, &server, &load, rw)?);
            theirs.push(laboratory.plan.method.measure(&server, &load, Client::Fio)?.iops);
        }
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map_or(0.0, |spread| spread.median);
        println!("  {name:<6} ringsan-nbd: {:.0} IOPS   fio: {:.0} IOPS", median(&ours), median(&theirs));
        let ratio = Spread::of_ratios(&ours, &theirs);
        let goal = (Kind::Must, Goal::AtLeast(TIMES_FIO));
        verdicts.push(Verdict::new(
            &format!("client, {name}"),
            "IOPS offered / fio",
            ratio,
            goal,
            NOISE_DEEP,
        ));
    }
    Ok(verdicts)
}

/// Requests a second.
fn bench(laboratory: &Laboratory, server: &Server, load: &Load, rw: &str) -> Result<f64> {
    let method = &laboratory.plan.method;
    let milliseconds = |time: std::time::Duration| format!("{}ms", time.as_millis());
    let mut command = Command::new(binary::ringsan_nbd()?);
    command.args(["bench", &server.address.to_string(), "--json", "--rw", rw]);
    command.args(["--bs", &load.block_bytes.to_string(), "--depth", &load.depth.to_string()]);
    command.args(["--time", &milliseconds(method.sample), "--warm-up", &milliseconds(method.warm_up)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = cpu::pinned(&[method.client_cpu], || Ok(interrupt::spawn(&mut command)?))?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ringsan-nbd bench ended with {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).context("its report is no JSON")?;
    report["iops"].as_f64().context("its report has no figure of that name")
}
