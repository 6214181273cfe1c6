//! 100 clients that ask for nothing: what ringsan's CPU does meanwhile.
//!
//! They answer when it looks whether they are still there, which iSCSI targets do.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Laboratory;
use crate::backing::BackingKind;
use crate::generator::Generator;
use crate::load::{Load, Waiting};
use crate::process::cpu_time;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

const CONNECTIONS: usize = 100;
const SETTLE: Duration = Duration::from_secs(1);
/// Twice the time after which ringsan looks for a silent initiator.
const WATCHED: Duration = Duration::from_secs(30);
const SHARE_PERCENT: f64 = 0.5;
const NOTHING_PERCENT: f64 = 0.01;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let backing = laboratory.backing(BackingKind::Tmpfs)?;
    let server = laboratory.ringsan(&backing)?;
    let load = Load { connections: CONNECTIONS, waiting: Waiting::Sleep, ..Load::random_4k(0, 1) };
    let mut clients = Generator::open(&server.address, &load)?;
    clients.idle(SETTLE)?;
    let pids = server.pids()?;
    let (began, before) = (Instant::now(), cpu_time(&pids));
    clients.idle(WATCHED)?;
    let used = (cpu_time(&pids) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    drop(clients);
    let value = Spread::of([100.0 * used]);
    println!("  {CONNECTIONS} idle connections: {:.3} % of a core", 100.0 * used);
    let goals = [(Kind::Must, Goal::AtMost(SHARE_PERCENT)), (Kind::Aim, Goal::AtMost(NOTHING_PERCENT))];
    let case = format!("{} idle, {CONNECTIONS} connections", laboratory.protocol.name());
    Ok(goals.map(|goal| Verdict::new(&case, "% of a core", value, goal, NOISE_DEEP)).into())
}
