//! The most memory that ringsan has resident with 1, 100 and 1000 connections that were all busy once.
//!
//! The volume lies in a file, so that what is counted is the server's own.

use anyhow::Result;

use super::Laboratory;
use crate::backing::BackingKind;
use crate::generator::{Generator, Until};
use crate::load::Load;
use crate::process::peak_bytes;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

const BASE_MIB: f64 = 64.0;
const CONNECTION_MIB: f64 = 64.0 / 1024.0;
const REQUESTS_EACH: u64 = 50;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    [1, 100, 1000].into_iter().map(|connections| with(laboratory, connections)).collect()
}

fn with(laboratory: &Laboratory, connections: usize) -> Result<Verdict> {
    let backing = laboratory.backing(BackingKind::Tmpfs)?;
    let server = laboratory.ringsan(&backing)?;
    let load = Load { connections, ..Load::random_4k(50, 4) };
    let mut generator = Generator::open(&server.address, &load)?;
    generator.run(Until::Requests(REQUESTS_EACH * connections as u64))?;
    let peak = peak_bytes(&server.pids()?) as f64 / f64::from(1 << 20);
    println!("  {connections} connections: {peak:.1} MiB");
    let goal = (Kind::Must, Goal::AtMost(BASE_MIB + CONNECTION_MIB * connections as f64));
    let case = format!("memory, {connections} connections");
    Ok(Verdict::new(&case, "peak MiB", Spread::of([peak]), goal, NOISE_DEEP))
}
