//! What the contests do not show: many connections, a busy neighbour, idling, memory.
//!
//! Rule: each needs ringsan alone, and says so when it does not start.

mod connections;
mod idle;
mod memory;
mod neighbour;

use std::path::Path;

use anyhow::Result;

use crate::backing::{Backing, BackingKind};
use crate::compare::Plan;
use crate::interrupt;
use crate::peers::RINGSAN;
use crate::server::Server;
use crate::stage::Stage;
use crate::verdict::Verdict;

/// An experiment and its name.
type Experiment = (&'static str, fn(&Laboratory) -> Result<Vec<Verdict>>);

const EXPERIMENTS: [Experiment; 4] = [
    ("connections", connections::run),
    ("neighbour", neighbour::run),
    ("idle", idle::run),
    ("memory", memory::run),
];

/// Their names.
pub fn names() -> impl Iterator<Item = String> {
    EXPERIMENTS.iter().map(|(name, _)| id(name))
}

/// Carries out those that the plan wants.
pub fn all(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for (name, run) in EXPERIMENTS.iter().filter(|(name, _)| laboratory.plan.wants(&id(name))) {
        interrupt::check()?;
        println!("\n{}", id(name));
        match run(laboratory) {
            Ok(found) => verdicts.extend(found),
            Err(error) => println!("SKIP {}: {error:#}", id(name)),
        }
    }
    Ok(verdicts)
}

fn id(name: &str) -> String {
    format!("experiment/{name}")
}

/// What an experiment works with.
pub struct Laboratory<'a> {
    /// The settings of the run.
    pub plan: &'a Plan,
    /// For the files of servers.
    pub scratch: &'a Path,
}

impl Laboratory<'_> {
    fn backing(&self, kind: BackingKind) -> Result<Backing> {
        Backing::create(kind, self.plan.size_bytes, &self.plan.data_dir)
    }

    fn stage<'a>(&'a self, backing: &'a Backing) -> Stage<'a> {
        Stage { backing, scratch: self.scratch, method: self.plan.method }
    }

    fn ringsan(&self, backing: &Backing) -> Result<Server> {
        self.stage(backing).start(&RINGSAN)
    }
}
