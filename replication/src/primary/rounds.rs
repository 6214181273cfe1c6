//! Flushes of all replicas, one after another, each for all who asked before it began.
//!
//! A round covers every write that was started before it: at a peer because its link keeps order, here because the
//! local flush waits for those writes.
//! Its one rule: a round is done when every replica that must hold writes has confirmed it (rule 2).

use std::collections::BTreeSet;

use super::peer::Phase;
use super::{Primary, Source};
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::effect::DisconnectReason;
use crate::fault::{DiskFault, Fault};
use crate::id::{FlushId, ReplicaId, ReplicaSet, Seq, Time};
use crate::journal::Mark;
use crate::message::Message;
use crate::region::ByteRange;

#[derive(Debug)]
struct Round {
    id: FlushId,
    sources: Vec<Source>,
    /// Local writes to wait for before the local flush. None: it runs, or is done.
    before: Option<BTreeSet<Seq>>,
    sent: ReplicaSet,
    confirmed: ReplicaSet,
    since: Time,
    /// When it is done, members no longer differ since an earlier term.
    mends: bool,
    own_failed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Rounds {
    round: Option<Round>,
    /// Who asked since it began.
    next: Vec<Source>,
    /// A round is wanted although no client asked.
    wanted: bool,
    last: FlushId,
    /// Local writes under way.
    writing: BTreeSet<Seq>,
    /// Something was written since the last round began.
    written: bool,
}

impl Rounds {
    /// A client wants a flush.
    pub(super) fn want(&mut self, source: Source, retry: &mut bool) {
        self.next.push(source);
        *retry = true;
    }

    pub(super) fn has(&self, source: Source) -> bool {
        self.next.contains(&source)
            || self.round.as_ref().is_some_and(|round| round.sources.contains(&source))
    }

    /// Wants the mark of a range; asks for a round if there is no room for it.
    pub(super) fn mark(&mut self, range: ByteRange, holders: ReplicaSet, base: &mut Base) -> bool {
        match base.journal.mark(range, base.config.limits.active_extents, holders) {
            Mark::Ready => true,
            Mark::Wait(_) => false,
            Mark::Full => {
                self.wanted = true;
                false
            }
        }
    }

    pub(super) fn local_started(&mut self, seq: Seq) {
        self.writing.insert(seq);
        self.written = true;
    }

    pub(super) fn local_ended(&mut self, seq: Seq, base: &mut Base) {
        self.writing.remove(&seq);
        let Some(round) = &mut self.round else { return };
        if let Some(before) = &mut round.before {
            before.remove(&seq);
            round.start_local(base);
        }
    }

    /// Whether a peer has owed its confirmation for too long.
    pub(super) fn is_late(&self, peer: ReplicaId, base: &Base) -> bool {
        self.round.as_ref().is_some_and(|round| {
            round.sent.contains(peer)
                && !round.confirmed.contains(peer)
                && base.now.since(round.since) > base.config.timing.flush_timeout
        })
    }

    /// Nothing is asked for, and nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.next.is_empty()
    }

    /// Everybody who waits.
    pub(super) fn take_sources(&mut self) -> Vec<Source> {
        let mut sources = self.round.take().map(|round| round.sources).unwrap_or_default();
        sources.append(&mut self.next);
        sources
    }

    pub(super) fn want_internal(&mut self) {
        self.wanted = true;
    }
}

impl Round {
    fn start_local(&mut self, base: &mut Base) {
        if self.before.as_ref().is_some_and(BTreeSet::is_empty) {
            self.before = None;
            base.flush_local(Purpose::LeaderFlush(self.id));
        }
    }
}

impl Primary {
    /// Begins a round if one is wanted and none runs.
    pub(super) fn advance_rounds(&mut self, base: &mut Base) {
        let settles = self.peers.iter().flatten().any(|peer| peer.phase == Phase::Settling(None));
        let mends = self.mending && self.is_mended(base);
        let is_wanted = !self.rounds.next.is_empty() || self.rounds.wanted || settles || mends;
        if self.members.in_force().is_none() || self.rounds.round.is_some() || !is_wanted {
            return;
        }
        self.rounds.last.0 += 1;
        self.rounds.wanted = false;
        self.rounds.written = false;
        let id = self.rounds.last;
        let sent = self.holders(base);
        let epoch = self.members.record().epoch;
        for replica in sent.iter() {
            base.journal.lack_mut(replica).unconfirmed.begin_flush();
            if replica != base.own() {
                base.send(replica, Message::Flush { epoch, flush: id });
            }
        }
        for peer in self.peers.iter_mut().flatten() {
            if peer.phase == Phase::Settling(None) {
                peer.phase = Phase::Settling(Some(id));
            }
        }
        let mut round = Round {
            id,
            sources: std::mem::take(&mut self.rounds.next),
            before: Some(self.rounds.writing.clone()),
            sent,
            confirmed: ReplicaSet::EMPTY,
            since: base.now,
            mends,
            own_failed: false,
        };
        round.start_local(base);
        self.rounds.round = Some(round);
    }

    /// The local flush has ended.
    pub(crate) fn own_flushed(&mut self, flush: FlushId, result: Result<(), DiskFault>, base: &mut Base) {
        match result {
            Ok(()) => self.confirmed(base.own(), flush, base),
            Err(fault) => {
                if let Some(round) = self.rounds.round.as_mut().filter(|round| round.id == flush) {
                    round.own_failed = true;
                }
                self.own_disk_failed(None, fault, base);
            }
        }
    }

    /// A peer has confirmed a flush, or failed it.
    pub(crate) fn flushed(
        &mut self,
        peer: ReplicaId,
        flush: FlushId,
        result: Result<(), DiskFault>,
        base: &mut Base,
    ) {
        match result {
            Ok(()) => self.confirmed(peer, flush, base),
            Err(fault) => self.drop_peer(peer, DisconnectReason::Disk(fault), base),
        }
    }

    fn confirmed(&mut self, replica: ReplicaId, flush: FlushId, base: &mut Base) {
        let Some(round) = self.rounds.round.as_mut().filter(|round| round.id == flush) else { return };
        if !round.sent.contains(replica) || round.confirmed.contains(replica) {
            return;
        }
        round.confirmed = round.confirmed.with(replica);
        base.journal.lack_mut(replica).unconfirmed.end_flush();
        self.rounds_changed(base);
    }

    /// Looks whether the round is done.
    pub(super) fn rounds_changed(&mut self, base: &mut Base) {
        let Some(round) = &self.rounds.round else { return };
        // One that became due only after the round began makes its own flush before it joins.
        let members = self.members.must_hold();
        let needed = self
            .must_hold(base)
            .iter()
            .filter(|&replica| members.contains(replica) || round.sent.contains(replica));
        let needed = needed.fold(ReplicaSet::EMPTY, ReplicaSet::with);
        let early = base.sabotaged(Sabotage::UnflushedIsDurable) && round.confirmed.contains(base.own());
        if !early
            && !round
                .confirmed
                .covers(needed.union(round.sent.minus(self.gone(base)).minus(self.failed_own(base))))
        {
            return;
        }
        let round = self.rounds.round.take().expect("it is there");
        if round.mends {
            base.journal.inherited.clear();
            self.mending = false;
            self.retry = true;
        }
        let epoch = self.members.record().epoch;
        for peer in base.peers().iter() {
            if self.peers[peer.index()].as_ref().is_some_and(super::Peer::receives_writes) {
                base.send(peer, Message::Durable { epoch, flush: round.id, mended: round.mends });
            }
        }
        self.settled_by(round.id);
        for source in round.sources {
            self.clients -= 1;
            self.reply(source, Ok(()), None, base);
        }
        self.retry = true;
    }

    /// The last copy's disk has failed: who waits for it is told.
    pub(super) fn fail_round(&mut self, fault: DiskFault, base: &mut Base) {
        if !self.rounds.round.as_ref().is_some_and(|round| round.own_failed) {
            return;
        }
        let round = self.rounds.round.take().expect("it is there");
        for source in round.sources {
            self.clients -= 1;
            self.reply(source, Err(Fault::Disk(fault)), None, base);
        }
    }

    /// Ourselves, if our disk has failed: nothing of ours is waited for.
    pub(super) fn failed_own(&self, base: &Base) -> ReplicaSet {
        if base.disk_failed.is_some() { ReplicaSet::only(base.own()) } else { ReplicaSet::EMPTY }
    }

    /// Flushes marks away once nobody has written for a while.
    pub(super) fn tick_rounds(&mut self, base: &mut Base) {
        let timing = base.config.timing;
        if base.now.since(self.client_at) < timing.idle_flush || !self.rounds.is_idle() {
            return;
        }
        let own = base.own();
        if self.rounds.written || !base.journal.lack(own).unconfirmed.is_empty() {
            self.rounds.wanted = true;
        } else if base.journal.activity.count() > 0 && !self.mending && self.jobs.is_empty() {
            let holders = self.holders(base);
            base.journal.drop_clean(holders);
        }
    }
}
