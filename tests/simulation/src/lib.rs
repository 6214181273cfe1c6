//! Whole nodes, NBD front included, over a simulated machine: virtual clock, disks with a volatile cache,
//! network, operators and clients, all from a seed.
//!
//! The nodes' own code runs on their own cores, which one thread steps in turn; only the driver is replaced.
//! Its one rule: the same seed gives the same run, to the last event.
#![forbid(unsafe_code)]

mod agenda;
mod certificates;
mod client;
mod dice;
mod disk;
mod driver;
mod faults;
mod history;
mod host;
mod network;
mod node;
mod operator;
mod plan;
mod processor;
mod run;
pub mod timeline;
mod world;

pub use run::{Outcome, hear_panics, run};
