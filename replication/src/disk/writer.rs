//! Records to bytes, and where they go.
//!
//! Its one rule: of each record, one write at a time; the next generation goes to the other place.

use std::collections::BTreeMap;

use super::Identity;
use super::layout::{CHUNK_BYTES, RecordName};
use super::slot;
use crate::config::Limits;
use crate::superblock::{BitmapPage, MetadataRecord};
use crate::wire::encoding;

/// Remembers which generation of each record was written last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    generations: BTreeMap<RecordName, u64>,
}

impl Writer {
    pub(super) fn found(&mut self, name: RecordName, generation: u64) {
        self.generations.insert(name, generation);
    }

    /// Makes `out` the bytes to write, and says where: offset and length are multiples of `SLOT_BYTES`.
    ///
    /// They must be durable before the write is reported, and before the same record is encoded again.
    pub fn encode(&mut self, record: &MetadataRecord, out: &mut Vec<u8>) -> u64 {
        let name = RecordName::of(record);
        let generation = self.generations.entry(name).or_default();
        *generation += 1;
        begin(out);
        match record {
            MetadataRecord::Superblock(superblock) => encoding::encode(superblock, out),
            MetadataRecord::Activity(extents) => put_activity(extents, out),
            MetadataRecord::Bitmap(page) => put_page(page, out),
        }
        slot::finish(name, *generation, out);
        name.offset(*generation)
    }
}

fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(slot::HEADER_BYTES, 0);
}

/// u64 count, then u32 for each extent.
fn put_activity(extents: &[u32], out: &mut Vec<u8>) {
    assert!(extents.len() <= Limits::ACTIVE_EXTENTS_MAX, "the activity log is bounded");
    assert!(extents.is_sorted_by(|one, next| one < next), "the activity log is in order");
    out.extend_from_slice(&(extents.len() as u64).to_le_bytes());
    out.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
}

/// A u64 for each extent of the page.
fn put_page(page: &BitmapPage, out: &mut Vec<u8>) {
    assert_eq!(page.words.len(), BitmapPage::PAGE_EXTENTS as usize, "a page has all its words");
    out.extend(page.words.iter().flat_map(|word| word.to_le_bytes()));
}

/// A new file: the first `CHUNK_BYTES` of it, in `out`. `Layout::file_bytes` says how long the file is.
///
/// The rest of it must read as zero, and all of it must be durable before anything else is written.
pub fn format(identity: &Identity, out: &mut Vec<u8>) -> Writer {
    let (mut writer, mut slot_bytes) = (Writer::default(), Vec::new());
    out.clear();
    out.resize(CHUNK_BYTES, 0);
    let mut put = |name: RecordName, generation: u64, body: &dyn Fn(&mut Vec<u8>)| {
        begin(&mut slot_bytes);
        body(&mut slot_bytes);
        slot::finish(name, generation, &mut slot_bytes);
        let at = name.offset(generation) as usize;
        out[at..at + slot_bytes.len()].copy_from_slice(&slot_bytes);
        writer.found(name, generation);
    };
    let geometry = identity.geometry;
    let parts = (identity.node, identity.replica, geometry.size_bytes, geometry.region_bytes);
    put(RecordName::Superblock, 0, &|_| {});
    put(RecordName::Activity, 0, &|body| put_activity(&[], body));
    put(RecordName::Identity, 0, &|body| encoding::encode(&parts, body));
    put(RecordName::Identity, 1, &|body| encoding::encode(&parts, body));
    writer
}
