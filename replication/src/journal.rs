//! What a replica writes down: superblock, activity log, bitmaps; and what it knows of who may lack what.
//!
//! ```text
//! a change of bytes ─▶ unconfirmed(each member) ─ flush ─▶ gone
//!                   └▶ dirty(each absentee)     ─ resync ─▶ unconfirmed ─ flush ─▶ gone
//! on disk:  dirty and unconfirmed of an absentee ⊆ its bitmap ∪ the activity log      (at every moment)
//! ```
//! Its one rule: an extent's mark is dropped only when nobody needs it: every member has confirmed the extent
//! durable, also one that is lost until a record without it is in force; and what absentees lack of it is in their
//! bitmaps on disk.

mod activity;
mod lack;

pub(crate) use activity::Mark;
pub(crate) use lack::Lack;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use self::activity::Activity;
use crate::effect::Effect;
use crate::fault::DiskFault;
use crate::history::History;
use crate::id::{OpId, ReplicaId, ReplicaSet};
use crate::region::{ByteRange, Geometry, RegionSet};
use crate::superblock::{BitmapPage, MetadataRecord, Stored, Superblock};

/// So many pages of bitmaps are written at once.
const PAGES_WRITING_MAX: usize = 4;

/// A state of the superblock: durable once `Journal::is_durable` says so.
pub(crate) type Version = u64;

#[derive(Clone, Copy, Debug)]
enum Writing {
    Superblock(Version),
    Activity(Version),
    Page(ReplicaId, u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Journal {
    own: ReplicaId,
    geometry: Geometry,
    superblock: Superblock,
    version: Version,
    durable: Version,
    pub(crate) activity: Activity,
    /// What each replica may lack, by number. Our own has only `unconfirmed`.
    lacks: Vec<Lack>,
    /// Where our copy may differ from others' since an earlier term, ours or another's.
    pub(crate) inherited: RegionSet,
    /// Members of the last record in force, and of every one since: as long as they are, one of them may lead next, and
    /// know nothing of what it lacks.
    members: ReplicaSet,
    writing: BTreeMap<OpId, Writing>,
    pub(crate) failed: Option<DiskFault>,
    /// The last run ended with marks in the activity log.
    pub(crate) unclean: bool,
}

impl Journal {
    pub(crate) fn open(
        own: ReplicaId,
        geometry: Geometry,
        new: Superblock,
        stored: Stored,
        replicas: usize,
    ) -> Journal {
        let is_new = stored.superblock.is_none();
        let superblock = stored.superblock.unwrap_or(new);
        let inherited: RegionSet = stored
            .activity
            .iter()
            .filter(|&&extent| extent < geometry.extents())
            .map(|&extent| (extent, geometry.extent_mask(extent)))
            .collect();
        let mut bitmaps = stored.bitmaps;
        bitmaps.resize(replicas, RegionSet::new());
        let mut lacks = Vec::new();
        for (index, mut dirty) in bitmaps.into_iter().enumerate() {
            let replica = ReplicaId(index as u8);
            if superblock.full.contains(replica) {
                dirty = RegionSet::full(&geometry);
            }
            let mut lack = Lack::new(dirty);
            if replica != own {
                lack.add_dirty(&inherited);
            }
            lacks.push(lack);
        }
        let members = superblock.record.map_or(ReplicaSet::EMPTY, |record| record.in_sync);
        Journal {
            own,
            geometry,
            superblock,
            members,
            version: u64::from(is_new),
            durable: 0,
            activity: Activity::open(&stored.activity),
            lacks,
            inherited,
            writing: BTreeMap::new(),
            failed: None,
            unclean: !stored.activity.is_empty(),
        }
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Changes the superblock; the version is the state after it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Superblock)) -> Version {
        let before = self.superblock.clone();
        change(&mut self.superblock);
        assert!(self.superblock.promised >= before.promised, "a promise is never taken back");
        if self.superblock != before {
            self.version += 1;
        }
        self.version
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn is_durable(&self, version: Version) -> bool {
        self.durable >= version
    }

    /// Whose writes our copy must be taken to hold.
    pub(crate) fn history(&self) -> History {
        let mut history = self.superblock.history.clone();
        if let Some(record) = &self.superblock.record
            && self.superblock.in_force
            && record.in_sync.contains(self.own)
        {
            history.extend(record);
        }
        history
    }

    pub(crate) fn lack(&self, replica: ReplicaId) -> &Lack {
        &self.lacks[replica.index()]
    }

    pub(crate) fn lack_mut(&mut self, replica: ReplicaId) -> &mut Lack {
        &mut self.lacks[replica.index()]
    }

    /// Bytes here are about to change on `holders`: unconfirmed there, lacking elsewhere.
    #[inline]
    pub(crate) fn note_change(&mut self, range: ByteRange, holders: ReplicaSet) {
        let geometry = self.geometry;
        for (index, lack) in self.lacks.iter_mut().enumerate() {
            if holders.contains(ReplicaId(index as u8)) {
                lack.unconfirmed.insert(&geometry, range);
            } else {
                lack.insert_dirty(&geometry, range);
            }
        }
    }

    /// Where our copy may hold what others do not, or others what ours does not.
    pub(crate) fn activity_report(&self) -> RegionSet {
        let mut report = self.inherited.clone();
        for lack in &self.lacks {
            lack.unconfirmed.add_to(&mut report);
        }
        report
    }

    pub(crate) fn members(&self) -> ReplicaSet {
        self.members
    }

    /// Who is a member, by the last record in force or by one since, has changed.
    pub(crate) fn set_members(&mut self, members: ReplicaSet) {
        self.members = members;
    }

    /// What is not confirmed now belongs to an earlier term, whoever leads the next.
    pub(crate) fn inherit(&mut self) {
        let own = self.own;
        for (index, lack) in self.lacks.iter_mut().enumerate() {
            let replica = ReplicaId(index as u8);
            lack.unconfirmed.add_to(&mut self.inherited);
            if replica == own {
                lack.unconfirmed.clear();
                continue;
            }
            if self.members.contains(replica) {
                // It was lost, and no record without it is in force: who leads next may know nothing of these writes.
                self.inherited.union(lack.dirty());
            }
            lack.forget_confirmation();
        }
    }

    /// A replica is no longer a member: what it never confirmed, it may lack.
    pub(crate) fn leaves(&mut self, replica: ReplicaId) {
        let inherited = &self.inherited;
        let lack = &mut self.lacks[replica.index()];
        lack.forget_confirmation();
        lack.add_dirty(inherited);
    }

    /// A replica has all: nothing that was noted of it counts any more.
    pub(crate) fn joins(&mut self, replica: ReplicaId) {
        self.lacks[replica.index()].clear_dirty();
    }

    /// How it stands with the marks of a range, if all its extents have one.
    #[inline]
    pub(crate) fn touch(&mut self, range: ByteRange) -> Option<Mark> {
        self.activity.touch(self.geometry.extents_of(range))
    }

    /// Wants the extents of a range marked. Beyond `soft` marks, those that nobody needs are dropped; beyond `hard`
    /// there is no room.
    #[inline]
    pub(crate) fn mark(&mut self, range: ByteRange, soft: usize, hard: usize) -> Mark {
        match self.touch(range) {
            Some(mark) => mark,
            None => self.add_marks(self.geometry.extents_of(range), soft, hard),
        }
    }

    fn add_marks(&mut self, extents: RangeInclusive<u32>, soft: usize, hard: usize) -> Mark {
        let missing = self.activity.missing(extents.clone());
        let wanted = self.activity.count() + missing;
        if wanted > soft {
            self.evict((wanted - soft).max(soft / 16), &extents);
        }
        if self.activity.count() + missing > hard.max(extents.clone().count()) {
            return Mark::Full;
        }
        self.activity.add(extents)
    }

    /// Drops marks that nobody needs, least used first, up to so many.
    fn evict(&mut self, count: usize, keep: &RangeInclusive<u32>) {
        let mut evicted = 0;
        for extent in self.activity.least_used() {
            if evicted == count {
                break;
            }
            if !keep.contains(&extent) && self.is_clean(extent) {
                self.activity.drop_mark(extent);
                evicted += 1;
            }
        }
    }

    /// Drops every mark that nobody needs.
    pub(crate) fn drop_clean(&mut self) {
        for extent in self.activity.least_used() {
            if self.is_clean(extent) {
                self.activity.drop_mark(extent);
            }
        }
    }

    /// Whether nobody needs the extent's mark. Pages that stand in the way will be written.
    fn is_clean(&mut self, extent: u32) -> bool {
        if self.inherited.mask(extent) != 0 {
            return false;
        }
        let mut clean = true;
        for (index, lack) in self.lacks.iter_mut().enumerate() {
            let replica = ReplicaId(index as u8);
            // Also of one that is being brought up to date: it still lacks what is not sent.
            let is_noted = self.superblock.full.contains(replica) || lack.is_saved(extent);
            let is_lost = self.members.contains(replica) && lack.dirty().mask(extent) != 0;
            clean &= lack.unconfirmed.mask(extent) == 0 && is_noted && !is_lost;
        }
        clean
    }

    /// Whether anything is written and not confirmed durable by all who have it.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.lacks.iter().any(|lack| !lack.unconfirmed.is_empty())
    }

    /// Wants all bitmaps of absentees on disk.
    pub(crate) fn save_bitmaps(&mut self) {
        for lack in &mut self.lacks {
            lack.want_saved();
        }
    }

    /// Whether the bitmaps of these are on disk as they are.
    pub(crate) fn are_saved(&self, replicas: ReplicaSet) -> bool {
        replicas
            .iter()
            .all(|replica| self.superblock.full.contains(replica) || self.lack(replica).all_saved())
    }

    /// Starts what is due, one write of each kind at a time.
    pub(crate) fn pump(&mut self, next_op: &mut u64, out: &mut Vec<Effect>) {
        if self.failed.is_some() {
            return;
        }
        let (mut superblock, mut activity) = (false, false);
        for writing in self.writing.values() {
            superblock |= matches!(writing, Writing::Superblock(_));
            activity |= matches!(writing, Writing::Activity(_));
        }
        if !superblock && self.durable < self.version {
            let record = MetadataRecord::Superblock(self.superblock.clone());
            self.start(Writing::Superblock(self.version), record, next_op, out);
        }
        if !activity && let Some((version, extents)) = self.activity.to_write() {
            self.start(Writing::Activity(version), MetadataRecord::Activity(extents), next_op, out);
        }
        self.pump_pages(next_op, out);
    }

    fn pump_pages(&mut self, next_op: &mut u64, out: &mut Vec<Effect>) {
        let mut count: usize = self.lacks.iter().map(Lack::pages_writing).sum();
        for index in 0..self.lacks.len() {
            let of = ReplicaId(index as u8);
            while count < PAGES_WRITING_MAX
                && let Some(page) = self.lacks[index].next_page()
            {
                let words = self.lacks[index].page_words(page);
                let record = MetadataRecord::Bitmap(BitmapPage { of, page, words });
                self.start(Writing::Page(of, page), record, next_op, out);
                count += 1;
            }
        }
    }

    fn start(&mut self, writing: Writing, record: MetadataRecord, next_op: &mut u64, out: &mut Vec<Effect>) {
        *next_op += 1;
        let op = OpId(*next_op);
        self.writing.insert(op, writing);
        out.push(Effect::WriteMetadata { op, record });
    }

    /// A write has ended.
    pub(crate) fn done(&mut self, op: OpId, result: Result<(), DiskFault>) {
        let writing = self.writing.remove(&op).expect("a metadata write ends once");
        if let Err(fault) = result {
            self.failed = Some(fault);
            return;
        }
        match writing {
            Writing::Superblock(version) => self.durable = version,
            Writing::Activity(version) => self.activity.written(version),
            Writing::Page(of, page) => self.lacks[of.index()].page_written(page),
        }
    }
}
