//! While a leader can know that nobody else may lead: rule 9.
//!
//! ```text
//! leader   ping n ─────────────────▶ until (ping's time + lease - margin), by its own clock
//! member            pong, granted: no promise to others until (its time + lease), by its own clock and configuration
//! ```
//! A clock that leaps (a virtual machine was paused) ends a leader's lease early, and must not end a member's grant:
//! time that passed between two steps far apart is not counted, and while it matters the steps are close together.
//! Its one rule: a grant counts from the moment when the ping was sent, not when the pong came.

use std::collections::VecDeque;

use crate::base::Base;
use crate::config::{OnPeerLoss, Timing};
use crate::coordinator::Coordination;
use crate::id::{ReplicaId, ReplicaSet, Time};

/// So many pings are remembered.
const PINGS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Lease {
    /// When each ping was sent.
    pings: VecDeque<(u64, Time)>,
    /// When the last ping was sent that each peer granted, and for how long.
    granted: Vec<Option<(Time, u64)>>,
}

impl Lease {
    pub(crate) fn new(replicas: usize) -> Lease {
        Lease { pings: VecDeque::new(), granted: vec![None; replicas] }
    }

    /// A ping is being sent.
    pub(crate) fn asked(&mut self, number: u64, now: Time) {
        if self.pings.len() == PINGS_MAX {
            self.pings.pop_front();
        }
        self.pings.push_back((number, now));
    }

    /// A peer has granted what this ping asked for. How long that lasts is for it to say: its configuration may be another.
    pub(crate) fn granted(&mut self, peer: ReplicaId, number: u64, lasts: u64, base: &Base) {
        let sent = self.pings.iter().find(|(asked, _)| *asked == number).map(|&(_, at)| at);
        let Some(at) = sent.filter(|&at| base.now.since(at) < base.config.timing.lease) else { return };
        let last = &mut self.granted[peer.index()];
        if last.is_none_or(|(last, _)| last <= at) {
            *last = Some((at, lasts));
        }
    }

    /// A peer's link is gone: its grant is not renewed. (It still binds it, but we do not count on it.)
    pub(crate) fn forget(&mut self, peer: ReplicaId) {
        self.granted[peer.index()] = None;
    }

    /// Whether nobody else can lead now.
    #[inline]
    pub(crate) fn may_read(&self, in_sync: ReplicaSet, base: &Base) -> bool {
        match (base.config.coordination, base.config.on_peer_loss) {
            // Nobody is promoted without our consent.
            (Coordination::Static, OnPeerLoss::Continue) => true,
            // Nobody is promoted by less than a majority.
            (Coordination::Static, OnPeerLoss::Suspend) => {
                let others = base.peers().iter().filter(|&peer| !self.holds(peer, base)).count();
                !base.config.is_majority(others)
            }
            // Any member may be made leader; each waits until its grant has run out.
            (Coordination::External, _) => {
                in_sync.without(base.own()).iter().all(|peer| self.holds(peer, base))
            }
        }
    }

    fn holds(&self, peer: ReplicaId, base: &Base) -> bool {
        let timing = base.config.timing;
        let ours = timing.lease - timing.lease_margin;
        self.granted[peer.index()].is_some_and(|(at, lasts)| base.now.since(at) < lasts.min(ours))
    }
}

/// What a member has granted: until it is over it takes part in nobody else's term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    until: Time,
    renewed: Time,
}

impl Grant {
    /// Granted now.
    pub(crate) fn new(now: Time, timing: &Timing) -> Grant {
        Grant { until: now.after(timing.lease), renewed: now }
    }

    /// Time has passed. A gap may be a leap of our clock: then it was shorter than it looks.
    #[inline]
    pub(crate) fn pass(&mut self, last: Time, now: Time, timing: &Timing) {
        let gap = now.since(last);
        if last < self.until && gap > gap_max(timing) {
            self.until = self.until.after(gap);
        }
    }

    /// Whether it binds us.
    #[inline]
    pub(crate) fn is_out(&self, now: Time) -> bool {
        now < self.until
    }

    /// The next step that is needed, while it binds us: pings renew it; where they stay away, time is counted.
    pub(crate) fn wake_at(&self, now: Time, timing: &Timing) -> Option<Time> {
        let missed = self.renewed.after(timing.ping + timing.ping / 4);
        let next = if now < missed { missed } else { now.after(gap_max(timing) / 2 + 1).min(self.until) };
        self.is_out(now).then_some(next)
    }
}

/// Steps that are farther apart count for nothing. What a leap can pretend unseen is well within the margin.
fn gap_max(timing: &Timing) -> u64 {
    timing.lease_margin / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_of_the_clock_ends_no_grant() {
        let timing = Timing::default();
        let mut grant = Grant::new(Time(0), &timing);
        let leap = 60 * timing.lease;
        grant.pass(Time(0), Time(leap), &timing);
        assert!(grant.is_out(Time(leap)));
        let (mut last, mut steps) = (Time(leap), 0);
        while let Some(next) = grant.wake_at(last, &timing) {
            grant.pass(last, next, &timing);
            last = next;
            steps += 1;
        }
        assert_eq!(last, Time(leap + timing.lease), "what was lived through counts");
        assert!(steps < 100, "{steps} steps");
    }

    #[test]
    fn a_grant_that_is_not_renewed_ends_soon_after_its_time() {
        let timing = Timing::default();
        let mut grant = Grant::new(Time(0), &timing);
        let mut last = Time(0);
        while let Some(next) = grant.wake_at(last, &timing) {
            grant.pass(last, next, &timing);
            last = next;
        }
        assert!(last <= Time(timing.lease + timing.ping * 5 / 4), "{last}");
    }
}
