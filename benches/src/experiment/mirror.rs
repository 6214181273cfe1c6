//! Volumes on two nodes: what mirroring costs beside one node alone, and how fast a node that was away returns.
//!
//! Two nodes and a client are three, and the machine may have two CPUs: the leader has the server's, the other node
//! shares the client's. So the client sleeps while it waits, in all that is compared here: a client that spins would
//! take from the node beside it what on three machines nobody takes. What nodes keep, metadata too, lies in memory.
//! Rule: whatever is compared is placed alike, and asked by the same client.

mod admin;
mod cluster;
pub mod forward;
pub mod latency;
pub mod outage;
mod quorum;
pub mod resync;
pub mod stall;
pub mod write;

use anyhow::Result;

use crate::interrupt;
use crate::load::{Load, Waiting};
use crate::sample::{Method, Sample};
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, Verdict};

/// 4 KiB at random, by a client that shares its core.
fn random_4k(write_percent: u8, depth: usize) -> Load {
    Load { waiting: Waiting::Sleep, ..Load::random_4k(write_percent, depth) }
}

/// What must be reached, and what is aimed at.
fn judged(
    case: &str,
    measure: &str,
    value: Option<Spread>,
    [must, aim]: [Goal; 2],
    noise: f64,
) -> [Verdict; 2] {
    [(Kind::Must, must), (Kind::Aim, aim)].map(|goal| Verdict::new(case, measure, value, goal, noise))
}

fn print_places(method: &Method) {
    println!(
        "  the leader on CPU {}; the other node and the client, which sleeps between requests, on CPU {}",
        method.server_cpu, method.client_cpu
    );
}

fn median(values: &[f64]) -> f64 {
    Spread::of(values.iter().copied()).map_or(0.0, |spread| spread.median)
}

/// What takes a sample of one contestant; `None` for one that is not there.
type Contestant<'a> = Option<&'a dyn Fn() -> Result<Sample>>;

/// Samples of one contestant, one a round.
#[derive(Default)]
struct Series(Vec<Sample>);

/// A sample of each, round after round: A B C, B C A, …
fn hold<const COUNT: usize>(rounds: usize, contestants: [Contestant; COUNT]) -> Result<[Series; COUNT]> {
    let mut series = std::array::from_fn(|_| Series::default());
    for round in 0..rounds {
        for turn in 0..COUNT {
            interrupt::check()?;
            let place = (round + turn) % COUNT;
            if let Some(take) = contestants[place] {
                series[place].0.push(take()?);
            }
        }
    }
    Ok(series)
}

impl Series {
    fn iops(&self) -> Vec<f64> {
        self.0.iter().map(|sample| sample.iops).collect()
    }

    fn p50_us(&self) -> Vec<f64> {
        self.0.iter().map(|sample| sample.latency.p50_us).collect()
    }

    fn print(&self, name: &str) {
        let median_of = |of: fn(&Sample) -> f64| median(&self.0.iter().map(of).collect::<Vec<_>>());
        let disturbed = self.0.iter().filter(|sample| !sample.is_clean()).count();
        println!(
            "  {name:<28} {:>8.0} IOPS, p50 {:>6.1} µs, p99 {:>7.1} µs, {:>5.2} µs CPU/IO; {disturbed} of {} disturbed",
            median_of(|sample| sample.iops),
            median_of(|sample| sample.latency.p50_us),
            median_of(|sample| sample.latency.p99_us),
            median_of(|sample| sample.server_cpu_us),
            self.0.len(),
        );
    }
}
