//! Peers that answer nothing, or hold something up, for too long; and leases, which live by the same pings.
//!
//! Its one rule: while we were asleep ourselves nobody else was silent.

use super::Primary;
use super::peer::{Peer, Phase};
use crate::base::Base;
use crate::effect::DisconnectReason;
use crate::id::{ReplicaId, Time};
use crate::message::Message;

/// No peer is asked more often than this.
const PING_MIN: u64 = 10_000_000;

impl Primary {
    /// Ends the links to peers that have been silent, or owe an answer, for too long.
    pub(crate) fn tick(&mut self, base: &mut Base) {
        let timing = base.config.timing;
        if base.now.since(self.next_ping) > timing.peer_timeout / 2 {
            self.awake_since = base.now;
        }
        for peer in base.peers().iter() {
            let is_silent = self.silent_at(peer, base).is_some_and(|at| at <= base.now);
            if is_silent || self.is_late(peer, base) {
                let reason = DisconnectReason::Silent(timing.peer_timeout / 1_000_000);
                self.drop_peer(peer, reason, base);
            }
        }
        self.ping(base);
        self.tick_members(base);
        self.tick_rounds(base);
    }

    /// Times are others now: pings go by them at once.
    pub(crate) fn reconfigured(&mut self, base: &Base) {
        self.next_ping = base.now;
    }

    /// When a peer is to be given up, if nothing comes of it and nothing more goes to it.
    fn silent_at(&self, peer: ReplicaId, base: &Base) -> Option<Time> {
        let state = self.peers[peer.index()].as_ref()?;
        let heard = base.link(peer)?.heard.max(self.awake_since);
        let silent = heard.after(base.config.timing.peer_timeout + 1);
        let late = state.in_flight.front().map(|&(_, late)| self.late_at(late, base));
        Some(late.map_or(silent, |late| late.min(silent)))
    }

    /// A write's time limit, which begins anew if we were asleep.
    fn late_at(&self, late: Time, base: &Base) -> Time {
        late.max(self.awake_since.after(base.config.timing.peer_timeout))
    }

    /// Whether a peer holds up something else than a write for longer than we wait.
    fn is_late(&self, peer: ReplicaId, base: &Base) -> bool {
        let Some(state) = &self.peers[peer.index()] else { return false };
        let timing = base.config.timing;
        let is_over = |since: Time, limit: u64| base.now.since(since.max(self.awake_since)) > limit;
        let owes_record = state.led < self.members.record().epoch
            && !matches!(state.phase, Phase::Preparing(_))
            && self.members.is_spreading();
        let owes_job = |job: &super::Job| job.sent.contains(peer) && !job.acked.contains(peer);
        let resyncs = state.resyncs.keys().filter_map(|seq| self.jobs.get(seq));
        let compares = self.compares().and_then(|seq| self.jobs.get(&seq));
        owes_record && is_over(state.asked_at, timing.flush_timeout)
            || state.checkpoint.since().is_some_and(|since| is_over(since, timing.flush_timeout))
            || self.rounds.owes(peer).is_some_and(|since| is_over(since, timing.flush_timeout))
            || resyncs.chain(compares).any(|job| owes_job(job) && is_over(job.since, timing.flush_timeout))
    }

    /// The earliest time at which something is due.
    pub(crate) fn wake_at(&self, base: &Base) -> Time {
        let silent = base.peers().iter().filter_map(|peer| self.silent_at(peer, base));
        let resync = base.peers().iter().filter_map(|peer| self.resync_at(peer, base));
        silent.chain(resync).fold(self.next_ping, Time::min)
    }

    fn ping(&mut self, base: &mut Base) {
        if base.now < self.next_ping {
            return;
        }
        self.next_ping = base.now.after(base.config.timing.ping);
        self.pings += 1;
        self.lease.asked(self.pings, base.now);
        let message = Message::Ping { epoch: self.members.record().epoch, number: self.pings };
        for peer in base.peers().iter() {
            if self.peers[peer.index()].as_ref().is_some_and(Peer::receives_writes) {
                base.send(peer, message.clone());
            }
        }
    }

    /// A peer is there, and may have granted a lease. One that is less patient than we is asked more often.
    pub(crate) fn pong(&mut self, peer: ReplicaId, number: u64, granted: u64, base: &Base) {
        if granted > 0 && self.peers[peer.index()].is_some() {
            self.lease.granted(peer, number, granted, base);
            self.next_ping = self.next_ping.min(base.now.after((granted / 4).max(PING_MIN)));
            self.stalled.lease_granted();
        }
    }
}
