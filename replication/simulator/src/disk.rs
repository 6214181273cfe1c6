//! A node's disk: a volatile cache over sectors that last, and metadata beside them.
//!
//! ```text
//! write ends ─▶ cache, and the log of what is not flushed ─ flush ends ─▶ durable
//! power goes ─▶ each sector of the log is kept or not, each sector of a write under way as well
//! ```
//! Its one rule: a flush makes durable what had been reported when it was asked for, and nothing else.

use std::collections::VecDeque;

use replication::{
    ByteRange, History, MetadataRecord, OpId, ReadAtOnce, ReplicaSet, RequestId, Stored, Superblock,
};

use crate::dice::Dice;
use crate::payload::{Payload, SECTOR};

/// Local I/O under way.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Read {
        op: OpId,
        range: ByteRange,
    },
    /// A client's read that its node has begun without asking the machine for it.
    ReadAtOnce {
        request: RequestId,
        read: ReadAtOnce,
        range: ByteRange,
    },
    /// None: zeros.
    Write {
        op: OpId,
        range: ByteRange,
        payload: Option<Payload>,
        durable: bool,
    },
    /// The log up to there.
    Flush {
        op: OpId,
        upto: u64,
    },
    Checksum {
        op: OpId,
        range: ByteRange,
    },
    Metadata {
        op: OpId,
        record: MetadataRecord,
    },
}

/// What is wrong with it, in percent of what it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
    pub(crate) metadata: u64,
    /// Writes fail for lack of space.
    pub(crate) full: bool,
    /// So many times slower.
    pub(crate) slower: u64,
}

#[derive(Debug)]
pub(crate) struct Disk {
    /// What reads return.
    pub(crate) cache: Vec<u64>,
    /// What survives a loss of power.
    durable: Vec<u64>,
    log: VecDeque<(u32, u64)>,
    /// The number of the first entry of the log.
    log_first: u64,
    pub(crate) stored: Stored,
    work: Vec<Option<Work>>,
    free: Vec<u32>,
    pub(crate) trouble: Trouble,
    /// After a failed flush nobody knows what is durable: no later one succeeds before a restart.
    pub(crate) flush_failed: bool,
}

/// The sectors of a range.
#[inline]
pub(crate) fn sectors(range: ByteRange) -> std::ops::Range<usize> {
    (range.start / SECTOR) as usize..(range.end() / SECTOR) as usize
}

impl Disk {
    pub(crate) fn new(sectors: u64) -> Disk {
        Disk {
            cache: vec![0; sectors as usize],
            durable: vec![0; sectors as usize],
            log: VecDeque::new(),
            log_first: 0,
            stored: Stored::default(),
            work: Vec::new(),
            free: Vec::new(),
            trouble: Trouble { slower: 1, ..Trouble::default() },
            flush_failed: false,
        }
    }

    #[inline]
    pub(crate) fn begin(&mut self, work: Work) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.work[slot as usize] = Some(work);
                slot
            }
            None => {
                self.work.push(Some(work));
                (self.work.len() - 1) as u32
            }
        }
    }

    #[inline]
    pub(crate) fn end(&mut self, slot: u32) -> Work {
        self.free.push(slot);
        self.work[slot as usize].take().expect("work ends once")
    }

    /// What a flush that is asked for now covers.
    pub(crate) fn upto(&self) -> u64 {
        self.log_first + self.log.len() as u64
    }

    #[inline]
    fn put(&mut self, sector: usize, value: u64) {
        self.cache[sector] = value;
        self.log.push_back((sector as u32, value));
    }

    #[inline]
    pub(crate) fn write(&mut self, range: ByteRange, payload: Option<&Payload>, durable: bool) {
        for (index, sector) in sectors(range).enumerate() {
            let value = payload.map_or(0, |payload| payload.values()[index]);
            if durable {
                self.forget(sector);
                self.durable[sector] = value;
                self.cache[sector] = value;
            } else {
                self.put(sector, value);
            }
        }
    }

    /// What was logged of a sector no longer counts.
    fn forget(&mut self, sector: usize) {
        for entry in self.log.iter_mut().filter(|entry| entry.0 as usize == sector) {
            entry.0 = u32::MAX;
        }
    }

    /// A write that failed, or that nobody waits for any more: each sector has it or not.
    pub(crate) fn write_torn(&mut self, range: ByteRange, payload: Option<&Payload>, dice: &mut Dice) {
        for (index, sector) in sectors(range).enumerate() {
            if dice.one_in(2) {
                self.put(sector, payload.map_or(0, |payload| payload.values()[index]));
            }
        }
    }

    pub(crate) fn flush(&mut self, upto: u64) {
        while self.log_first < upto {
            let Some((sector, value)) = self.log.pop_front() else { return };
            self.log_first += 1;
            if let Some(durable) = self.durable.get_mut(sector as usize) {
                *durable = value;
            }
        }
    }

    pub(crate) fn read(&self, range: ByteRange) -> Payload {
        Payload::of(&self.cache[sectors(range)])
    }

    pub(crate) fn checksum(&self, range: ByteRange) -> u64 {
        let mix = |sum: u64, value: &u64| sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(*value);
        self.cache[sectors(range)].iter().fold(7, mix)
    }

    /// The process ends: what was under way happens or not, sector by sector.
    pub(crate) fn abandon(&mut self, dice: &mut Dice) {
        for work in std::mem::take(&mut self.work).into_iter().flatten() {
            match work {
                Work::Write { range, payload, .. } => self.write_torn(range, payload.as_ref(), dice),
                Work::Metadata { record, .. } if dice.one_in(2) => self.stored.apply(&record),
                _ => {}
            }
        }
        self.free.clear();
    }

    /// The power goes: of what was not flushed, each sector is kept or not.
    pub(crate) fn lose_power(&mut self, dice: &mut Dice) {
        let kept_percent = dice.pick(&[0, 0, 50, 90, 100]);
        for (sector, value) in std::mem::take(&mut self.log) {
            self.log_first += 1;
            if dice.percent(kept_percent)
                && let Some(durable) = self.durable.get_mut(sector as usize)
            {
                *durable = value;
            }
        }
        self.cache.clone_from(&self.durable);
        self.flush_failed = false;
    }

    /// All zeros, and of what was known only the promise is left.
    pub(crate) fn replace(&mut self, sectors: u64) {
        let superblock = self.stored.superblock.take();
        let kept = superblock.map(|superblock| Superblock {
            volume: None,
            record: None,
            in_force: false,
            history: History::default(),
            full: ReplicaSet::EMPTY,
            mixed: false,
            ..superblock
        });
        *self = Disk { trouble: self.trouble, ..Disk::new(sectors) };
        self.stored.superblock = kept;
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.work.len()
    }
}

/// What goes wrong with a piece of work, if anything does.
pub(crate) fn fault_of(
    work: &Work,
    trouble: &Trouble,
    flush_failed: bool,
    dice: &mut Dice,
) -> Option<replication::DiskFault> {
    use replication::DiskFault;
    let chance = match work {
        Work::Read { .. } | Work::ReadAtOnce { .. } | Work::Checksum { .. } => trouble.reads,
        Work::Write { .. } if trouble.full => return dice.one_in(2).then_some(DiskFault::NoSpace),
        Work::Write { .. } => trouble.writes,
        Work::Flush { .. } if flush_failed => return Some(DiskFault::Io),
        Work::Flush { .. } => trouble.flushes,
        Work::Metadata { .. } => trouble.metadata,
    };
    (chance > 0 && dice.percent(chance)).then_some(DiskFault::Io)
}
