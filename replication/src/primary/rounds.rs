//! Flushes of all replicas, one after another, each for all who asked before it began.
//!
//! A round covers every write that was started before it: at a peer because its link keeps order, here because the
//! local flush waits for those writes.
//! Its one rule: a round is done when every replica that must hold writes has confirmed it (rule 2); a client's begins
//! only when they hold the same.

use super::peer::Phase;
use super::{Primary, Source};
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::effect::DisconnectReason;
use crate::fault::{DiskFault, Fault};
use crate::id::{FlushId, ReplicaId, ReplicaSet, Time};
use crate::message::Message;

#[derive(Clone, Debug)]
struct Round {
    id: FlushId,
    sources: Vec<Source>,
    /// Local writes to wait for before the local flush. None: it runs, or is done.
    before: Option<usize>,
    sent: ReplicaSet,
    confirmed: ReplicaSet,
    since: Time,
    /// When it is done, members no longer differ since an earlier term.
    mends: bool,
    own_failed: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    round: Option<Round>,
    /// Who asked since it began.
    next: Vec<Source>,
    /// A round is wanted although no client asked.
    wanted: bool,
    /// The activity log was found full since the last round began.
    lacks_space: bool,
    last: FlushId,
    /// Local writes under way.
    writing: usize,
    /// Something was written since the last round began.
    written: bool,
    /// After one has failed, none begins of itself before this.
    not_before: Time,
}

impl Rounds {
    /// A client wants a flush.
    pub(super) fn want(&mut self, source: Source) {
        self.next.push(source);
    }

    pub(super) fn has(&self, source: Source) -> bool {
        self.next.contains(&source)
            || self.round.as_ref().is_some_and(|round| round.sources.contains(&source))
    }

    /// A number for a flush. They grow, in the order of their sending.
    pub(super) fn next_id(&mut self) -> FlushId {
        self.last.0 += 1;
        self.last
    }

    /// Marks are to be made droppable.
    pub(super) fn want_space(&mut self) {
        self.lacks_space = true;
    }

    pub(super) fn lacks_space(&self) -> bool {
        self.lacks_space
    }

    /// A local write starts; the last flush that began before it.
    #[inline]
    pub(super) fn local_started(&mut self) -> FlushId {
        self.writing += 1;
        self.written = true;
        self.last
    }

    /// A local write has ended, that started after this flush had begun.
    #[inline]
    pub(super) fn local_ended(&mut self, started: FlushId, base: &mut Base) {
        self.writing -= 1;
        let Some(round) = self.round.as_mut().filter(|round| started < round.id) else { return };
        if let Some(before) = &mut round.before {
            *before -= 1;
            round.start_local(base);
        }
    }

    /// Since when a peer owes its confirmation, if it does.
    pub(super) fn owes(&self, peer: ReplicaId) -> Option<Time> {
        let owes = |round: &&Round| round.sent.contains(peer) && !round.confirmed.contains(peer);
        self.round.as_ref().filter(owes).map(|round| round.since)
    }

    /// What was sent to a peer over a link that is gone is not confirmed any more.
    pub(super) fn forget_sent(&mut self, peer: ReplicaId) {
        if let Some(round) = &mut self.round {
            round.sent = round.sent.without(peer);
        }
    }

    /// Nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none()
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
        if self.before == Some(0) {
            self.before = None;
            base.flush_local(Purpose::LeaderFlush(self.id));
        }
    }
}

impl Primary {
    /// Begins a round if one is wanted and none runs.
    pub(super) fn advance_rounds(&mut self, base: &mut Base) {
        // The last record of a term comes after its last round; who asks then asks the next leader.
        let may_begin = self.members.in_force().is_some() && self.members.last.is_none();
        if !may_begin || self.rounds.round.is_some() {
            return;
        }
        let settles = self.peers.iter().flatten().any(|peer| peer.phase == Phase::Settling(None));
        let mends = self.mending && self.is_mended(base) && base.now >= self.rounds.not_before;
        // While members may differ, one of them may have lost what a client wants durable on all.
        let serves = !self.mending || mends;
        // Where all is confirmed, a round makes no space: what is marked waits for a peer's own flush, or for a page.
        let frees = self.rounds.lacks_space
            && self.flushing(base).iter().any(|replica| !base.journal.lack(replica).unconfirmed.is_empty());
        let asked = serves && !self.rounds.next.is_empty();
        let is_wanted = asked || self.rounds.wanted || frees || settles || mends;
        if !is_wanted {
            return;
        }
        self.rounds.wanted = false;
        self.rounds.lacks_space = false;
        self.rounds.written = false;
        let id = self.rounds.next_id();
        let epoch = self.members.record().epoch;
        let sent = self.flushing(base);
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
            sources: if serves { std::mem::take(&mut self.rounds.next) } else { Vec::new() },
            before: Some(self.rounds.writing),
            sent,
            confirmed: ReplicaSet::EMPTY,
            since: base.now,
            mends,
            own_failed: false,
        };
        round.start_local(base);
        self.rounds.round = Some(round);
    }

    /// Who takes part in a round that begins now.
    fn flushing(&self, base: &Base) -> ReplicaSet {
        self.members_linked().union(self.settling()).with(base.own())
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
            Ok(()) if self.checkpointed(peer, flush, base) => {}
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
        let awaited = needed.union(round.sent).minus(self.failed_own(base).minus(needed));
        if !round.confirmed.covers(awaited) {
            if base.sabotaged(Sabotage::UnflushedIsDurable) && round.confirmed.contains(base.own()) {
                let sources = self.rounds.round.as_mut().map(|round| std::mem::take(&mut round.sources));
                self.flushed_for(sources.unwrap_or_default(), base);
            }
            return;
        }
        let round = self.rounds.round.take().expect("it is there");
        if round.mends {
            // If our disk has failed, what it has not taken is only here in part, and no round makes it whole.
            if base.disk_failed.is_none() {
                base.journal.inherited.clear();
            }
            self.mending = false;
            self.retry = true;
        }
        let epoch = self.members.record().epoch;
        for peer in round.sent.without(base.own()).iter() {
            base.send(peer, Message::Durable { epoch, flush: round.id, mended: round.mends });
        }
        self.release_checkpoints(round.id, base);
        self.settled_by(round.id);
        self.flushed_for(round.sources, base);
        self.retry = true;
    }

    fn flushed_for(&mut self, sources: Vec<Source>, base: &mut Base) {
        for source in sources {
            self.clients -= 1;
            self.reply(source, Ok(()), None, base);
        }
    }

    /// The last copy's disk has failed: who waits for it is told.
    pub(super) fn fail_round(&mut self, fault: DiskFault, base: &mut Base) {
        if !self.rounds.round.as_ref().is_some_and(|round| round.own_failed) {
            return;
        }
        let round = self.rounds.round.take().expect("it is there");
        self.rounds.not_before = base.now.after(base.config.timing.ping);
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
        if base.now.since(self.client_at) < timing.idle_flush || !self.rounds.is_idle() || self.mending {
            return;
        }
        let own = base.own();
        if self.rounds.written || !base.journal.lack(own).unconfirmed.is_empty() {
            self.rounds.wanted = true;
        } else if base.journal.activity.count() > 0 && self.jobs.is_empty() {
            base.journal.drop_clean();
        }
    }
}
