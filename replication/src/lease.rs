//! While a leader can know that nobody else may lead: rule 9.
//!
//! ```text
//! leader   ping n ─────────────────▶ until (ping's time + lease - margin), by its own clock
//! member            pong, granted: no promise to others until (its time + lease), by its own clock and configuration
//! ```
//! Its one rule: a grant counts from the moment when the ping was sent, not when the pong came.

use std::collections::VecDeque;

use crate::base::Base;
use crate::config::OnPeerLoss;
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
