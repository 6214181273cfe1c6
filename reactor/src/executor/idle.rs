//! When a core without work spins, and when it sleeps.
//!
//! Spinning has a budget that doubles when a sleep proved short and halves when it proved long: an idle core
//! comes to use none. Who spins lets others have the CPU now and then, and who gets it back late sleeps instead for
//! a while: one that wakes comes before those that have computed all the time, one that spins does not.

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
    /// Somebody computes on this CPU: no spinning before this.
    sleeps_until: Moment,
    sleeps_for: Duration,
}

/// The smallest budget that is worth spinning for.
const BUDGET_MIN: Duration = Duration::from_micros(2);
/// How long a spinning core keeps its CPU from others that want it.
const YIELD_AFTER: Duration = Duration::from_micros(4);
/// Who gets the CPU back later than this shares it with somebody who computes.
const BACK_WITHIN: Duration = Duration::from_micros(200);
/// How long nobody spins after that, at first and at most.
const SLEEPS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

impl Waiting {
    pub(super) fn new(idle: Idle, now: Moment) -> Waiting {
        Waiting {
            idle,
            budget: Duration::ZERO,
            last_work: now,
            spins: false,
            yielded: now,
            sleeps_until: now,
            sleeps_for: SLEEPS[0],
        }
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

    /// It has, and has the CPU again.
    pub(super) fn has_yielded(&mut self, now: Moment) {
        if now - self.yielded > BACK_WITHIN {
            self.sleeps_until = now + self.sleeps_for;
            self.sleeps_for = (self.sleeps_for * 2).min(SLEEPS[1]);
        } else {
            self.sleeps_for = SLEEPS[0];
        }
    }

    pub(super) fn decide(&self, now: Moment, next_timer: Option<Moment>) -> Wait {
        let sleep = next_timer.map_or(Wait::Forever, Wait::Until);
        match self.idle {
            Idle::Busy => Wait::No,
            Idle::Off => sleep,
            Idle::Adaptive(_) if now < self.sleeps_until => sleep,
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

    #[test]
    fn who_gets_the_cpu_back_late_sleeps_for_a_while() {
        let limit = Duration::from_secs(1);
        let mut waiting = Waiting::new(Idle::Adaptive(limit), Moment(0));
        let mut now = Moment(0);
        for _ in 0..20 {
            waiting.learn(true, Wait::Forever, now, now + Duration::from_micros(20));
            now = now + Duration::from_micros(20);
        }
        let spin = |waiting: &mut Waiting, now: Moment| {
            let wait = waiting.decide(now, None);
            waiting.learn(false, wait, now, now);
            wait
        };
        assert_eq!(spin(&mut waiting, now), Wait::No);
        assert!(waiting.is_due_to_yield(now));
        waiting.has_yielded(now + Duration::from_micros(10));
        assert_eq!(spin(&mut waiting, now + Duration::from_micros(10)), Wait::No);
        now = now + Duration::from_micros(20);
        assert!(waiting.is_due_to_yield(now));
        now = now + Duration::from_millis(3);
        waiting.has_yielded(now);
        assert_eq!(waiting.decide(now + Duration::from_millis(99), None), Wait::Forever);
        assert_eq!(waiting.decide(now + Duration::from_millis(100), None), Wait::No);
    }
}
