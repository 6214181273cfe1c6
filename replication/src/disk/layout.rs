//! Where in the file a record lies.
//!
//! ```text
//! file    head │ group 0: replica 0 … replica 7 │ group 1: replica 0 … │ …            chunks of 128 KiB
//! chunk   half for even generations, 64 KiB │ half for odd generations, 64 KiB
//! head    identity 4 │ superblock 4 │ activity log 20 │ unused 36                      KiB, in each half
//! group   16 pages of that replica's bitmap, 4 KiB each                                in each half
//! ```
//! Its one rule: a place depends on nothing but the record's name, so more regions or replicas move nothing.

use std::fmt;

use crate::id::ReplicaId;
use crate::region::Geometry;
use crate::superblock::{BitmapPage, MetadataRecord};

/// What is read at once.
pub const CHUNK_BYTES: usize = 2 * HALF_BYTES;
/// Offset and length of every write are multiples of this.
pub const SLOT_BYTES: usize = 4096;

pub(super) const HALF_BYTES: usize = 64 << 10;
const PAGES_PER_CHUNK: u32 = (HALF_BYTES / SLOT_BYTES) as u32;
pub(super) const ACTIVITY_BYTES: usize = 5 * SLOT_BYTES;

/// Which record. What has the same name replaces what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordName {
    /// Whose file it is.
    Identity,
    /// The superblock.
    Superblock,
    /// The activity log.
    Activity,
    /// A page of a bitmap.
    Bitmap {
        /// Whose.
        of: ReplicaId,
        /// Which page.
        page: u32,
    },
}

impl RecordName {
    pub(super) fn of(record: &MetadataRecord) -> RecordName {
        match record {
            MetadataRecord::Superblock(_) => RecordName::Superblock,
            MetadataRecord::Activity(_) => RecordName::Activity,
            MetadataRecord::Bitmap(page) => RecordName::Bitmap { of: page.of, page: page.page },
        }
    }

    /// How long the record's slot is at most.
    pub(super) fn slot_bytes(self) -> usize {
        if self == RecordName::Activity { ACTIVITY_BYTES } else { SLOT_BYTES }
    }

    /// Where in each half of its chunk it lies.
    pub(super) fn at(self) -> usize {
        match self {
            RecordName::Identity => 0,
            RecordName::Superblock => SLOT_BYTES,
            RecordName::Activity => 2 * SLOT_BYTES,
            RecordName::Bitmap { page, .. } => (page % PAGES_PER_CHUNK) as usize * SLOT_BYTES,
        }
    }

    fn chunk(self) -> u64 {
        match self {
            RecordName::Bitmap { of, page } => bitmap_chunk(page / PAGES_PER_CHUNK, of),
            RecordName::Identity | RecordName::Superblock | RecordName::Activity => 0,
        }
    }

    /// Where in the file this generation of it lies.
    pub(super) fn offset(self, generation: u64) -> u64 {
        self.chunk() * CHUNK_BYTES as u64 + (half_of(generation) * HALF_BYTES + self.at()) as u64
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordName::Identity => f.write_str("the identity"),
            RecordName::Superblock => f.write_str("the superblock"),
            RecordName::Activity => f.write_str("the activity log"),
            RecordName::Bitmap { of, page } => write!(f, "page {page} of the bitmap of {of}"),
        }
    }
}

/// Which half of a chunk is for this generation.
pub(super) fn half_of(generation: u64) -> usize {
    (generation & 1) as usize
}

fn bitmap_chunk(group: u32, of: ReplicaId) -> u64 {
    1 + u64::from(group) * ReplicaId::COUNT_MAX as u64 + u64::from(of.0)
}

/// How the file of one volume is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pages: u32,
    replicas: u8,
}

impl Layout {
    /// For a volume with so many replicas.
    pub fn new(geometry: &Geometry, replicas: usize) -> Layout {
        assert!(replicas <= ReplicaId::COUNT_MAX, "a volume has at most 8 replicas");
        Layout { pages: geometry.extents().div_ceil(BitmapPage::PAGE_EXTENTS), replicas: replicas as u8 }
    }

    /// The file's length. Most of it is a hole: it is for as many replicas as a volume may ever have.
    pub fn file_bytes(&self) -> u64 {
        bitmap_chunk(self.groups(), ReplicaId(0)) * CHUNK_BYTES as u64
    }

    fn groups(&self) -> u32 {
        self.pages.div_ceil(PAGES_PER_CHUNK)
    }

    /// The offset of the n-th chunk that matters: the head is number 0.
    pub(super) fn chunk_offset(&self, number: u64) -> Option<u64> {
        let chunk = match self.bitmap_of(number) {
            _ if number == 0 => 0,
            Some((group, of)) => bitmap_chunk(group, of),
            None => return None,
        };
        Some(chunk * CHUNK_BYTES as u64)
    }

    /// The pages in the n-th chunk that matters.
    pub(super) fn pages_in(&self, number: u64) -> impl Iterator<Item = RecordName> + use<> {
        let pages = self.pages;
        let found = self.bitmap_of(number).into_iter();
        found.flat_map(move |(group, of)| {
            let first = group * PAGES_PER_CHUNK;
            (first..pages.min(first + PAGES_PER_CHUNK)).map(move |page| RecordName::Bitmap { of, page })
        })
    }

    fn bitmap_of(&self, number: u64) -> Option<(u32, ReplicaId)> {
        let replicas = u64::from(self.replicas);
        let index = number.checked_sub(1).filter(|_| replicas > 0)?;
        let group = index / replicas;
        (group < u64::from(self.groups())).then(|| (group as u32, ReplicaId((index % replicas) as u8)))
    }
}
