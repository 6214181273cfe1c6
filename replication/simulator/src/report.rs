//! What a run brought: how much happened, and what was found wrong.
//!
//! Its one rule: the first thing that is wrong ends the run.

use std::fmt;

/// What finds something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// Reads and writes of a sector have no order that explains them; or what was flushed is lost.
    Linearizability,
    /// Copies differ although they should not.
    Identity,
    /// After the faults the volume is not served, or not whole again, within the bound.
    Availability,
    /// A request is not answered within the bound, or twice.
    Completion,
    /// A command of the operator's is not answered, or twice.
    Commands,
    /// Payload is given back twice, never, or used after that.
    Payload,
    /// Two leaders, or two records, of one epoch.
    Leadership,
    /// A promise or an adoption is said and not on disk, or goes back.
    Promises,
    /// A copy that holds writes of its own is overwritten.
    Divergence,
    /// Bytes are changed that no mark on disk covers.
    Marks,
    /// More is resent than a peer can lack.
    Resync,
    /// Something grows beyond its bound.
    Bounds,
    /// A machine's own assertion.
    Assertion,
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Checker::Linearizability => "linearizability",
            Checker::Identity => "identity",
            Checker::Availability => "availability",
            Checker::Completion => "completion",
            Checker::Commands => "commands",
            Checker::Payload => "payload",
            Checker::Leadership => "leadership",
            Checker::Promises => "promises",
            Checker::Divergence => "divergence",
            Checker::Marks => "marks",
            Checker::Resync => "resync",
            Checker::Bounds => "bounds",
            Checker::Assertion => "assertion",
        })
    }
}

/// Something is wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Who says so.
    pub checker: Checker,
    /// What.
    pub text: String,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Events that a machine took.
    pub steps: u64,
    /// Clients' requests.
    pub requests: u64,
    /// Those that ended well.
    pub succeeded: u64,
    /// Faults that were made.
    pub faults: u64,
    /// Terms that began.
    pub terms: u64,
    /// Replicas that joined an in-sync set.
    pub joins: u64,
    /// Terms that began on a disk that had lost what was not flushed.
    pub rollbacks: u64,
    /// Forced promotions that succeeded.
    pub forced: u64,
    /// Changes that were asked for by one who no longer led.
    pub outdated: u64,
    /// Bytes that were resent.
    pub resent_bytes: u64,
    /// The simulated time, in nanoseconds.
    pub nanoseconds: u64,
}

impl Statistics {
    /// Adds another run's.
    pub fn add(&mut self, other: &Statistics) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.succeeded += other.succeeded;
        self.faults += other.faults;
        self.terms += other.terms;
        self.joins += other.joins;
        self.rollbacks += other.rollbacks;
        self.forced += other.forced;
        self.outdated += other.outdated;
        self.resent_bytes += other.resent_bytes;
        self.nanoseconds += other.nanoseconds;
    }
}

/// What a run brought.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// What the seed chose, in words.
    pub plan: String,
    /// How much happened.
    pub statistics: Statistics,
    /// What is wrong, if anything is.
    pub failure: Option<Failure>,
    /// A line for everything that happened, if that was asked for.
    pub timeline: Vec<String>,
}
