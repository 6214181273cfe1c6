//! What a leader asks of a follower's copy: writes, resyncs, flushes, checksums.
//!
//! The leader never sends two changes of the same bytes at once, so what has arrived may run in any order.
//! Its one rule: a flush runs when every change that arrived before it has ended.

use std::collections::{BTreeMap, BTreeSet};

use super::Secondary;
use crate::base::{Base, Purpose};
use crate::config::{Limits, Sabotage};
use crate::event::{Change, LocalResult};
use crate::fault::{DiskFault, Refusal};
use crate::id::{DataId, Epoch, FlushId, ReplicaId, ReplicaSet, Seq, Session};
use crate::journal::{Mark, Version};
use crate::message::{Message, Origin};
use crate::region::ByteRange;

#[derive(Clone, Copy, Debug)]
enum Work {
    Write {
        seq: Seq,
        range: ByteRange,
        change: Change,
        data: Option<DataId>,
        durable: bool,
        origin: Option<Origin>,
    },
    Resync {
        seq: Seq,
        range: ByteRange,
        data: Option<DataId>,
    },
    Flush {
        flush: FlushId,
    },
    Checksum {
        seq: Seq,
        range: ByteRange,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Arrival {
    epoch: Epoch,
    work: Work,
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

/// What a leader has asked for and is not answered, by the order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    all: BTreeMap<u64, Arrival>,
    last: u64,
    /// For their mark, for the superblock, or (flushes) for changes before them.
    waiting: BTreeSet<u64>,
    /// Carried out: answered once the superblock says that their epoch counts.
    done: Vec<(u64, Result<LocalResult, DiskFault>)>,
    /// Changes that have not ended.
    changing: usize,
    /// Flushes that wait, and for how many changes.
    flushes: Vec<(u64, usize)>,
}

impl Arrivals {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add(&mut self, arrival: Arrival) -> u64 {
        self.last += 1;
        if arrival.changes() {
            self.changing += 1;
        } else if matches!(arrival.work, Work::Flush { .. }) {
            self.flushes.push((self.last, self.changing));
        }
        self.all.insert(self.last, arrival);
        self.last
    }

    /// A change has ended, whatever became of it.
    fn change_ended(&mut self, number: u64) {
        self.changing -= 1;
        for (flush, before) in &mut self.flushes {
            *before -= usize::from(number < *flush);
        }
    }

    /// Whether all changes before a flush have ended; then it runs.
    fn may_flush(&mut self, number: u64) -> bool {
        let before = self.flushes.len();
        self.flushes.retain(|&(flush, before)| flush != number || before > 0);
        self.flushes.len() < before
    }

    /// All of them, given up.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Arrival> {
        let last = self.last;
        let given_up = std::mem::take(self);
        self.last = last;
        given_up.all.into_values()
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
                Work::Write { seq, range, change, data, durable, origin }
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
        let version = count_epoch(&work, self.grew, base);
        let number = self.arrivals.add(Arrival { epoch, work, version });
        if !self.start(number, base) {
            self.arrivals.waiting.insert(number);
        }
    }

    /// What a leader says that needs no work.
    fn note(&mut self, message: &Message, base: &mut Base) {
        match message {
            Message::InForce { epoch } => {
                let is_latest = base.journal.superblock().record.is_some_and(|record| record.epoch == *epoch);
                if is_latest && is_member(base) {
                    base.journal.edit(|superblock| superblock.in_force = true);
                    base.journal.set_members(members(base));
                    self.named = super::is_named(base);
                }
            }
            Message::Durable { mended, .. } => {
                for replica in base.config.all().iter() {
                    base.journal.lack_mut(replica).unconfirmed.end_flush();
                }
                self.quiet_since = base.now;
                self.swept = false;
                if *mended && is_member(base) {
                    base.journal.inherited.clear();
                    base.witness.mended();
                }
            }
            Message::Lacking { of, regions, .. } if *of != base.own() => {
                base.journal.lack_mut(*of).add_dirty(regions);
            }
            _ => {}
        }
    }

    /// Starts a work, unless something must come before.
    fn start(&mut self, number: u64, base: &mut Base) -> bool {
        let purpose = Purpose::Arrival(number);
        let Arrival { ref work, version, .. } = self.arrivals.all[&number];
        // Bytes of another time than the rest: the superblock says so before.
        let may_change = is_member(base) || base.journal.is_durable(version);
        match *work {
            Work::Write { range, change, data, durable, origin, .. } => {
                if !may_change || !marked(range, base) {
                    return false;
                }
                self.quiet_since = base.now;
                self.swept = false;
                if let Some(origin) = &origin {
                    base.witness.note(origin);
                }
                base.write_local(purpose, range, change, data, durable);
            }
            Work::Resync { range, data, .. } => {
                if !may_change || is_member(base) && !marked_for_mending(range, base) {
                    return false;
                }
                if base.sabotaged(Sabotage::ResyncFromStale) {
                    self.finish(number, Ok(LocalResult::Done), base);
                    return true;
                }
                base.write_local(purpose, range, Change::Data, data, false);
            }
            Work::Flush { .. } => {
                if !self.arrivals.may_flush(number) {
                    return false;
                }
                base.flush_local(purpose);
            }
            Work::Checksum { range, .. } => base.checksum_local(purpose, range),
        }
        true
    }

    /// Starts and answers whatever can be.
    pub(super) fn advance_arrivals(&mut self, base: &mut Base) {
        if !self.arrivals.waiting.is_empty() {
            for number in std::mem::take(&mut self.arrivals.waiting) {
                if !self.start(number, base) {
                    self.arrivals.waiting.insert(number);
                }
            }
        }
        for (number, result) in std::mem::take(&mut self.arrivals.done) {
            self.answer(number, result, base);
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
        let Some(arrival) = self.arrivals.all.get(&number) else { return };
        if arrival.changes() {
            self.arrivals.change_ended(number);
        }
        self.answer(number, result, base);
    }

    /// Answers a work that is done, once it may count.
    fn answer(&mut self, number: u64, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let Some(following) = self.following else { return };
        if result.is_ok() && !base.journal.is_durable(self.arrivals.all[&number].version) {
            return self.arrivals.done.push((number, result));
        }
        let arrival = self.arrivals.all.remove(&number).expect("it is there");
        base.release(arrival.data());
        if let Err(fault) = result {
            base.disk_failed = Some(fault);
            if let Work::Write { origin: Some(origin), .. } = &arrival.work {
                base.witness.failed(origin);
            }
        }
        let done = result.map(|_| ());
        let epoch = arrival.epoch;
        let message = match arrival.work {
            Work::Write { seq, .. } => Message::Written { epoch, seq, result: done, also: Vec::new() },
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

/// A change that is answered may be counted on: so the epoch counts, and the superblock must say so before; unless the
/// record leaves nobody out (`grew`): then whoever has not adopted it has the change as well. A change of a copy that is
/// no member's makes it a mixture of two times.
fn count_epoch(work: &Work, grew: bool, base: &mut Base) -> Version {
    if !matches!(work, Work::Write { .. } | Work::Resync { .. }) {
        return 0;
    }
    let superblock = base.journal.superblock();
    match is_member(base) {
        true if !superblock.in_force && !grew => base.journal.edit(|superblock| superblock.in_force = true),
        false if !superblock.mixed => base.journal.edit(|superblock| superblock.mixed = true),
        true => 0,
        false => base.journal.version(),
    }
}

/// Whether the range is marked on disk (rule 8); if so, its change is noted.
fn marked(range: ByteRange, base: &mut Base) -> bool {
    if !base.sabotaged(Sabotage::DropActivityLog) && mark(range, base) != Mark::Ready {
        return false;
    }
    let members = members(base);
    base.journal.note_change(range, members);
    true
}

/// The same for the leader's bytes, which a member may have otherwise. If the log is full of marks that are needed,
/// they go without: whoever wrote other bytes there has marked them, and keeps the mark until all are mended.
fn marked_for_mending(range: ByteRange, base: &mut Base) -> bool {
    let is_marked = base.sabotaged(Sabotage::DropActivityLog) || !matches!(mark(range, base), Mark::Wait(_));
    if is_marked {
        let members = members(base);
        base.journal.note_change(range, members);
    }
    is_marked
}

fn mark(range: ByteRange, base: &mut Base) -> Mark {
    let soft = base.config.limits.active_extents;
    base.journal.mark(range, soft, Limits::ACTIVE_EXTENTS_MAX)
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
