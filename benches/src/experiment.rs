//! What the contests do not show: many connections, a busy neighbour, idling, memory; and our own client.
//!
//! Rule: each needs ringsan alone, and says so when it does not start.

mod bench;
mod connections;
mod copy;
mod digest;
mod idle;
mod memory;
mod mirror;
mod neighbour;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::backing::{Backing, BackingKind};
use crate::compare::Plan;
use crate::interrupt;
use crate::peers::ringsan;
use crate::protocol::Protocol;
use crate::server::Server;
use crate::stage::Stage;
use crate::verdict::Verdict;

/// An experiment.
struct Experiment {
    protocol: Protocol,
    name: &'static str,
    run: fn(&Laboratory) -> Result<Vec<Verdict>>,
}

const EXPERIMENTS: [Experiment; 14] = [
    Experiment { protocol: Protocol::Nbd, name: "connections", run: connections::run },
    Experiment { protocol: Protocol::Nbd, name: "neighbour", run: neighbour::run },
    Experiment { protocol: Protocol::Nbd, name: "idle", run: idle::run },
    Experiment { protocol: Protocol::Nbd, name: "memory", run: memory::run },
    Experiment { protocol: Protocol::Nbd, name: "copy", run: copy::run },
    Experiment { protocol: Protocol::Nbd, name: "bench", run: bench::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-latency", run: mirror::latency::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-write", run: mirror::write::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-forward", run: mirror::forward::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-resync", run: mirror::resync::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-outage", run: mirror::outage::run },
    Experiment { protocol: Protocol::Nbd, name: "mirror-stall", run: mirror::stall::run },
    Experiment { protocol: Protocol::Iscsi, name: "digest", run: digest::run },
    Experiment { protocol: Protocol::Iscsi, name: "idle", run: idle::run },
];

/// Their names.
pub fn names() -> impl Iterator<Item = String> {
    EXPERIMENTS.iter().map(Experiment::id)
}

/// Carries out those that the plan wants.
pub fn all(plan: &Plan, scratch: &Path) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for experiment in EXPERIMENTS.iter().filter(|experiment| plan.wants(&experiment.id())) {
        interrupt::check()?;
        println!("\n{}", experiment.id());
        let laboratory = Laboratory { plan, scratch, protocol: experiment.protocol };
        match (experiment.run)(&laboratory) {
            Ok(found) => verdicts.extend(found),
            Err(error) => println!("SKIP {}: {error:#}", experiment.id()),
        }
    }
    Ok(verdicts)
}

impl Experiment {
    fn id(&self) -> String {
        format!("{}/experiment/{}", self.protocol.name(), self.name)
    }
}

/// What an experiment works with.
pub struct Laboratory<'a> {
    /// The settings of the run.
    pub plan: &'a Plan,
    /// For the files of servers.
    pub scratch: &'a Path,
    /// What ringsan is asked over.
    pub protocol: Protocol,
}

impl Laboratory<'_> {
    fn backing(&self, kind: BackingKind) -> Result<Backing> {
        Backing::create(kind, self.plan.size_bytes, &self.plan.data_dir)
    }

    /// A backing that a server makes for itself.
    fn unmade(&self) -> Backing {
        let path = PathBuf::from("/dev/shm/bench-unmade");
        Backing { kind: BackingKind::Memory, path, size_bytes: self.plan.size_bytes }
    }

    fn stage<'a>(&'a self, backing: &'a Backing) -> Stage<'a> {
        Stage { backing, scratch: self.scratch, method: self.plan.method, binaries: &self.plan.binaries }
    }

    fn ringsan(&self, backing: &Backing) -> Result<Server> {
        self.stage(backing).start(&ringsan(self.protocol))
    }
}
