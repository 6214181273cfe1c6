//! The record of a term: who is in the in-sync set, and when a change of it is in force.
//!
//! ```text
//! a term begins, static:    Spread (all who consented adopt it) ─▶ Store (own superblock) ─▶ in force
//! a term begins, external:  (the coordinator has decided)  Store ─▶ Spread ─▶ in force
//! a change:                 [Propose ─▶] Store ─▶ Spread (all members of it; suspend: and a majority) ─▶ in force
//! ```
//! Own superblock first, so that a leader that crashes knows of every epoch it may have counted on; but at a term's
//! beginning last, so that a leader that crashes does not believe in a term that nobody consented to.
//! Its one rule: no write completes without a replica until a record without it is in force (rule 6).

use super::peer::{Peer, Phase};
use super::{End, Primary};
use crate::base::Base;
use crate::config::{OnPeerLoss, Sabotage};
use crate::coordinator::{Coordination, Decision, Record};
use crate::effect::{Effect, Notice};
use crate::history::History;
use crate::id::{CommandId, Epoch, ReplicaId, ReplicaSet};
use crate::journal::Version;
use crate::message::Message;
use crate::region::RegionSet;

/// With what a term begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) record: Record,
    /// Of all that the new leader's copy holds.
    pub(crate) history: History,
    /// Who must adopt the record before it is in force, beside its in-sync set.
    pub(crate) required: ReplicaSet,
    /// Replicas that lack everything, as far as we know.
    pub(crate) full: ReplicaSet,
    /// Whose command it is.
    pub(crate) command: Option<CommandId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The external coordinator is asked.
    Propose,
    /// Our superblock is written.
    Store(Version),
    /// The others adopt it.
    Spread,
    /// Our superblock says that it is in force.
    Seal(Version),
}

/// With which record a term ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Nobody leads; the members stay.
    Nobody,
    /// Another member leads, and we are none.
    WithoutUs,
}

#[derive(Debug)]
pub(super) struct Members {
    /// The first epoch of the term.
    term: Epoch,
    /// The latest record, in force or not.
    record: Record,
    in_force: Option<Record>,
    /// How far the latest record is, if it is not in force.
    stage: Option<Stage>,
    /// Members of any record since the last one in force.
    pending: ReplicaSet,
    /// Before the latest record.
    history: History,
    required: ReplicaSet,
    command: Option<CommandId>,
    /// Somebody has promised a later epoch: ours has to be beyond.
    pub(super) outbid: Epoch,
    /// The record that ends the term, if one is wanted.
    pub(super) last: Option<Last>,
    suspended: bool,
}

impl Members {
    pub(super) fn new(beginning: &Beginning) -> Members {
        Members {
            term: beginning.record.epoch,
            record: beginning.record,
            in_force: None,
            stage: None,
            pending: beginning.record.in_sync,
            history: beginning.history.clone(),
            required: beginning.required,
            command: beginning.command,
            outbid: Epoch(0),
            last: None,
            suspended: false,
        }
    }

    pub(super) fn term(&self) -> Epoch {
        self.term
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn in_force(&self) -> Option<&Record> {
        self.in_force.as_ref()
    }

    /// Whether the term has not been in force yet.
    pub(super) fn begins(&self) -> bool {
        self.in_force.is_none()
    }

    pub(super) fn is_spreading(&self) -> bool {
        self.stage == Some(Stage::Spread)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.stage.is_none()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// In the in-sync set in force, or in one that somebody may have adopted since.
    #[inline]
    pub(super) fn must_hold(&self) -> ReplicaSet {
        self.in_force.map_or(ReplicaSet::EMPTY, |record| record.in_sync).union(self.pending)
    }

    pub(super) fn history_before(&self) -> &History {
        &self.history
    }

    /// What our copy holds.
    pub(super) fn history(&self) -> History {
        let mut history = self.history.clone();
        history.extend(&self.record);
        history
    }
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
            if base.hello(peer).is_none() {
                continue;
            }
            let phase = if record.in_sync.contains(peer) { Phase::Member } else { Phase::Adopting };
            self.peers[peer.index()] = Some(Peer::new(phase, base.now));
        }
        if base.config.coordination == Coordination::External {
            self.store(base);
        } else {
            self.spread(base);
        }
    }

    fn store(&mut self, base: &mut Base) {
        let (record, history) = (self.members.record, self.members.history.clone());
        let counts = base.config.coordination == Coordination::External
            || base.config.on_peer_loss == OnPeerLoss::Continue
            || self.members.begins();
        let version = base.journal.edit(|superblock| {
            superblock.promised = superblock.promised.max(record.epoch);
            superblock.record = Some(record);
            superblock.in_force = counts;
            superblock.history = history;
            superblock.mixed = false;
            superblock.full = superblock.full.minus(record.in_sync);
        });
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
        if self.members.stage != Some(Stage::Propose) && self.end.is_none() {
            self.next_record(base);
            while self.advance_stage(base) {}
        }
    }

    /// One stage further, if it may.
    fn advance_stage(&mut self, base: &mut Base) -> bool {
        let is_external = base.config.coordination == Coordination::External;
        match self.members.stage {
            Some(Stage::Store(version)) if base.journal.is_durable(version) => {
                if self.members.begins() && !is_external {
                    self.now_in_force(base);
                } else {
                    self.spread(base);
                }
                true
            }
            Some(Stage::Spread) if self.is_spread(base) => {
                if self.members.begins() && !is_external {
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
        let suspends = base.config.coordination == Coordination::Static
            && base.config.on_peer_loss == OnPeerLoss::Suspend
            && !self.members.begins();
        adopted.covers(needed) && (!suspends || base.config.is_majority(adopted.count() + 1))
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
        if self.members.is_settled() {
            in_sync = in_sync.union(self.settled());
            match self.members.last {
                Some(Last::Nobody) => leader = None,
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
        self.members.record = Record { epoch, leader, incarnation: base.config.incarnation, in_sync };
        self.members.pending = self.members.pending.union(in_sync);
        for peer in in_sync.without(base.own()).iter() {
            self.peers[peer.index()].as_mut().expect("a member is linked").phase = Phase::Member;
        }
        if is_external {
            self.members.stage = Some(Stage::Propose);
            base.out.push(Effect::Propose { expected: latest.epoch, record: self.members.record });
        } else {
            self.store(base);
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
        for peer in base.greeted().iter() {
            self.greeted(peer, base);
        }
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
    pub(crate) fn decided(&mut self, epoch: Epoch, decision: Decision, base: &mut Base) {
        if self.members.stage != Some(Stage::Propose) || epoch != self.members.record.epoch {
            return;
        }
        match decision {
            Decision::Accepted => self.store(base),
            Decision::Superseded(record) if record == self.members.record => self.store(base),
            Decision::Superseded(_) => self.end = Some(End::Follow),
            Decision::Unavailable => self.members.suspended = true,
        }
    }

    /// The external coordinator's record has changed.
    pub(crate) fn record_changed(&mut self, record: &Record, base: &Base) {
        let is_ours = record.leader == Some(base.own()) && record.incarnation == base.config.incarnation;
        if record.epoch > self.members.record.epoch && !is_ours {
            self.end = Some(End::Follow);
        }
    }

    /// Asks a coordinator again that did not answer; says when writes wait for a majority.
    pub(super) fn tick_members(&mut self, base: &mut Base) {
        if self.members.stage == Some(Stage::Propose) && self.members.suspended {
            self.members.suspended = false;
            let record = self.members.record;
            let expected = self.members.in_force.map_or(Epoch(record.epoch.0 - 1), |last| last.epoch);
            base.out.push(Effect::Propose { expected, record });
        }
        if self.members.is_spreading() && !self.members.begins() && !self.members.suspended {
            let missing = base.peers().minus(self.adopted());
            let has_majority = base.config.is_majority(self.adopted().count() + 1);
            if !has_majority && base.config.on_peer_loss == OnPeerLoss::Suspend {
                self.members.suspended = true;
                base.notice(Notice::Suspended { missing });
            }
        }
    }

    /// The command that waits for the term to begin, if it has not.
    pub(super) fn take_command(&mut self) -> Option<CommandId> {
        self.members.command.take()
    }
}
