//! How a leader's record is adopted.
//!
//! Its one rule: a copy that holds writes which the leader's does not is never given to it (rule 10).

use super::{Following, Secondary};
use crate::base::Base;
use crate::config::{OnPeerLoss, Sabotage};
use crate::coordinator::Coordination;
use crate::effect::Notice;
use crate::fault::Refusal;
use crate::history::Comparison;
use crate::id::{Epoch, ReplicaId, ReplicaSet, Session};
use crate::journal::Version;
use crate::message::{Lead, Message};
use crate::region::RegionSet;

#[derive(Clone, Debug)]
pub(super) struct Adopting {
    leader: ReplicaId,
    pub(super) session: Session,
    lead: Lead,
    /// Nothing was adopted before it.
    is_first: bool,
    /// The superblock that has it. None: local changes of earlier times have not ended.
    version: Option<Version>,
}

impl Adopting {
    pub(super) fn leader(&self) -> ReplicaId {
        self.leader
    }
}

impl Secondary {
    /// A leader says what the record is.
    pub(super) fn lead(&mut self, from: ReplicaId, session: Session, lead: Lead, base: &mut Base) {
        if let Some(reason) = refusal(&lead, base) {
            if let Refusal::SplitBrain(_) = reason {
                say_split_brain(from, &lead, base);
            }
            return base.refuse(from, lead.record.epoch, reason);
        }
        if self.following.is_some_and(|following| following.session != session) || lead.report {
            self.unfollow(base);
        }
        if let Some(link) = base.link_mut(from) {
            link.diverged = None;
        }
        self.adopting = Some(Adopting { leader: from, session, lead, is_first: false, version: None });
    }

    pub(super) fn advance_adopting(&mut self, base: &mut Base) {
        let Some(adopting) = &mut self.adopting else { return };
        if adopting.version.is_none() && (self.following.is_some() || base.is_drained()) {
            // A promise may have been given since it came.
            if adopting.lead.record.epoch < base.journal.superblock().promised {
                let reason = Refusal::OldEpoch(base.journal.superblock().promised);
                let (leader, epoch) = (adopting.leader, adopting.lead.record.epoch);
                self.unfollow(base);
                return base.refuse(leader, epoch, reason);
            }
            adopting.is_first = base.journal.superblock().record.is_none();
            self.grew = grows(&adopting.lead, base);
            adopting.version = Some(write_down(&adopting.lead, base));
        }
        let Some(version) = adopting.version else { return };
        let record = adopting.lead.record;
        let is_member = record.in_sync.contains(base.own());
        let absent = base.peers().minus(record.in_sync);
        if !base.journal.is_durable(version) || is_member && !base.journal.are_saved(absent) {
            return;
        }
        let Adopting { leader, session, lead, is_first, .. } = self.adopting.take().expect("it is there");
        let is_new = self.following.replace(Following { leader, session }).is_none();
        base.disk_failed = None;
        let activity = if lead.report { base.journal.activity_report() } else { RegionSet::new() };
        base.send(leader, Message::Led { epoch: record.epoch, activity });
        if is_first {
            // Others know us as a copy that has nothing.
            let hello = base.hello_message(false);
            base.peers().iter().for_each(|peer| base.send(peer, hello.clone()));
        }
        if is_new {
            base.notice(Notice::Follows { leader, epoch: record.epoch });
        }
    }
}

/// Why a record is not adopted, if it is not.
fn refusal(lead: &Lead, base: &Base) -> Option<Refusal> {
    let superblock = base.journal.superblock();
    if lead.record.epoch < superblock.promised && !base.sabotaged(Sabotage::ForgetEpochCheck) {
        return Some(Refusal::OldEpoch(superblock.promised));
    }
    if superblock.joined_volume().is_some_and(|volume| volume != lead.volume) {
        return Some(Refusal::OtherVolume);
    }
    let mut chain = lead.history.clone();
    chain.extend(&lead.record);
    match base.journal.history().compare(&chain) {
        Comparison::Same | Comparison::Behind => {}
        Comparison::Ahead => return Some(Refusal::Histories(Comparison::Ahead)),
        Comparison::Diverged if base.sabotaged(Sabotage::OverwriteDiverged) => {}
        Comparison::Diverged => return Some(Refusal::SplitBrain(base.own())),
    }
    if superblock.record.is_none() && lead.record.in_sync.contains(base.own()) {
        // This copy is new and holds nothing, whatever the record says of it: it has to go, and to join anew.
        return Some(Refusal::NotInSync { since: Epoch(0), in_sync: lead.record.in_sync });
    }
    let record = superblock.record?;
    if record.epoch == lead.record.epoch && record != lead.record {
        return Some(Refusal::OldEpoch(record.epoch));
    }
    // A leader that was overtaken counts its epochs up; what has been promised since was promised to another term.
    let promised = if superblock.promised > record.epoch { superblock.promised } else { record.term };
    let is_overtaken = base.by_majority() && lead.record.term < promised.max(record.term);
    is_overtaken.then_some(Refusal::OldEpoch(superblock.promised))
}

fn say_split_brain(with: ReplicaId, lead: &Lead, base: &mut Base) {
    let mut its = lead.history.clone();
    its.extend(&lead.record);
    let own = base.journal.history();
    let Some(link) = base.link_mut(with) else { return };
    if link.diverged.replace(its.clone()).as_ref() != Some(&its) {
        base.notice(Notice::SplitBrain { peer: with, own, its });
    }
}

/// Whether a record only adds members. Its leader makes such a one only when the last is in force.
fn grows(lead: &Lead, base: &Base) -> bool {
    let before = base.journal.superblock().record.map_or(ReplicaSet::EMPTY, |record| record.in_sync);
    let in_sync = lead.record.in_sync;
    !lead.report && in_sync != before && in_sync.covers(before)
}

/// The record into the superblock, and what follows from it into the bitmaps.
fn write_down(lead: &Lead, base: &mut Base) -> Version {
    let record = lead.record;
    let own = base.own();
    let is_member = record.in_sync.contains(own);
    let before = base.journal.superblock().record.map_or(ReplicaSet::EMPTY, |record| record.in_sync);
    if lead.report {
        base.journal.inherit();
    }
    for peer in base.peers().iter() {
        if !record.in_sync.contains(peer) {
            if before.contains(peer) {
                base.journal.leaves(peer);
            }
        } else if is_member {
            base.journal.joins(peer);
        }
    }
    if is_member && !before.contains(own) && !lead.report {
        // The leader has sent all that our copy may have had other than its own.
        base.journal.inherited.clear();
    }
    if is_member {
        base.journal.save_bitmaps();
    }
    if is_member && record.leader.is_none() {
        // Its last leader has flushed all members.
        base.journal.drop_clean();
    }
    base.witness.is_member(record.epoch, is_member, lead.report);
    let counts = base.config.coordination == Coordination::Static
        && base.config.on_peer_loss == OnPeerLoss::Continue
        && !lead.begins;
    let is_only = lead.report || counts;
    let others = if is_only { ReplicaSet::EMPTY } else { base.journal.members() };
    base.journal.set_members(record.in_sync.union(others));
    let history = if is_member { lead.history.clone() } else { base.journal.history() };
    base.journal.edit(|superblock| {
        superblock.volume = Some(lead.volume);
        superblock.era = lead.era;
        superblock.promised = superblock.promised.max(record.epoch);
        superblock.history = history;
        superblock.in_force = counts && is_member;
        superblock.record = Some(record);
        superblock.joined = lead.joined.union(record.in_sync);
        superblock.mixed &= !is_member;
        superblock.full = if is_member { superblock.full.minus(record.in_sync) } else { superblock.full };
    })
}
