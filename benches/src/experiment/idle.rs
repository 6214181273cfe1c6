//! 100 connections that ask for nothing: what ringsan's CPU does meanwhile.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Laboratory;
use crate::backing::BackingKind;
use crate::dial::dial;
use crate::load::ReplyKind;
use crate::process::cpu_time;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

const CONNECTIONS: usize = 100;
const SETTLE: Duration = Duration::from_secs(1);
const WATCHED: Duration = Duration::from_secs(10);
const SHARE_PERCENT: f64 = 0.5;
const NOTHING_PERCENT: f64 = 0.01;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let backing = laboratory.backing(BackingKind::Tmpfs)?;
    let server = laboratory.ringsan(&backing)?;
    let clients: Result<Vec<_>> =
        (0..CONNECTIONS).map(|_| dial(&server.address, ReplyKind::Simple)).collect();
    let clients = clients?;
    sleep(SETTLE);
    let pids = server.pids()?;
    let (began, before) = (Instant::now(), cpu_time(&pids));
    sleep(WATCHED);
    let used = (cpu_time(&pids) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    drop(clients);
    let value = Spread::of([100.0 * used]);
    println!("  {CONNECTIONS} idle connections: {:.3} % of a core", 100.0 * used);
    let goals = [(Kind::Must, Goal::AtMost(SHARE_PERCENT)), (Kind::Aim, Goal::AtMost(NOTHING_PERCENT))];
    Ok(goals.map(|goal| Verdict::new("idle, 100 connections", "% of a core", value, goal, NOISE_DEEP)).into())
}
