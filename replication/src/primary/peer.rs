//! A peer as its leader sees it: from its greeting to its place in the in-sync set.
//!
//! ```text
//! (hello) ─▶ Preparing ─▶ Adopting ─▶ Resyncing ─▶ Settling ─▶ Member ─▶ (lost: gone at once, out by rule 6)
//! ```
//! Its one rule: a peer whose link is lost begins anew; nothing of the old link counts.

use std::collections::{BTreeMap, VecDeque};

use super::Primary;
use super::checkpoint::Checkpoint;
use super::pace::{Pace, Sent};
use crate::base::Base;
use crate::config::Sabotage;
use crate::coordinator::Record;
use crate::effect::{DisconnectReason, Notice};
use crate::fault::Refusal;
use crate::history::{Comparison, History};
use crate::id::{Epoch, FlushId, ReplicaId, ReplicaSet, Seq, Time};
use crate::journal::Version;
use crate::message::{Hello, Lead, Message};
use crate::region::RegionSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// We write down that it lacks everything, before it hears of us.
    Preparing(Version),
    /// It has been told the record, and has not adopted it yet. Writes go to it.
    Adopting,
    /// It receives what it lacks.
    Resyncing,
    /// It has received everything; it makes it durable by this flush (None: not begun). Clients wait for it already.
    Settling(Option<FlushId>),
    /// It is in the latest record's in-sync set.
    Member,
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) phase: Phase,
    /// The latest epoch that it has adopted over this link.
    pub(super) led: Epoch,
    /// Since when it owes us the adoption of the latest record.
    pub(super) asked_at: Time,
    /// Bytes of writes it has not acknowledged.
    pub(super) bytes_in_flight: u64,
    /// Those writes in the order of their sending, each with the time after which it is late. (Acknowledged ones go
    /// once they are first.)
    pub(super) in_flight: VecDeque<(Seq, Time)>,
    /// Resyncs under way.
    pub(super) resyncs: BTreeMap<Seq, Sent>,
    pub(super) pace: Pace,
    /// Where the search for the next region goes on.
    pub(super) cursor: u64,
    pub(super) resynced_bytes: u64,
    /// The part of it that no flush covers.
    pub(super) unflushed_bytes: u64,
    /// When the last flush of its own was asked for, or it came.
    pub(super) checkpoint_at: Time,
    pub(super) checkpoint: Checkpoint,
    /// All that it has received is durable.
    pub(super) settled: bool,
}

impl Peer {
    pub(super) fn new(phase: Phase, now: Time) -> Peer {
        Peer {
            phase,
            led: Epoch(0),
            asked_at: now,
            bytes_in_flight: 0,
            in_flight: VecDeque::new(),
            resyncs: BTreeMap::new(),
            pace: Pace::new(),
            cursor: 0,
            resynced_bytes: 0,
            unflushed_bytes: 0,
            checkpoint_at: now,
            checkpoint: Checkpoint::None,
            settled: false,
        }
    }

    pub(super) fn receives_writes(&self) -> bool {
        !matches!(self.phase, Phase::Preparing(_))
    }

    #[inline]
    pub(super) fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        self.bytes_in_flight == 0 || self.bytes_in_flight + bytes <= bytes_max
    }
}

impl Primary {
    /// Members by the latest record that are linked.
    pub(super) fn members_linked(&self) -> ReplicaSet {
        let mut set = ReplicaSet::EMPTY;
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| peer.phase == Phase::Member) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// A peer has said who it is (or says so anew).
    pub(crate) fn greeted(&mut self, peer: ReplicaId, base: &mut Base) {
        if self.members.in_force().is_none() || self.end.is_some() {
            // Nobody joins before the term is in force; those who must agree to it have been asked.
            return;
        }
        if self.peers[peer.index()].is_some() || self.members.record().in_sync.contains(peer) {
            // A member that was lost joins anew once a record without it has been made. (It may be needed to agree.)
            return;
        }
        let Some(hello) = base.hello(peer).cloned() else { return };
        let latest = *self.members.record();
        if hello
            .record
            .is_some_and(|record| record.rank() > latest.rank() && record.leader != Some(base.own()))
        {
            // Somebody has taken over; unless it was forced, our data is there.
            let own = self.members.history();
            if own.compare(&hello.history) != Comparison::Diverged {
                self.end = Some(super::End::Follow);
                return;
            }
        }
        if hello.promised > latest.epoch && base.by_majority() {
            // Our own promises are older: they have to be asked for anew.
            self.end = Some(super::End::Resign);
            return;
        }
        if hello.promised > latest.epoch {
            // It obeys only what is later than what it has promised to somebody who did not get to lead.
            self.members.outbid = self.members.outbid.max(hello.promised);
            return;
        }
        let own = self.members.history();
        match own.compare(&hello.history) {
            Comparison::Same | Comparison::Ahead => self.admit(peer, &hello, base),
            Comparison::Behind => self.end = Some(super::End::Follow),
            Comparison::Diverged if base.sabotaged(Sabotage::OverwriteDiverged) => {
                self.admit(peer, &hello, base)
            }
            Comparison::Diverged => self.diverged(peer, &hello, base),
        }
    }

    fn diverged(&mut self, peer: ReplicaId, hello: &Hello, base: &mut Base) {
        let own = self.members.history().clone();
        let Some(link) = base.link_mut(peer) else { return };
        if link.diverged.replace(hello.history.clone()).as_ref() != Some(&hello.history) {
            base.notice(Notice::SplitBrain { peer, own, its: hello.history.clone() });
        }
        base.refuse(peer, self.members.record().epoch, Refusal::SplitBrain(base.own()));
    }

    /// Lets a peer in that is behind: first it is told so.
    fn admit(&mut self, peer: ReplicaId, hello: &Hello, base: &mut Base) {
        if let Some(link) = base.link_mut(peer) {
            link.diverged = None;
        }
        let own = self.members.history();
        let version = if lacks_all(peer, hello, &own, base) { note_lacks_all(peer, base) } else { 0 };
        let phase = Phase::Preparing(version);
        self.peers[peer.index()] = Some(Peer::new(phase, base.now));
        self.advance_preparing(peer, base);
    }

    /// Goes on with a peer whose lack is written down.
    pub(super) fn advance_preparing(&mut self, peer: ReplicaId, base: &mut Base) {
        let Some(Peer { phase: Phase::Preparing(version), .. }) = &self.peers[peer.index()] else { return };
        if !base.journal.is_durable(*version) || !self.members.may_be_told() {
            return;
        }
        let state = self.peers[peer.index()].as_mut().expect("it is there");
        state.phase = Phase::Adopting;
        self.lead(peer, true, base);
    }

    /// Tells a peer the latest record.
    pub(super) fn lead(&mut self, peer: ReplicaId, report: bool, base: &mut Base) {
        let lead = Lead {
            volume: base.journal.superblock().volume.expect("a leader's volume has its UUID"),
            era: self.members.era(),
            record: *self.members.record(),
            history: self.members.history_before().clone(),
            joined: base.journal.superblock().joined.union(self.members.record().in_sync),
            term: self.members.term(),
            begins: self.members.begins(),
            report,
        };
        if let Some(state) = &mut self.peers[peer.index()] {
            state.asked_at = base.now;
        }
        base.send(peer, Message::Lead(Box::new(lead)));
    }

    /// A peer has adopted a record.
    pub(crate) fn led(&mut self, peer: ReplicaId, epoch: Epoch, activity: &RegionSet, base: &mut Base) {
        let Some(state) = &mut self.peers[peer.index()] else { return };
        state.led = state.led.max(epoch);
        let ignore = base.sabotaged(Sabotage::IgnorePeersActivity);
        // Since it told us first in this term, it has written nothing but what we have sent.
        let latest = base.hello(peer).and_then(|hello| hello.record);
        let ours = latest.is_some_and(|record| {
            record.leader == Some(base.own()) && record.incarnation == base.config.incarnation
        });
        let knows_all = ours && self.reported.contains(peer);
        match state.phase {
            Phase::Adopting => {
                state.phase = Phase::Resyncing;
                if !ignore && !knows_all {
                    base.journal.lack_mut(peer).add_dirty(activity);
                }
                self.reported = self.reported.with(peer);
                let bytes = base.journal.lack(peer).dirty().count() * base.geometry().region_bytes;
                base.notice(Notice::Resyncs { peer, bytes });
            }
            Phase::Member if self.members.begins() && !ignore => {
                base.journal.inherited.union(activity);
                self.reported = self.reported.with(peer);
            }
            _ => {}
        }
    }

    /// A peer does not obey.
    pub(crate) fn refused(
        &mut self,
        peer: ReplicaId,
        epoch: Epoch,
        promised: Epoch,
        latest: Option<Record>,
        reason: Refusal,
        base: &mut Base,
    ) {
        if self.peers[peer.index()].is_none() || epoch < self.members.term() {
            return;
        }
        let own = self.members.record().rank();
        if latest.is_some_and(|latest| latest.rank() > own) && !matches!(reason, Refusal::SplitBrain(_)) {
            // It has adopted somebody's later record.
            self.end = Some(super::End::Follow);
            return;
        }
        if !self.members.begins() && base.by_majority() && matches!(reason, Refusal::OldEpoch(_)) {
            self.end = Some(super::End::Resign);
            return;
        }
        if !self.members.begins() {
            self.members.outbid = self.members.outbid.max(promised);
        }
        base.refusals[peer.index()] = Some(reason.clone());
        base.notice(Notice::PeerRefused { peer, reason: reason.clone() });
        self.drop_peer(peer, DisconnectReason::Refused(reason), base);
    }

    /// Ends the link to a peer, and its part in this term.
    pub(super) fn drop_peer(&mut self, peer: ReplicaId, reason: DisconnectReason, base: &mut Base) {
        base.hang_up(peer, reason);
        self.lost(peer, base);
    }

    /// The link to a peer is gone: what it has not confirmed it may lack; if it is a member, it must go (rule 6).
    pub(crate) fn lost(&mut self, peer: ReplicaId, base: &mut Base) {
        let Some(state) = self.peers[peer.index()].take() else { return };
        if base.sabotaged(Sabotage::ForgetUnconfirmed) {
            base.journal.lack_mut(peer).unconfirmed.clear();
        }
        base.journal.leaves(peer);
        self.lease.forget(peer);
        for seq in state.resyncs.into_keys() {
            let job = self.end_job(seq);
            base.release(job.data());
        }
        self.forget_sent(peer);
        self.rounds.forget_sent(peer);
        self.verify_lost(peer, base);
        if matches!(state.phase, Phase::Member) {
            let bytes = base.journal.lack(peer).dirty().count() * base.geometry().region_bytes;
            base.notice(Notice::Left { peer, bytes });
        }
        self.members_lost(peer, base);
        self.retry = true;
        self.finish_writes(base);
        self.rounds_changed(base);
    }
}

/// Whether nothing that we know of a peer's copy says what is in it.
pub(super) fn lacks_all(peer: ReplicaId, hello: &Hello, own: &History, base: &Base) -> bool {
    let superblock = base.journal.superblock();
    let latest = superblock.record.map(|record| record.rank());
    let goes_on =
        hello.record.is_some_and(|record| record.leader == Some(base.own()) && Some(record.rank()) <= latest);
    // One that was never in sync has had all writes noted that it missed; one that was and is empty has not.
    let is_blank = hello.blank && !superblock.joined.contains(peer);
    let knows_nothing = !is_blank && (hello.volume.is_none() || hello.history.is_empty() && !goes_on);
    knows_nothing || hello.record.is_some_and(|record| was_filled_by_another(peer, &record, own, base))
}

/// Whether a copy out of date may have bytes of a leader whose epoch ours never was: it may have gone on apart from us,
/// by force, and what it sent is in no history.
fn was_filled_by_another(peer: ReplicaId, record: &Record, own: &History, base: &Base) -> bool {
    let is_ours = record.incarnation == base.config.incarnation;
    !record.in_sync.contains(peer) && !is_ours && !own.includes(record)
}

/// Notes that a peer has to receive everything; the version of the superblock that says so.
pub(super) fn note_lacks_all(peer: ReplicaId, base: &mut Base) -> Version {
    let geometry = base.geometry();
    base.journal.lack_mut(peer).add_dirty(&RegionSet::full(&geometry));
    base.journal.edit(|superblock| superblock.full = superblock.full.with(peer))
}
