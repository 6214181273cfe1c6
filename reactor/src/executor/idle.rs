//! When a core without work spins, and when it sleeps.
//!
//! Spinning has a budget that doubles when a sleep proved short and halves when it proved long: an idle core
//! comes to use none. Who spins lets others have the CPU now and then: it may not be its alone.

use std::time::Duration;

use crate::driver::{Moment, Wait};

/// How a core waits when no task is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Spins for a while that adapts to what came of it, up to this; then sleeps.
    Adaptive(Duration),
    /// Never sleeps.
    Busy,
    /// Never spins.
    Off,
}

/// The policy of spinning: a budget that doubles when a sleep proved short and halves when it proved long.
pub(super) struct Waiting {
    idle: Idle,
    budget: Duration,
    last_work: Moment,
    /// The last turn had nothing to do and did not sleep.
    spins: bool,
    yielded: Moment,
}

/// The smallest budget that is worth spinning for.
const BUDGET_MIN: Duration = Duration::from_micros(2);
/// How long a spinning core keeps its CPU from others that want it.
const YIELD_AFTER: Duration = Duration::from_micros(4);

impl Waiting {
    pub(super) fn new(idle: Idle, now: Moment) -> Waiting {
        Waiting { idle, budget: Duration::ZERO, last_work: now, spins: false, yielded: now }
    }

    /// Whether nothing has been done since the last harvest.
    pub(super) fn spins(&self) -> bool {
        self.spins
    }

    /// There was work, and there is more.
    pub(super) fn worked(&mut self, now: Moment) {
        self.last_work = now;
        self.spins = false;
    }

    /// Whether a spinning core should let others have the CPU for once.
    pub(super) fn is_due_to_yield(&mut self, now: Moment) -> bool {
        let is_due = self.spins && self.idle != Idle::Busy && now - self.yielded >= YIELD_AFTER;
        if is_due {
            self.yielded = now;
        }
        is_due
    }

    pub(super) fn decide(&self, now: Moment, next_timer: Option<Moment>) -> Wait {
        let sleep = next_timer.map_or(Wait::Forever, Wait::Until);
        match self.idle {
            Idle::Busy => Wait::No,
            Idle::Off => sleep,
            Idle::Adaptive(_) if now - self.last_work < self.budget => Wait::No,
            Idle::Adaptive(_) => sleep,
        }
    }

    pub(super) fn learn(&mut self, worked: bool, wait: Wait, before: Moment, after: Moment) {
        if let (Idle::Adaptive(limit), true) = (self.idle, wait != Wait::No) {
            let gap = after - self.last_work;
            self.budget = match gap <= limit {
                true => (self.budget * 2).clamp(BUDGET_MIN.min(limit), limit),
                false => self.budget / 2,
            };
            if self.budget < BUDGET_MIN {
                self.budget = Duration::ZERO;
            }
        }
        self.spins = !worked && wait == Wait::No;
        if worked {
            self.last_work = after;
        } else if wait != Wait::No {
            self.last_work = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_stops_when_it_is_in_vain_and_returns_when_work_is_near() {
        let limit = Duration::from_micros(50);
        let mut waiting = Waiting::new(Idle::Adaptive(limit), Moment(0));
        assert_eq!(waiting.decide(Moment(0), None), Wait::Forever, "an idle core sleeps at once");
        let mut now = Moment(0);
        for _ in 0..10 {
            let woken = now + Duration::from_micros(20);
            waiting.learn(true, Wait::Forever, now, woken);
            now = woken;
        }
        assert_eq!(waiting.decide(now + Duration::from_micros(30), None), Wait::No);
        for _ in 0..10 {
            let woken = now + Duration::from_secs(1);
            waiting.learn(true, Wait::Forever, now, woken);
            now = woken;
        }
        assert_eq!(waiting.decide(now, None), Wait::Forever);
    }
}
