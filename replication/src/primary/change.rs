//! How a leader changes the record: what it wants, how far that is, and what follows once it is in force.
//!
//! Its one rule: see `members`.

use super::members::{Beginning, Last, Stage};
use super::peer::{Peer, Phase, lacks_all, note_lacks_all};
use super::{End, Primary};
use crate::base::Base;
use crate::config::{OnPeerLoss, Sabotage};
use crate::coordinator::{Coordination, Decision, Record};
use crate::effect::Notice;
use crate::id::{CommandId, Epoch, ReplicaId, ReplicaSet};
use crate::message::Message;
use crate::region::RegionSet;

/// Whether a leader alone decides who is in sync: then its record counts from the moment when it is written down.
fn one_may_go_on(base: &Base) -> bool {
    base.config.coordination == Coordination::Static && base.config.on_peer_loss == OnPeerLoss::Continue
}

impl Primary {
    pub(super) fn begin_members(&mut self, beginning: Beginning, base: &mut Base) {
        let record = beginning.record;
        let own = base.own();
        if base.journal.superblock().volume.is_none() {
            let volume = base.config.new_volume;
            base.journal.edit(|superblock| superblock.volume = Some(volume));
        }
        base.journal.edit(|superblock| superblock.full = superblock.full.union(beginning.full));
        for peer in beginning.full.iter() {
            let all = RegionSet::full(&base.geometry());
            base.journal.lack_mut(peer).add_dirty(&all);
        }
        let inherited = base.journal.inherited.clone();
        for peer in base.peers().iter() {
            base.journal.lack_mut(peer).add_dirty(&inherited);
        }
        for peer in record.in_sync.union(beginning.required).without(own).iter() {
            // One without a record has lost its copy, whatever the coordinator says of it. (Where promises count, it
            // has said so with its promise.)
            let is_external = base.config.coordination == Coordination::External;
            let Some(hello) = base.hello(peer) else { continue };
            if is_external && hello.record.is_none() {
                continue;
            }
            let phase = if record.in_sync.contains(peer) { Phase::Member } else { Phase::Adopting };
            if phase == Phase::Adopting && lacks_all(peer, hello, &beginning.history, base) {
                // It had a new disk, say, and an earlier leader was still filling it. Written down with the record.
                note_lacks_all(peer, base);
            }
            self.peers[peer.index()] = Some(Peer::new(phase, base.now));
        }
        base.journal.set_members(self.members.must_hold());
        if self.stores_first(base) {
            self.store(base);
        } else {
            self.spread(base);
        }
    }

    /// Whether the latest record is ours before it is anybody else's: one that a coordinator has decided, and one by
    /// which somebody else may lead as soon as it hears of it.
    fn stores_first(&self, base: &Base) -> bool {
        base.config.coordination == Coordination::External
            || !self.members.begins()
            || self.members.record.leader != Some(base.own())
    }

    fn store(&mut self, base: &mut Base) {
        let (record, history) = (self.members.record, self.members.history.clone());
        let era = self.members.era();
        let counts =
            self.members.begins() && base.config.coordination == Coordination::Static || one_may_go_on(base);
        let version = base.journal.edit(|superblock| {
            superblock.promised = superblock.promised.max(record.epoch);
            superblock.record = Some(record);
            superblock.era = era;
            superblock.in_force = counts;
            superblock.history = history;
            superblock.mixed = false;
            superblock.full = superblock.full.minus(record.in_sync);
            superblock.joined = superblock.joined.union(record.in_sync);
        });
        self.members.counts = counts && !self.members.begins();
        self.members.stage = Some(Stage::Store(version));
    }

    fn spread(&mut self, base: &mut Base) {
        self.members.stage = Some(Stage::Spread);
        let report = self.members.begins();
        for peer in base.peers().iter() {
            if self.peers[peer.index()].as_ref().is_some_and(Peer::receives_writes) {
                self.lead(peer, report, base);
            }
        }
    }

    /// Makes the next record, if one is wanted, and takes the latest one further.
    pub(super) fn advance_members(&mut self, base: &mut Base) {
        for peer in base.peers().iter() {
            self.advance_preparing(peer, base);
        }
        while self.advance_stage(base) {}
        self.propose(base);
        if self.members.stage != Some(Stage::Propose) && self.end.is_none() {
            self.next_record(base);
            while self.advance_stage(base) {}
        }
        if std::mem::take(&mut self.members.greet) {
            self.greet_all(base);
        }
    }

    /// One stage further, if it may.
    fn advance_stage(&mut self, base: &mut Base) -> bool {
        match self.members.stage {
            Some(Stage::Store(version)) if base.journal.is_durable(version) => {
                if self.stores_first(base) {
                    self.spread(base);
                } else {
                    self.now_in_force(base);
                }
                true
            }
            Some(Stage::Spread) if self.is_spread(base) => {
                if !self.stores_first(base) {
                    self.store(base);
                } else if base.journal.superblock().in_force {
                    self.now_in_force(base);
                } else {
                    let version = base.journal.edit(|superblock| superblock.in_force = true);
                    self.members.stage = Some(Stage::Seal(version));
                }
                true
            }
            Some(Stage::Seal(version)) if base.journal.is_durable(version) => {
                self.now_in_force(base);
                true
            }
            _ => false,
        }
    }

    /// Whether all have adopted the latest record who have to.
    fn is_spread(&self, base: &Base) -> bool {
        let record = &self.members.record;
        let adopted = self.adopted();
        let mut needed = record.in_sync.without(base.own());
        if self.members.begins() {
            needed = needed.union(self.members.required).without(base.own());
        }
        let suspends = base.by_majority() && !self.members.begins() && !self.only_demotes();
        adopted.covers(needed) && (!suspends || base.config.is_majority(adopted.count() + 1))
    }

    /// Whether the latest record says no more than that nobody leads: nothing is done by it, and one who does not know
    /// it comes to the same members.
    fn only_demotes(&self) -> bool {
        let record = &self.members.record;
        record.leader.is_none()
            && self.members.in_force.is_some_and(|in_force| in_force.in_sync == record.in_sync)
    }

    /// Peers that have adopted the latest record.
    fn adopted(&self) -> ReplicaSet {
        let epoch = self.members.record.epoch;
        let mut set = ReplicaSet::EMPTY;
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| peer.led >= epoch) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// Makes the next record, if who is linked and whole is no longer what the latest says.
    fn next_record(&mut self, base: &mut Base) {
        let is_external = base.config.coordination == Coordination::External;
        if self.members.begins() && !is_external {
            return;
        }
        let latest = self.members.record;
        let lost = self.unlinked(latest.in_sync, base);
        if latest.leader.is_some_and(|leader| lost.contains(leader)) {
            // It may lead already.
            self.end = Some(End::Follow);
            return;
        }
        let mut leader = latest.leader;
        let mut in_sync = latest.in_sync.minus(lost);
        let others = base.config.names.len() - in_sync.count();
        if latest.leader.is_none()
            && !lost.is_empty()
            && one_may_go_on(base)
            && base.config.is_majority(others)
        {
            // Those that are lost may have made one of them the leader: nobody led any more.
            self.end = Some(End::Follow);
            return;
        }
        if self.members.is_settled() {
            in_sync = in_sync.union(self.settled());
            match self.members.last {
                Some(Last::Nobody) => leader = None,
                Some(Last::Another) => {
                    let Some(successor) = in_sync.without(base.own()).iter().next() else { return };
                    leader = Some(successor);
                }
                Some(Last::WithoutUs) => {
                    let others = in_sync.without(base.own());
                    let Some(successor) = others.iter().next() else { return };
                    (leader, in_sync) = (Some(successor), others);
                }
                None => {}
            }
        }
        if in_sync == latest.in_sync && leader == latest.leader && self.members.outbid <= latest.epoch {
            return;
        }
        let epoch = latest.epoch.max(self.members.outbid).next();
        // A successor's run is not ours to name; it begins an epoch of its own.
        let term = self.members.term();
        self.members.record = Record { epoch, term, leader, incarnation: base.config.incarnation, in_sync };
        self.members.pending = self.members.pending.union(in_sync);
        base.journal.set_members(self.members.must_hold());
        self.members.greet = true;
        for peer in in_sync.without(base.own()).iter() {
            self.peers[peer.index()].as_mut().expect("a member is linked").phase = Phase::Member;
        }
        if is_external {
            self.members.stage = Some(Stage::Propose);
            self.members.expected = latest.epoch;
            self.members.propose_at = base.now;
            self.propose(base);
        } else {
            self.store(base);
        }
    }

    /// Asks the coordinator, unless it has been asked and owes the answer.
    fn propose(&mut self, base: &mut Base) {
        if self.members.stage == Some(Stage::Propose)
            && self.members.proposal.is_none()
            && self.members.propose_at <= base.now
        {
            self.members.proposal = base.propose(self.members.expected, self.members.record);
        }
    }

    /// Those of a set, other than ourselves, that are no linked members.
    fn unlinked(&self, set: ReplicaSet, base: &Base) -> ReplicaSet {
        set.without(base.own()).minus(self.members_linked())
    }

    fn now_in_force(&mut self, base: &mut Base) {
        let record = self.members.record;
        let begins = self.members.begins();
        let joined = record.in_sync.minus(self.members.in_force.map_or(record.in_sync, |last| last.in_sync));
        self.members.stage = None;
        self.members.in_force = Some(record);
        self.members.pending = ReplicaSet::EMPTY;
        base.journal.set_members(self.members.must_hold());
        self.members.history.extend(&record);
        self.members.suspended = false;
        base.notice(Notice::InForce(record));
        for peer in joined.iter() {
            let bytes = self.peers[peer.index()].as_ref().map_or(0, |state| state.resynced_bytes);
            base.notice(Notice::Joined { peer, bytes });
            base.journal.lack_mut(peer).clear_dirty();
        }
        for peer in base.peers().iter() {
            if self.peers[peer.index()].as_ref().is_some_and(Peer::receives_writes) {
                base.send(peer, Message::InForce { epoch: record.epoch });
            }
        }
        if begins && record.leader == Some(base.own()) {
            self.term_begun(record.epoch, base);
        }
        self.retry = true;
        self.finish_writes(base);
        self.rounds_changed(base);
        self.greet_all(base);
    }

    fn greet_all(&mut self, base: &mut Base) {
        for peer in base.greeted().iter() {
            self.greeted(peer, base);
        }
        self.retry = true;
    }

    /// From here on we serve. What members may have other than we is sent to all of them.
    fn term_begun(&mut self, epoch: Epoch, base: &mut Base) {
        let mut mend = base.journal.inherited.clone();
        for peer in self.members_linked().iter() {
            mend.union(base.journal.lack(peer).dirty());
        }
        for peer in base.peers().iter() {
            base.journal.lack_mut(peer).add_dirty(&mend);
        }
        base.witness.mended();
        base.notice(Notice::Leads(epoch));
        if let Some(command) = self.members.command.take() {
            base.answer(command, Ok(()));
        }
    }

    /// A peer's link is gone.
    pub(super) fn members_lost(&mut self, peer: ReplicaId, base: &mut Base) {
        if base.sabotaged(Sabotage::CompleteBeforeRemoval) {
            self.members.pending = self.members.pending.without(peer);
            if let Some(record) = &mut self.members.in_force {
                record.in_sync = record.in_sync.without(peer);
            }
        }
        let needed = self.members.required.union(self.members.record.in_sync);
        let is_static = base.config.coordination == Coordination::Static;
        if self.members.begins() && is_static && needed.contains(peer) {
            self.end = Some(End::Aborted);
        }
    }

    /// What became of a proposal.
    pub(crate) fn decided(&mut self, proposal: u64, decision: Decision, base: &mut Base) {
        if self.members.proposal != Some(proposal) {
            return;
        }
        self.members.proposal = None;
        match decision {
            Decision::Accepted => self.store(base),
            Decision::Superseded(record) if record == self.members.record => self.store(base),
            Decision::Superseded(_) => self.end = Some(End::Follow),
            Decision::Unavailable => {
                // It may have been taken; so the very same is asked again.
                self.members.propose_at = base.now.after(base.config.timing.ping);
                self.suspend(base.peers().minus(self.members_linked()), base);
            }
        }
    }

    fn suspend(&mut self, missing: ReplicaSet, base: &mut Base) {
        if !std::mem::replace(&mut self.members.suspended, true) {
            base.notice(Notice::Suspended { missing });
        }
    }

    /// The external coordinator's record has changed.
    pub(crate) fn record_changed(&mut self, record: &Record, base: &Base) {
        let is_ours = record.leader == Some(base.own()) && record.incarnation == base.config.incarnation;
        if record.epoch > self.members.record.epoch && !is_ours {
            self.end = Some(End::Follow);
        }
    }

    /// Says when writes wait for a majority.
    pub(super) fn tick_members(&mut self, base: &mut Base) {
        let is_static = base.config.coordination == Coordination::Static;
        if is_static && self.members.is_spreading() && !self.members.begins() {
            let has_majority = base.config.is_majority(self.adopted().count() + 1);
            if !has_majority && base.config.on_peer_loss == OnPeerLoss::Suspend {
                self.suspend(base.peers().minus(self.adopted()), base);
            }
        }
    }

    /// The command that waits for the term to begin, if it has not.
    pub(super) fn take_command(&mut self) -> Option<CommandId> {
        self.members.command.take()
    }
}
