//! The one seam to the machine: start an operation, harvest completions, tell the time.

use std::io;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::handle::{Handle, Path};
use crate::op::{Completion, Op, Token};

/// A point on the machine's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How long a harvest may wait for a first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then.
    Until(Moment),
    /// Until something happens.
    Forever,
}

/// What a harvest found beside completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Another thread rang the core's doorbell.
    pub rung: bool,
}

/// Counts since the driver was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls made by the core's thread.
    pub system_calls: u64,
    /// Harvests that did not enter the kernel.
    pub polls: u64,
    /// Harvests that were ready to sleep.
    pub sleeps: u64,
    /// Operations started.
    pub operations: u64,
}

/// A machine that operations run on: io_uring, or a simulation.
pub trait Driver {
    /// Starts `op`. `Some` when it could be finished at once; otherwise its completion is harvested under `token`.
    fn start(&mut self, token: Token, op: Op) -> Option<Completion>;

    /// Lets started operations run and appends what has completed.
    fn harvest(&mut self, wait: Wait, out: &mut Vec<(Token, Completion)>) -> Harvest;

    /// The time.
    fn now(&self) -> Moment;

    /// Takes a descriptor in.
    fn adopt(&mut self, fd: OwnedFd, path: Path) -> Handle;

    /// A stream socket that can be connected to `address`.
    fn socket(&mut self, address: SocketAddr) -> io::Result<OwnedFd>;

    /// Who is at the other end of a connected socket; `None` for one that has no address.
    fn peer(&self, socket: BorrowedFd<'_>) -> Option<SocketAddr>;

    /// Fills `out` with random bytes, fit for keys.
    fn random(&mut self, out: &mut [u8]) -> io::Result<()>;

    /// Operations started and not yet harvested.
    fn in_flight(&self) -> usize;

    /// Asks the kernel to end every operation in flight soon; their completions still have to be harvested.
    fn cancel_all(&mut self);

    /// Counts so far.
    fn counters(&self) -> Counters;

    /// The kernel features in use and missed, for people.
    fn features(&self) -> Vec<String>;
}
