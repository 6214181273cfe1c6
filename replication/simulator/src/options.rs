//! What is asked of a run besides its seed.
//!
//! Its one rule: together with the seed it says everything, and can be written as a command line.

use std::fmt;

use replication::Sabotage;

/// Who decides, and what the loss of a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Static coordination; writes go on without a lost peer.
    Continue,
    /// Static coordination; writes wait for a majority.
    Suspend,
    /// A service with compare-and-swap.
    External,
}

impl Arrangement {
    /// All of them.
    pub const ALL: [Arrangement; 3] = [Arrangement::Continue, Arrangement::Suspend, Arrangement::External];

    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Arrangement> {
        Arrangement::ALL.into_iter().find(|arrangement| arrangement.to_string() == name)
    }
}

impl fmt::Display for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrangement::Continue => "continue",
            Arrangement::Suspend => "suspend",
            Arrangement::External => "external",
        })
    }
}

/// The deliberate bugs, by their names on the command line.
pub(crate) const SABOTAGES: [(&str, Sabotage); 16] = [
    ("acknowledge-before-peer", Sabotage::AcknowledgeBeforePeer),
    ("unflushed-is-durable", Sabotage::UnflushedIsDurable),
    ("promote-stale", Sabotage::PromoteStale),
    ("forget-epoch-check", Sabotage::ForgetEpochCheck),
    ("promise-in-memory", Sabotage::PromiseInMemory),
    ("skip-range-order", Sabotage::SkipRangeOrder),
    ("complete-before-removal", Sabotage::CompleteBeforeRemoval),
    ("forget-unconfirmed", Sabotage::ForgetUnconfirmed),
    ("join-too-early", Sabotage::JoinTooEarly),
    ("drop-activity-log", Sabotage::DropActivityLog),
    ("ignore-peers-activity", Sabotage::IgnorePeersActivity),
    ("ignore-lease", Sabotage::IgnoreLease),
    ("believe-leaping-clock", Sabotage::BelieveLeapingClock),
    ("overwrite-diverged", Sabotage::OverwriteDiverged),
    ("read-unfinished-write", Sabotage::ReadUnfinishedWrite),
    ("resync-from-stale", Sabotage::ResyncFromStale),
];

/// What is asked of a run besides its seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 2, 3 or 5; None: the seed chooses.
    pub nodes: Option<usize>,
    /// None: the seed chooses.
    pub arrangement: Option<Arrangement>,
    /// Kinds of faults that no seed makes, by name.
    pub without: Vec<String>,
    /// A deliberate bug.
    pub sabotage: Option<Sabotage>,
    /// Keep a line for everything that happens.
    pub timeline: bool,
    /// Print each line at once, too: for a run that ends in an assertion.
    pub print: bool,
}

impl Options {
    /// Every deliberate bug, with its name.
    pub fn sabotages() -> &'static [(&'static str, Sabotage)] {
        &SABOTAGES
    }

    /// The kinds of faults that `without` can name.
    pub fn faults() -> Vec<String> {
        crate::plan::FAULT_KINDS.iter().map(|kind| kind.name()).collect()
    }

    /// The line that runs this seed again.
    pub fn command_line(&self, seed: u64) -> String {
        let mut line = format!("simulate --seed {seed}");
        if let Some(nodes) = self.nodes {
            line += &format!(" --nodes {nodes}");
        }
        if let Some(arrangement) = self.arrangement {
            line += &format!(" --arrangement {arrangement}");
        }
        if !self.without.is_empty() {
            line += &format!(" --without {}", self.without.join(","));
        }
        if let Some(sabotage) = self.sabotage {
            let name = SABOTAGES.iter().find(|(_, bug)| *bug == sabotage).map_or("?", |(name, _)| name);
            line += &format!(" --sabotage {name}");
        }
        line
    }
}
