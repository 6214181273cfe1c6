//! One scenario, all contestants, round after round: A B C, B C A, C A B …
//!
//! Rule: whoever is measured, the others are idle; and nobody always goes first.

use anyhow::Result;
use serde::Serialize;

use crate::backing::{Backing, BackingKind};
use crate::count::{Counts, count};
use crate::interrupt;
use crate::process;
use crate::sample::{Method, Sample};
use crate::scenario::Scenario;
use crate::server::Server;

/// The part that a contestant plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// ringsan.
    Subject,
    /// A server that it is compared to.
    Peer,
    /// The echo server over the same socket.
    Floor,
    /// fio straight on the file.
    Local,
}

/// Who is measured.
pub enum Contestant<'a> {
    /// A running server.
    Server(Part, &'a Server),
    /// fio on the backing's file.
    Local,
}

/// What one contestant showed in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Showing {
    /// Its name.
    pub name: String,
    /// Its part.
    pub part: Part,
    /// One sample a round.
    pub samples: Vec<Sample>,
    /// What can be counted.
    pub counts: Counts,
    /// The most memory that it had resident by then.
    pub peak_bytes: u64,
    /// Why it was measured no longer.
    pub failure: Option<String>,
}

impl Showing {
    /// `of` each sample, in the order of the rounds.
    pub fn series(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(of).collect()
    }
}

/// Measures `scenario` on every one of `contestants`.
pub fn hold(
    scenario: &Scenario,
    backing: &Backing,
    contestants: &[Contestant],
    method: &Method,
    rounds: usize,
) -> Result<Vec<Showing>> {
    let mut showings: Vec<Showing> = contestants.iter().map(Contestant::showing).collect();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            interrupt::check()?;
            let place = (round + turn) % contestants.len();
            if showings[place].failure.is_none() {
                match contestants[place].sample(scenario, backing, method) {
                    Ok(sample) => showings[place].samples.push(sample),
                    Err(error) => showings[place].failure = Some(format!("{error:#}")),
                }
                rest(scenario, backing)?;
            }
        }
    }
    for (contestant, showing) in contestants.iter().zip(&mut showings) {
        if showing.failure.is_none() {
            contestant.account(scenario, showing)?;
        }
    }
    rest(scenario, backing)?;
    Ok(showings)
}

/// Writes through the page cache would else be carried out during the next contestant's sample.
fn rest(scenario: &Scenario, backing: &Backing) -> Result<()> {
    if scenario.load.write_percent > 0 && backing.kind == BackingKind::Cache {
        backing.settle()?;
    }
    Ok(())
}

impl Contestant<'_> {
    fn showing(&self) -> Showing {
        let (name, part) = match self {
            Contestant::Server(part, server) => (server.name.clone(), *part),
            Contestant::Local => ("local fio".into(), Part::Local),
        };
        Showing { name, part, samples: Vec::new(), counts: Counts::default(), peak_bytes: 0, failure: None }
    }

    fn sample(&self, scenario: &Scenario, backing: &Backing, method: &Method) -> Result<Sample> {
        match self {
            Contestant::Server(_, server) => method.measure(server, &scenario.load, scenario.client),
            Contestant::Local => method.measure_local(backing, &scenario.load),
        }
    }

    fn account(&self, scenario: &Scenario, showing: &mut Showing) -> Result<()> {
        let Contestant::Server(_, server) = self else { return Ok(()) };
        showing.peak_bytes = process::peak_bytes(&server.pids()?);
        // Without perf the counts stay empty; the report says so.
        showing.counts = count(server, &scenario.load).unwrap_or_default();
        Ok(())
    }
}
