//! What the rules of replication say of single steps: promises, records, marks, and what a resync may send.
//!
//! Its one rule: only what the mover sees is looked at: effects, and what is on disk.

use std::collections::BTreeMap;

use replication::{
    ByteRange, Comparison, Epoch, FlushId, History, MetadataRecord, Record, ReplicaId, ReplicaSet, Stored,
    Superblock,
};

use crate::network::NODES_MAX;
use crate::payload::SECTOR;
use crate::plan::{EXTENT_SECTORS, REGION_SECTORS};
use crate::report::Checker;

type Wrong = Option<(Checker, String)>;

/// What a leader may have to send again to one peer.
#[derive(Debug, Default)]
struct Lacking {
    /// It joined in this very term, when nothing was left of earlier ones.
    known: bool,
    /// When each flush that it was asked for began.
    asked: Vec<(FlushId, u64)>,
    /// All that was sent before is durable there.
    confirmed: u64,
    /// When each region was last sent to it, or part of it.
    sent: Vec<u64>,
    /// How many writes to each region it has missed since it was sent whole.
    missed: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Rules {
    leaders: BTreeMap<Epoch, (usize, u32)>,
    records: BTreeMap<Epoch, Record>,
    /// By leader and peer.
    lacking: Vec<Lacking>,
    /// By leader: what earlier terms left is mended.
    mended: [bool; NODES_MAX],
    /// An operator has forced something: two leaders of one epoch are to be expected.
    pub(crate) forced: bool,
    /// Replicas that have nothing, and have not joined since.
    pub(crate) blank: ReplicaSet,
    /// Some copy has been given up, or its disk replaced.
    pub(crate) gave_up: bool,
}

impl Rules {
    pub(crate) fn new(sectors: u64) -> Rules {
        Rules {
            leaders: BTreeMap::new(),
            records: BTreeMap::new(),
            lacking: (0..NODES_MAX * NODES_MAX).map(|_| Lacking::new(sectors)).collect(),
            mended: [false; NODES_MAX],
            forced: false,
            blank: ReplicaSet::EMPTY,
            gave_up: false,
        }
    }

    /// A node says that it leads.
    pub(crate) fn leads(&mut self, node: usize, run: u32, epoch: Epoch) -> Wrong {
        for lacking in &mut self.lacking[node * NODES_MAX..][..NODES_MAX] {
            lacking.forget();
        }
        self.mended[node] = false;
        let known = *self.leaders.entry(epoch).or_insert((node, run));
        let is_other = known != (node, run) && !self.forced;
        is_other.then(|| {
            let (other, run) = known;
            (Checker::Leadership, format!("nodes {other} (run {run}) and {node} both lead in epoch {epoch}"))
        })
    }

    /// A node says that a record is in force.
    pub(crate) fn in_force(&mut self, record: &Record) -> Wrong {
        let known = *self.records.entry(record.epoch).or_insert(*record);
        let is_other = known != *record && !self.forced;
        is_other.then(|| {
            (Checker::Leadership, format!("two records of one epoch in force: {known:?}, {record:?}"))
        })
    }

    /// The in-sync set of the latest record known to be in force.
    pub(crate) fn in_sync(&self) -> ReplicaSet {
        self.records.last_key_value().map_or(ReplicaSet::EMPTY, |(_, record)| record.in_sync)
    }

    /// Who leads by that record.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        self.records.last_key_value()?.1.leader
    }

    /// A peer is in sync with a leader that has just said so.
    pub(crate) fn joined(&mut self, leader: usize, peer: usize) {
        self.blank = self.blank.without(ReplicaId(peer as u8));
        self.lacking[leader * NODES_MAX + peer].known = self.mended[leader];
    }

    /// A node sends a promise.
    pub(crate) fn promised(node: usize, epoch: Epoch, stored: &Stored) -> Wrong {
        let on_disk = stored.superblock.as_ref().map_or(Epoch(0), |superblock| superblock.promised);
        (on_disk < epoch).then(|| {
            (Checker::Promises, format!("node {node} promises epoch {epoch}, and {on_disk} is on its disk"))
        })
    }

    /// A node says that it has adopted a record.
    pub(crate) fn adopted(node: usize, epoch: Epoch, stored: &Stored) -> Wrong {
        let record = stored.superblock.as_ref().and_then(|superblock| superblock.record);
        let on_disk = record.map_or(Epoch(0), |record| record.epoch);
        (on_disk < epoch).then(|| {
            (Checker::Promises, format!("node {node} adopts epoch {epoch}, and {on_disk} is on its disk"))
        })
    }

    /// Metadata is on disk now.
    pub(crate) fn stored(node: usize, before: &Stored, record: &MetadataRecord) -> Wrong {
        let MetadataRecord::Superblock(new) = record else { return None };
        let old = before.superblock.as_ref()?;
        if new.promised < old.promised {
            let text = format!("node {node} goes back from promise {} to {}", old.promised, new.promised);
            return Some((Checker::Promises, text));
        }
        if let (Some(was), Some(is)) = (&old.record, &new.record)
            && is.epoch < was.epoch
        {
            let text = format!("node {node} goes back from epoch {} to {}", was.epoch, is.epoch);
            return Some((Checker::Promises, text));
        }
        let (had, has) = (whole_history(old), whole_history(new));
        (old.history != new.history && had.compare(&has) == Comparison::Diverged).then(|| {
            (
                Checker::Divergence,
                format!("node {node} gives up {had:?} for {has:?}, and nobody discarded it"),
            )
        })
    }

    /// Whether a change that somebody asks a node for is of an epoch older than its promise, and not its leader's.
    pub(crate) fn is_old(from: usize, epoch: Epoch, stored: &Stored) -> bool {
        let Some(superblock) = &stored.superblock else { return false };
        let leader = superblock.record.and_then(|record| record.leader);
        epoch < superblock.promised && leader != Some(ReplicaId(from as u8))
    }

    /// A node is about to change bytes of its disk: a member marks them first.
    pub(crate) fn changes(node: usize, own: u8, range: ByteRange, stored: &Stored) -> Wrong {
        let superblock = stored.superblock.as_ref()?;
        let is_member = superblock.record?.in_sync.0 >> own & 1 == 1;
        if !is_member {
            return None;
        }
        let (first, last) =
            (range.start / SECTOR / EXTENT_SECTORS, (range.end() / SECTOR - 1) / EXTENT_SECTORS);
        let marked = (first..=last).all(|extent| stored.activity.binary_search(&(extent as u32)).is_ok());
        (!marked)
            .then(|| (Checker::Marks, format!("node {node} writes {range:?}, and no mark is on its disk")))
    }

    /// A leader writes.
    pub(crate) fn writes(&mut self, leader: usize, range: ByteRange) {
        for lacking in &mut self.lacking[leader * NODES_MAX..][..NODES_MAX] {
            for region in regions(range) {
                lacking.missed[region] += 1;
            }
        }
    }

    /// A leader sends what it writes.
    pub(crate) fn sends(&mut self, leader: usize, peer: usize, range: ByteRange, now: u64) {
        let lacking = &mut self.lacking[leader * NODES_MAX + peer];
        for region in regions(range) {
            lacking.missed[region] = lacking.missed[region].saturating_sub(1);
            lacking.sent[region] = now;
        }
    }

    /// A leader's link to a peer is gone: what it has not confirmed counts as missed.
    pub(crate) fn unlinked(&mut self, leader: usize, peer: usize) {
        let lacking = &mut self.lacking[leader * NODES_MAX + peer];
        lacking.asked.clear();
        for (sent, missed) in lacking.sent.iter().zip(&mut lacking.missed) {
            if *sent > lacking.confirmed {
                *missed = 1;
            }
        }
    }

    /// A copy has been given up: it lacks everything.
    pub(crate) fn discarded(&mut self, peer: usize) {
        self.gave_up = true;
        self.blank = self.blank.with(ReplicaId(peer as u8));
        for leader in 0..NODES_MAX {
            self.lacking[leader * NODES_MAX + peer].known = false;
        }
    }

    /// A leader asks a peer for a flush.
    pub(crate) fn flush_asked(&mut self, leader: usize, peer: usize, flush: FlushId, now: u64) {
        self.lacking[leader * NODES_MAX + peer].asked.push((flush, now));
    }

    /// A leader says that a flush is done everywhere.
    pub(crate) fn flush_done(&mut self, leader: usize, peer: usize, flush: FlushId, mended: bool) {
        self.mended[leader] |= mended;
        let lacking = &mut self.lacking[leader * NODES_MAX + peer];
        if let Some(&(_, began)) = lacking.asked.iter().find(|(asked, _)| *asked == flush) {
            lacking.confirmed = lacking.confirmed.max(began);
        }
        lacking.asked.retain(|(asked, _)| *asked > flush);
    }

    /// A leader sends bytes of a resync.
    pub(crate) fn resends(&mut self, leader: usize, peer: usize, range: ByteRange, now: u64) -> Wrong {
        let lacking = &mut self.lacking[leader * NODES_MAX + peer];
        let superfluous = regions(range)
            .find(|&region| lacking.missed[region] == 0 && lacking.sent[region] <= lacking.confirmed)
            .filter(|_| lacking.known);
        for region in regions(range) {
            lacking.missed[region] = 0;
            lacking.sent[region] = now;
        }
        superfluous.map(|region| {
            (
                Checker::Resync,
                format!("node {leader} sends region {region} again, which node {peer} cannot lack"),
            )
        })
    }
}

impl Lacking {
    fn new(sectors: u64) -> Lacking {
        let count = sectors.div_ceil(REGION_SECTORS) as usize;
        Lacking { sent: vec![0; count], missed: vec![0; count], ..Lacking::default() }
    }

    fn forget(&mut self) {
        self.known = false;
        self.asked.clear();
        self.confirmed = 0;
        self.sent.fill(0);
        self.missed.fill(0);
    }
}

/// Whose writes a copy holds.
fn whole_history(superblock: &Superblock) -> History {
    let mut history = superblock.history.clone();
    let counts = |record: &&Record| superblock.in_force && record.in_sync.contains(superblock.replica);
    if let Some(record) = superblock.record.as_ref().filter(counts) {
        history.extend(record);
    }
    history
}

fn regions(range: ByteRange) -> std::ops::RangeInclusive<usize> {
    let region = REGION_SECTORS * SECTOR;
    (range.start / region) as usize..=((range.end() - 1) / region) as usize
}
