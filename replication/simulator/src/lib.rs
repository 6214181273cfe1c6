//! All machines of one mirrored volume in one loop, with everything around them simulated from a seed.
//!
//! ```text
//! world: a bag of what is under way ─▶ one machine steps ─▶ its effects go into the bag ─▶ checks
//! ```
//! The feature `sabotage` of `replication` is on here, and so for the daemon too when cargo builds both at once.
//! That is harmless: it only adds a field to the configuration, which `ReplicaConfig::new` sets to None.
//! Its one rule: the same seed with the same options is the same run, to the last event.
#![forbid(unsafe_code)]

mod carry;
mod check;
mod client;
mod clock;
mod dice;
mod disk;
mod faults;
mod happen;
mod network;
mod node;
mod operator;
mod options;
mod payload;
mod plan;
mod record;
mod recover;
mod report;
mod run;
mod words;
mod world;

pub use options::{Arrangement, Options};
pub use report::{Checker, Failure, Report, Statistics};
pub use run::run;
