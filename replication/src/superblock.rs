//! What a replica keeps on disk beside its bytes, as values.
//!
//! Written by `Effect::WriteMetadata`, a record at a time, and read back whole into `Stored` at the next start.
//! Its one rule: a record that was being written when the power went is either as before or as written, never torn.

use crate::coordinator::Record;
use crate::history::History;
use crate::id::{Epoch, NodeId, ReplicaId, ReplicaSet, VolumeId};
use crate::region::RegionSet;

/// What a replica must never forget.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Superblock {
    /// Whose copy this is.
    pub node: NodeId,
    /// Which replica of the volume.
    pub replica: ReplicaId,
    /// Of which volume. None until it has joined one.
    pub volume: Option<VolumeId>,
    /// Changes when a term begins before which acknowledged writes that nobody had flushed may have been lost. 0: none
    /// has begun.
    pub era: u64,
    /// The volume's size.
    pub size_bytes: u64,
    /// How its bitmaps are cut.
    pub region_bytes: u64,
    /// Nothing older is obeyed (rule 4).
    pub promised: Epoch,
    /// The latest record that this replica knows.
    pub record: Option<Record>,
    /// Whether `record` is known to be in force: agreed to by all that had to. (Some writes may count on it.)
    pub in_force: bool,
    /// Whose writes this copy holds whole. Stands still while the replica is out of the in-sync set.
    pub history: History,
    /// Replicas that lack everything, whatever their bitmap says.
    pub full: ReplicaSet,
    /// Replicas that have ever been in the in-sync set: one of them that comes back empty lacks everything.
    pub joined: ReplicaSet,
    /// A resync into this copy has begun and not ended: its bytes are of two times.
    pub mixed: bool,
}

impl Superblock {
    /// The volume whose data this copy holds, or some of it. (A UUID without a record is only an intention.)
    pub fn joined_volume(&self) -> Option<VolumeId> {
        self.volume.filter(|_| self.record.is_some())
    }
}

/// Part of the bitmap of one absent replica: what it may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapPage {
    /// Whose.
    pub of: ReplicaId,
    /// Which page: extents `page * PAGE_EXTENTS ..`.
    pub page: u32,
    /// `PAGE_EXTENTS` words, one for each extent, bit n for its region n.
    pub words: Vec<u64>,
}

impl BitmapPage {
    /// So many extents a page: 2 KiB of words, 1 GiB of the volume with regions of 64 KiB.
    pub const PAGE_EXTENTS: u32 = 256;
}

/// One thing to write: replaces what was there under the same name (superblock, activity log, page n of replica r).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The superblock.
    Superblock(Superblock),
    /// The activity log: the extents that are marked, in order; at most `Limits::ACTIVE_EXTENTS_MAX`.
    Activity(Vec<u32>),
    /// A page of a bitmap.
    Bitmap(BitmapPage),
}

/// What was read at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// None: a new replica.
    pub superblock: Option<Superblock>,
    /// The extents marked.
    pub activity: Vec<u32>,
    /// What each other replica may lack, by its number; may be shorter than the list of replicas.
    pub bitmaps: Vec<RegionSet>,
}

impl Stored {
    /// As if this had been written: what a simulator's or a test's disk does.
    pub fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Superblock(superblock) => self.superblock = Some(superblock.clone()),
            MetadataRecord::Activity(extents) => self.activity.clone_from(extents),
            MetadataRecord::Bitmap(page) => {
                let index = page.of.index();
                if self.bitmaps.len() <= index {
                    self.bitmaps.resize(index + 1, RegionSet::new());
                }
                let first = page.page * BitmapPage::PAGE_EXTENTS;
                for (extent, &word) in (first..).zip(&page.words) {
                    self.bitmaps[index].remove_mask(extent, !word);
                    self.bitmaps[index].insert_mask(extent, word);
                }
            }
        }
    }
}
