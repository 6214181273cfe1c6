//! Simulated time, and what is going to happen in it.
//!
//! Its one rule: what happens at the same time happens in the order in which it was put here.

use std::collections::BTreeMap;

use reactor::op::Token;

use crate::dice::Dice;

/// Which machine.
pub type HostId = usize;

/// Which processor, of all machines.
pub type CoreId = usize;

/// A nanosecond.
pub const MICROSECOND: u64 = 1_000;
/// In nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;
/// In nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A core runs for a turn.
    Step {
        /// Which.
        core: CoreId,
        /// In which life of the machine.
        boot: u32,
    },
    /// The first segment of a pipe arrives.
    Arrive {
        /// Of which connection.
        connection: u32,
        /// Sent by this side.
        side: usize,
    },
    /// A request for a connection arrives.
    Syn {
        /// Which.
        connection: u32,
    },
    /// A disk has done its work.
    Disk {
        /// For whom.
        core: CoreId,
        /// In which life of the machine.
        boot: u32,
        /// Which operation.
        token: Token,
    },
    /// A fault begins or ends; operators look.
    Plan(u64),
}

/// What comes of an operation.
#[derive(Clone, Debug)]
pub enum Landing {
    /// The kernel says no.
    Failed(i32),
    /// So many bytes were moved.
    Moved(usize),
    /// Bytes came in.
    Received(Vec<u8>),
    /// A connection came in.
    Accepted(u32),
}

/// Time, chance and plans.
pub struct Agenda {
    /// Now, in nanoseconds since the beginning.
    pub now: u64,
    /// For everything about the world.
    pub dice: Dice,
    /// What has come of operations and was not yet told to their cores.
    pub landed: Vec<(CoreId, Token, Landing)>,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    digest: u64,
}

impl Agenda {
    /// Nothing planned.
    pub fn new(dice: Dice) -> Agenda {
        Agenda { now: 0, dice, landed: Vec::new(), events: BTreeMap::new(), number: 0, digest: 0 }
    }

    /// Plans `event` for that time.
    pub fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.events.insert((time.max(self.now), self.number), event);
    }

    /// Plans `event` for so much later.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The next thing that happens; time goes on to it.
    pub fn next(&mut self) -> Option<Event> {
        let ((time, number), event) = self.events.pop_first()?;
        self.now = time;
        let kind = match &event {
            Event::Step { core, .. } => *core as u64,
            Event::Arrive { connection, side } => u64::from(*connection) << 8 | (*side as u64) << 4 | 1,
            Event::Syn { connection } => u64::from(*connection) << 8 | 2,
            Event::Disk { core, token, .. } => u64::from(token.0) << 16 | (*core as u64) << 8 | 3,
            Event::Plan(what) => what << 8 | 4,
        };
        for part in [time, number, kind] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
        }
        Some(event)
    }

    /// Stands for all that has happened: two runs of a seed must agree on it.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many events were planned.
    pub fn events(&self) -> u64 {
        self.number
    }

    /// An operation has come to its end.
    pub fn land(&mut self, core: CoreId, token: Token, landing: Landing) {
        self.landed.push((core, token, landing));
    }
}
