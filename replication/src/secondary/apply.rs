//! What a leader asks of a follower's copy: writes, resyncs, flushes, checksums.
//!
//! The leader never sends two changes of the same bytes at once, so what has arrived may run in any order.
//! Its one rule: a flush runs when every change that arrived before it has ended.

use super::Secondary;
use crate::base::{Base, Purpose};
use crate::config::{Limits, Sabotage};
use crate::event::{Change, LocalResult};
use crate::fault::{DiskFault, Refusal};
use crate::id::{DataId, Epoch, FlushId, ReplicaId, ReplicaSet, Seq, Session};
use crate::journal::{Mark, Version};
use crate::message::Message;
use crate::region::ByteRange;

#[derive(Clone, Copy, Debug)]
enum Work {
    Write { seq: Seq, range: ByteRange, change: Change, data: Option<DataId>, durable: bool },
    Resync { seq: Seq, range: ByteRange, data: Option<DataId> },
    Flush { flush: FlushId },
    Checksum { seq: Seq, range: ByteRange },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For its mark, or for those before it.
    Waits,
    Runs,
    /// Carried out: answered once the superblock says that its epoch counts.
    Done,
}

#[derive(Debug)]
pub(super) struct Arrival {
    epoch: Epoch,
    work: Work,
    stage: Stage,
    /// To be durable before it is answered.
    version: Version,
}

impl Arrival {
    pub(super) fn data(&self) -> Option<DataId> {
        match self.work {
            Work::Write { data, .. } | Work::Resync { data, .. } => data,
            Work::Flush { .. } | Work::Checksum { .. } => None,
        }
    }

    fn changes(&self) -> bool {
        matches!(self.work, Work::Write { .. } | Work::Resync { .. })
    }
}

impl Secondary {
    /// Does as the leader says, unless it is not the leader any more.
    pub(super) fn obey(
        &mut self,
        from: ReplicaId,
        session: Session,
        message: Message,
        data: Option<DataId>,
        base: &mut Base,
    ) {
        let Some(epoch) = epoch_of(&message) else { return base.release(data) };
        let promised = base.journal.superblock().promised;
        let follows = self.following.is_some_and(|following| following.session == session);
        let is_old = epoch < promised || !follows;
        if is_old && !(base.sabotaged(Sabotage::ForgetEpochCheck) && self.following.is_some()) {
            base.release(data);
            return base.refuse(from, epoch, Refusal::OldEpoch(promised));
        }
        let work = match message {
            Message::Write { seq, range, change, durable, origin, .. } => {
                if let Some(origin) = &origin {
                    base.witness.note(origin);
                }
                Work::Write { seq, range, change, data, durable }
            }
            Message::Resync { seq, range, .. } => Work::Resync { seq, range, data },
            Message::Flush { flush, .. } => {
                for replica in base.config.all().iter() {
                    base.journal.lack_mut(replica).unconfirmed.begin_flush();
                }
                Work::Flush { flush }
            }
            Message::Checksum { seq, range, .. } => Work::Checksum { seq, range },
            other => return self.note(&other, base),
        };
        self.next_arrival += 1;
        let version = self.count_epoch(&work, base);
        self.arrivals.insert(self.next_arrival, Arrival { epoch, work, stage: Stage::Waits, version });
        self.try_start(self.next_arrival, base);
    }

    /// A change that is answered may be counted on: so the epoch counts, and the superblock must say so before.
    fn count_epoch(&mut self, work: &Work, base: &mut Base) -> Version {
        let is_member = is_member(base);
        match work {
            Work::Write { .. } | Work::Resync { .. } if is_member => {
                if base.journal.superblock().in_force {
                    0
                } else {
                    base.journal.edit(|superblock| superblock.in_force = true)
                }
            }
            Work::Resync { .. } => {
                if base.journal.superblock().mixed {
                    0
                } else {
                    base.journal.edit(|superblock| superblock.mixed = true)
                }
            }
            _ => 0,
        }
    }

    /// What a leader says that needs no work.
    fn note(&mut self, message: &Message, base: &mut Base) {
        match message {
            Message::InForce { epoch } => {
                let is_latest = base.journal.superblock().record.is_some_and(|record| record.epoch == *epoch);
                if is_latest && is_member(base) {
                    base.journal.edit(|superblock| superblock.in_force = true);
                    self.named = super::is_named(base);
                }
            }
            Message::Durable { mended, .. } => {
                for replica in base.config.all().iter() {
                    base.journal.lack_mut(replica).unconfirmed.end_flush();
                }
                if *mended && is_member(base) {
                    base.journal.inherited.clear();
                }
            }
            Message::Lacking { of, regions, .. } if *of != base.own() => {
                base.journal.lack_mut(*of).add_dirty(regions);
            }
            _ => {}
        }
    }

    fn try_start(&mut self, arrival: u64, base: &mut Base) {
        let entry = &self.arrivals[&arrival];
        let purpose = Purpose::Arrival(arrival);
        match entry.work {
            Work::Write { range, change, data, durable, .. } => {
                if !marked(range, base) {
                    return;
                }
                base.write_local(purpose, range, change, data, durable);
            }
            Work::Resync { range, data, .. } => {
                if is_member(base) && !marked(range, base) || !base.journal.is_durable(entry.version) {
                    return;
                }
                if base.sabotaged(Sabotage::ResyncFromStale) {
                    return self.finish(arrival, Ok(LocalResult::Done), base);
                }
                base.write_local(purpose, range, Change::Data, data, false);
            }
            Work::Flush { .. } => {
                if self
                    .arrivals
                    .range(..arrival)
                    .any(|(_, before)| before.changes() && before.stage != Stage::Done)
                {
                    return;
                }
                base.flush_local(purpose);
            }
            Work::Checksum { range, .. } => base.checksum_local(purpose, range),
        }
        self.arrivals.get_mut(&arrival).expect("it is there").stage = Stage::Runs;
    }

    /// Starts and answers whatever can be.
    pub(super) fn advance_arrivals(&mut self, base: &mut Base) {
        let waiting: Vec<(u64, Stage)> = self
            .arrivals
            .iter()
            .filter(|(_, arrival)| arrival.stage != Stage::Runs)
            .map(|(&number, arrival)| (number, arrival.stage))
            .collect();
        for (number, stage) in waiting {
            match stage {
                Stage::Waits => self.try_start(number, base),
                Stage::Done => self.answer(number, Ok(LocalResult::Done), base),
                Stage::Runs => {}
            }
        }
    }

    /// A local operation has ended.
    pub(crate) fn local_done(
        &mut self,
        number: u64,
        result: Result<LocalResult, DiskFault>,
        base: &mut Base,
    ) {
        self.finish(number, result, base);
    }

    fn finish(&mut self, number: u64, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let Some(arrival) = self.arrivals.get_mut(&number) else { return };
        arrival.stage = Stage::Done;
        self.answer(number, result, base);
    }

    /// Answers a work that is done, once it may count.
    fn answer(&mut self, number: u64, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let Some(following) = self.following else { return };
        let arrival = &self.arrivals[&number];
        if result.is_ok() && !base.journal.is_durable(arrival.version) {
            return;
        }
        let arrival = self.arrivals.remove(&number).expect("it is there");
        base.release(arrival.data());
        if let Err(fault) = result {
            base.disk_failed = Some(fault);
        }
        let done = result.map(|_| ());
        let epoch = arrival.epoch;
        let message = match arrival.work {
            Work::Write { seq, .. } => Message::Written { epoch, seq, result: done },
            Work::Resync { seq, .. } => Message::Resynced { epoch, seq, result: done },
            Work::Flush { flush } => Message::Flushed { epoch, flush, result: done },
            Work::Checksum { seq, .. } => {
                let result = result.map(|sum| match sum {
                    LocalResult::Checksum(sum) => sum,
                    other => unreachable!("a checksum does not end with {other:?}"),
                });
                Message::Checksummed { epoch, seq, result }
            }
        };
        base.send(following.leader, message);
    }
}

fn members(base: &Base) -> ReplicaSet {
    let record = base.journal.superblock().record;
    record.map_or(ReplicaSet::EMPTY, |record| record.in_sync).with(base.own())
}

fn is_member(base: &Base) -> bool {
    base.journal.superblock().record.is_some_and(|record| record.in_sync.contains(base.own()))
}

/// Whether the range is marked on disk (rule 8); if so, its change is noted.
fn marked(range: ByteRange, base: &mut Base) -> bool {
    let members = members(base);
    let is_marked = base.sabotaged(Sabotage::DropActivityLog)
        || base.journal.mark(range, Limits::ACTIVE_EXTENTS_MAX, members) == Mark::Ready;
    if is_marked {
        base.journal.note_change(range, members);
    }
    is_marked
}

fn epoch_of(message: &Message) -> Option<Epoch> {
    match *message {
        Message::Write { epoch, .. }
        | Message::Resync { epoch, .. }
        | Message::Flush { epoch, .. }
        | Message::Durable { epoch, .. }
        | Message::Lacking { epoch, .. }
        | Message::Checksum { epoch, .. }
        | Message::InForce { epoch } => Some(epoch),
        _ => None,
    }
}
