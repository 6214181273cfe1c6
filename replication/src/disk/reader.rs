//! The file to records, at the start.
//!
//! ```text
//! two places of a record    what is read
//! valid, valid              the later generation
//! valid, damaged or zero    the valid one: the other was being written when the power went
//! zero, damaged             a page of a bitmap: all of its regions, which is never too few
//! zero, zero                a page of a bitmap: none
//! damaged, damaged          refused
//! ```
//! Its one rule: nothing that was durable is ever taken for empty.

use super::Identity;
use super::layout::{CHUNK_BYTES, HALF_BYTES, Layout, RecordName};
use super::slot::Slot;
use super::writer::Writer;
use crate::config::Limits;
use crate::fault::OpenError;
use crate::id::{NodeId, ReplicaId};
use crate::region::{Geometry, RegionSet};
use crate::superblock::{BitmapPage, Stored, Superblock};
use crate::wire::encoding;

/// A superblock needs no more memory than this.
const MEMORY_BYTES_MAX: usize = 16 << 10;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing was ever written to it: `format` it.
    #[error("the metadata file is new")]
    NotFormatted,
    /// Somebody else's file.
    #[error(
        "the file is no metadata of a replica: check its path, or remove the file to begin with an empty copy"
    )]
    NotMetadata,
    /// From the future, or the past.
    #[error("the metadata has format version {0}, this build knows version 1: run the version that wrote it")]
    OtherVersion(u16),
    /// It is cut short.
    #[error("the metadata file has {found} bytes and needs {needed}: it was cut short; {BEGIN_ANEW}")]
    Short {
        /// Its length.
        found: u64,
        /// What it must have.
        needed: u64,
    },
    /// A record cannot be read.
    #[error("in the metadata file {0} is damaged in both of its places; {BEGIN_ANEW}")]
    Damaged(RecordName),
    /// It is whole, and of another replica.
    #[error(transparent)]
    Other(#[from] OpenError),
}

const BEGIN_ANEW: &str = "remove the file, and this copy begins anew and receives everything from the leader \
    (first make sure that another replica is in sync)";

/// What was found damaged, and got over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// One place of this record.
    pub record: RecordName,
    /// There was nothing in the other place: all that the page could say is assumed.
    pub assumed_all: bool,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let instead =
            if self.assumed_all { "all of its regions are sent again" } else { "the other is used" };
        write!(f, "one of the two places of {} is damaged, as by a power loss: {instead}", self.record)
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// For `Replica::open`.
    pub stored: Stored,
    /// For all that follows.
    pub writer: Writer,
    /// For the log.
    pub damages: Vec<Damage>,
}

/// Reads a file whose bytes somebody else fetches.
#[derive(Debug)]
pub struct Reader {
    identity: Identity,
    layout: Layout,
    file_bytes: u64,
    /// The chunk that is wanted.
    number: u64,
    opened: Opened,
}

/// All of a file at once.
pub fn read(image: &[u8], identity: &Identity, replicas: usize) -> Result<Opened, ReadError> {
    let mut reader = Reader::new(identity, replicas, image.len() as u64)?;
    while let Some(offset) = reader.wants() {
        reader.take(Some(&image[offset as usize..][..CHUNK_BYTES]))?;
    }
    Ok(reader.finish())
}

impl Reader {
    /// For a file of so many bytes, which must be metadata of this replica. An empty file is `NotFormatted`.
    pub fn new(identity: &Identity, replicas: usize, file_bytes: u64) -> Result<Reader, ReadError> {
        if file_bytes == 0 {
            return Err(ReadError::NotFormatted);
        }
        // Before its geometry is known to be ours, nothing but the head counts.
        if file_bytes < CHUNK_BYTES as u64 {
            return Err(ReadError::Short { found: file_bytes, needed: CHUNK_BYTES as u64 });
        }
        let stored = Stored { bitmaps: vec![RegionSet::new(); replicas], ..Stored::default() };
        let opened = Opened { stored, writer: Writer::default(), damages: Vec::new() };
        let layout = Layout::new(&identity.geometry, replicas);
        Ok(Reader { identity: *identity, layout, number: 0, file_bytes, opened })
    }

    /// Where the next `CHUNK_BYTES` are that it wants; None: call `finish`.
    pub fn wants(&self) -> Option<u64> {
        self.layout.chunk_offset(self.number)
    }

    /// Takes what it wants. None: a hole, which reads as zero.
    pub fn take(&mut self, chunk: Option<&[u8]>) -> Result<(), ReadError> {
        assert!(chunk.is_none_or(|bytes| bytes.len() == CHUNK_BYTES), "a chunk is taken whole");
        match (self.number, chunk) {
            (0, None) => return Err(ReadError::NotFormatted),
            (0, Some(bytes)) => self.take_head(bytes)?,
            (_, None) => {}
            (number, Some(bytes)) => {
                for name in self.layout.pages_in(number) {
                    self.take_page(name, bytes)?;
                }
            }
        }
        self.number += 1;
        Ok(())
    }

    /// After the last.
    pub fn finish(self) -> Opened {
        assert!(self.wants().is_none(), "it has taken all that it wanted");
        self.opened
    }
}

/// What the two places of a record say together.
#[derive(Clone, Copy, Debug)]
enum Pair<'a> {
    Never,
    Valid {
        generation: u64,
        body: &'a [u8],
        beside_damage: bool,
    },
    /// The first write of it was cut short, or is rotten.
    FirstDamaged,
    Damaged,
}

fn slots(name: RecordName, chunk: &[u8]) -> [Slot<'_>; 2] {
    [0, 1].map(|half| Slot::read(name, half, &chunk[half * HALF_BYTES + name.at()..][..name.slot_bytes()]))
}

fn pair(name: RecordName, chunk: &[u8]) -> Pair<'_> {
    let slots = slots(name, chunk);
    let valid = slots.iter().filter_map(|slot| match *slot {
        Slot::Valid { generation, body } => Some((generation, body)),
        _ => None,
    });
    let count = |what: fn(&Slot<'_>) -> bool| slots.iter().filter(|slot| what(slot)).count();
    let zeros = count(|slot| *slot == Slot::Zero);
    let bad = 2 - zeros - count(|slot| matches!(slot, Slot::Valid { .. }));
    match (valid.max_by_key(|(generation, _)| *generation), zeros) {
        (Some((generation, body)), _) => Pair::Valid { generation, body, beside_damage: bad > 0 },
        (None, 2) => Pair::Never,
        (None, 1) => Pair::FirstDamaged,
        (None, _) => Pair::Damaged,
    }
}

/// Whether nothing was written after `format`, which itself may have been cut short.
fn is_fresh(head: &[u8]) -> bool {
    let untouched = |slot: &Slot<'_>| matches!(slot, Slot::Zero | Slot::Valid { generation: 0, .. });
    [RecordName::Superblock, RecordName::Activity].iter().all(|&name| slots(name, head).iter().all(untouched))
}

impl Reader {
    fn take_head(&mut self, head: &[u8]) -> Result<(), ReadError> {
        self.take_identity(head)?;
        let needed = self.layout.file_bytes();
        if self.file_bytes < needed {
            return Err(ReadError::Short { found: self.file_bytes, needed });
        }
        let superblock = self.must_have(RecordName::Superblock, head)?;
        let activity = self.must_have(RecordName::Activity, head)?;
        let stored = &mut self.opened.stored;
        stored.superblock = superblock_of(superblock).ok_or(ReadError::Damaged(RecordName::Superblock))?;
        stored.activity = activity_of(activity).ok_or(ReadError::Damaged(RecordName::Activity))?;
        Ok(())
    }

    fn take_identity(&mut self, head: &[u8]) -> Result<(), ReadError> {
        let name = RecordName::Identity;
        let slots = slots(name, head);
        let other = slots.iter().find_map(|slot| match slot {
            Slot::OtherVersion(version) => Some(*version),
            _ => None,
        });
        let body = match (pair(name, head), other) {
            (Pair::Valid { generation, body, beside_damage }, _) => {
                self.note(name, generation, beside_damage);
                body
            }
            (_, Some(version)) => return Err(ReadError::OtherVersion(version)),
            (Pair::Never, None) if is_fresh(head) => return Err(ReadError::NotFormatted),
            _ if slots.iter().all(|slot| matches!(slot, Slot::Foreign | Slot::Zero))
                && !self.has_ours(head) =>
            {
                return Err(ReadError::NotMetadata);
            }
            _ => return Err(ReadError::Damaged(name)),
        };
        let stored = identity_of(body).ok_or(ReadError::Damaged(name))?;
        Ok(check_identity(&stored, &self.identity)?)
    }

    /// Whether anything else in the head is metadata.
    fn has_ours(&self, head: &[u8]) -> bool {
        let is_ours = |slot: &Slot<'_>| !matches!(slot, Slot::Foreign | Slot::Zero);
        [RecordName::Superblock, RecordName::Activity]
            .iter()
            .any(|&name| slots(name, head).iter().any(is_ours))
    }

    /// The body of a record that `format` has written.
    fn must_have<'a>(&mut self, name: RecordName, head: &'a [u8]) -> Result<&'a [u8], ReadError> {
        match pair(name, head) {
            Pair::Valid { generation, body, beside_damage } => {
                self.note(name, generation, beside_damage);
                Ok(body)
            }
            Pair::Never if is_fresh(head) => Err(ReadError::NotFormatted),
            Pair::Never | Pair::FirstDamaged | Pair::Damaged => Err(ReadError::Damaged(name)),
        }
    }

    fn take_page(&mut self, name: RecordName, chunk: &[u8]) -> Result<(), ReadError> {
        let RecordName::Bitmap { of, page } = name else { unreachable!("a page of a bitmap") };
        match pair(name, chunk) {
            Pair::Never => Ok(()),
            Pair::Valid { generation, body, beside_damage } => {
                self.note(name, generation, beside_damage);
                let words = body
                    .chunks_exact(8)
                    .map(|word| u64::from_le_bytes(word.try_into().expect("a word has eight bytes")));
                if words.len() != BitmapPage::PAGE_EXTENTS as usize {
                    return Err(ReadError::Damaged(name));
                }
                self.put_words(of, page, words);
                Ok(())
            }
            Pair::FirstDamaged => {
                self.opened.damages.push(Damage { record: name, assumed_all: true });
                self.put_words(of, page, std::iter::repeat_n(u64::MAX, BitmapPage::PAGE_EXTENTS as usize));
                Ok(())
            }
            Pair::Damaged => Err(ReadError::Damaged(name)),
        }
    }

    fn put_words(&mut self, of: ReplicaId, page: u32, words: impl Iterator<Item = u64>) {
        let geometry = self.identity.geometry;
        let first = page * BitmapPage::PAGE_EXTENTS;
        for (extent, word) in (first..geometry.extents()).zip(words) {
            let mask = word & geometry.extent_mask(extent);
            self.opened.stored.bitmaps[of.index()].insert_mask(extent, mask);
        }
    }

    fn note(&mut self, record: RecordName, generation: u64, beside_damage: bool) {
        self.opened.writer.found(record, generation);
        if beside_damage {
            self.opened.damages.push(Damage { record, assumed_all: false });
        }
    }
}

fn identity_of(body: &[u8]) -> Option<Identity> {
    let ((node, replica, size_bytes, region_bytes), taken): ((NodeId, ReplicaId, u64, u64), usize) =
        encoding::decode::<_, MEMORY_BYTES_MAX>(body).ok()?;
    let geometry = Geometry { size_bytes, region_bytes };
    (taken == body.len()).then_some(Identity { node, replica, geometry })
}

fn check_identity(stored: &Identity, configured: &Identity) -> Result<(), OpenError> {
    let (ours, its) = (configured.geometry, stored.geometry);
    if stored.node != configured.node {
        return Err(OpenError::ForeignNode);
    }
    if stored.replica != configured.replica {
        return Err(OpenError::OtherReplica { stored: stored.replica, configured: configured.replica });
    }
    if its.size_bytes != ours.size_bytes {
        return Err(OpenError::OtherSize { stored: its.size_bytes, configured: ours.size_bytes });
    }
    if its.region_bytes != ours.region_bytes {
        return Err(OpenError::OtherRegions { stored: its.region_bytes, configured: ours.region_bytes });
    }
    Ok(())
}

/// An empty one: none has been written.
fn superblock_of(body: &[u8]) -> Option<Option<Superblock>> {
    if body.is_empty() {
        return Some(None);
    }
    let (superblock, taken) = encoding::decode::<Superblock, MEMORY_BYTES_MAX>(body).ok()?;
    (taken == body.len()).then_some(Some(superblock))
}

fn activity_of(body: &[u8]) -> Option<Vec<u32>> {
    let (count, rest) = body.split_first_chunk()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let extents = rest.chunks_exact(4).map(|extent| extent.try_into().map(u32::from_le_bytes));
    let extents: Vec<u32> = extents.collect::<Result<_, _>>().ok()?;
    let is_right = count <= Limits::ACTIVE_EXTENTS_MAX && rest.len() == 4 * count;
    (is_right && extents.is_sorted_by(|one, next| one < next)).then_some(extents)
}
