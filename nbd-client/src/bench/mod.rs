//! Load for an export, and how it bears it: requests a second, throughput, latencies.
//!
//! Its one rule: a latency is counted from the request handed to the client to its result, so it includes the
//! time that a request waits in the client.

mod chart;
mod load;
mod pattern;
mod tally;

pub use chart::draw;
pub use load::run;
pub use pattern::{Order, Pattern};
pub use tally::{Figures, Latencies, Outcome};

use std::time::Duration;

use crate::ConnectOptions;

/// What is asked of an export, by whom, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Reads or writes, and where.
    pub pattern: Pattern,
    /// Length of each.
    pub block_bytes: u32,
    /// Requests of each connection in flight.
    pub depth: usize,
    /// Connections.
    pub connections: usize,
    /// Threads that share the connections.
    pub threads: usize,
    /// For how long.
    pub time: Duration,
    /// Before that, for so long, nothing is counted.
    pub warm_up: Duration,
    /// The same seed asks for the same blocks.
    pub seed: u64,
    /// How to connect.
    pub connect: ConnectOptions,
}
