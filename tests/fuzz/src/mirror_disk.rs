//! A metadata file with anything in it: never a panic, no region that the volume has not, and what is written to it
//! then is read.
//!
//! ```text
//! again and again: 1 which slot     1 bit 0 its checksum is made right, bits 1.. where in it, by 8     8 its new bytes
//! ```

use std::sync::OnceLock;

use replication::disk::{CHUNK_BYTES, Identity, Layout, Opened, ReadError, Reader, Writer, format};
use replication::id::{NodeId, ReplicaId};
use replication::{BitmapPage, Geometry, MetadataRecord, RegionSet, Stored};

/// Two pages, the second cut short.
const GEOMETRY: Geometry = Geometry { size_bytes: (1 << 30) + 99 * 65536 + 512, region_bytes: 64 << 10 };
const IDENTITY: Identity = Identity { node: NodeId([4; 16]), replica: ReplicaId(1), geometry: GEOMETRY };
const REPLICAS: usize = 2;
const SLOT_BYTES: usize = 4096;

/// The input as edits of a sound file.
pub fn mirror_disk(data: &[u8]) {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let mut image = SOUND.get_or_init(sound).clone();
    for edit in data.chunks_exact(10) {
        let slots = image.len() / SLOT_BYTES;
        let slot = &mut image[usize::from(edit[0]) % slots * SLOT_BYTES..][..SLOT_BYTES];
        let at = usize::from(edit[1] >> 1) * 8;
        slot[at..at + 8].copy_from_slice(&edit[2..]);
        if edit[1] & 1 == 1 {
            seal(slot);
        }
    }
    match read_chunks(&image) {
        Ok(opened) => assert_usable(image, opened),
        Err(error) => assert!(error == ReadError::NotFormatted || error.to_string().len() > 20),
    }
}

/// A file with a record of each kind that lies in a slot of one page.
fn sound() -> Vec<u8> {
    let mut head = Vec::new();
    let mut writer = format(&IDENTITY, &mut head);
    let mut image = vec![0; (1 + REPLICAS) * CHUNK_BYTES];
    image[..CHUNK_BYTES].copy_from_slice(&head);
    for generation in 0..3 {
        put(&mut image, &mut writer, &MetadataRecord::Activity((0..generation * 9).collect()));
        put(&mut image, &mut writer, &page(0, generation.into()));
    }
    image
}

/// The image ends where the rest of the file is a hole that nobody reads.
fn read_chunks(image: &[u8]) -> Result<Opened, ReadError> {
    let file_bytes = Layout::new(&GEOMETRY, REPLICAS).file_bytes();
    let mut reader = Reader::new(&IDENTITY, REPLICAS, file_bytes)?;
    while let Some(offset) = reader.wants() {
        reader.take(Some(&image[offset as usize..][..CHUNK_BYTES]))?;
    }
    Ok(reader.finish())
}

fn page(number: u32, word: u64) -> MetadataRecord {
    let words = vec![word; BitmapPage::PAGE_EXTENTS as usize];
    MetadataRecord::Bitmap(BitmapPage { of: ReplicaId(0), page: number, words })
}

fn put(image: &mut [u8], writer: &mut Writer, record: &MetadataRecord) {
    let mut bytes = Vec::new();
    let at = writer.encode(record, &mut bytes) as usize;
    image[at..at + bytes.len()].copy_from_slice(&bytes);
}

/// Makes a slot's checksum right, if its length lets it. Its generation leaves room for more.
fn seal(slot: &mut [u8]) {
    slot[..10].copy_from_slice(b"RINGSANM\x01\x00");
    slot[31] = 0;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot[..36]), &slot[40..]);
    slot[36..40].copy_from_slice(&crc.to_le_bytes());
}

fn assert_usable(mut image: Vec<u8>, opened: Opened) {
    let Opened { mut stored, mut writer, .. } = opened;
    assert!(stored.bitmaps.iter().all(is_inside) && stored.activity.is_sorted());
    for record in [MetadataRecord::Activity(vec![1, 5]), page(1, 0b11 << 62)] {
        put(&mut image, &mut writer, &record);
        stored.apply(&record);
    }
    let again = read_chunks(&image).expect("what was read before");
    assert_eq!((cut(again.stored), again.writer), (cut(stored), writer));
}

fn is_inside(regions: &RegionSet) -> bool {
    regions
        .masks()
        .all(|(extent, mask)| extent < GEOMETRY.extents() && mask & !GEOMETRY.extent_mask(extent) == 0)
}

/// Without regions that do not exist.
fn cut(mut stored: Stored) -> Stored {
    for regions in &mut stored.bitmaps {
        *regions = (0..GEOMETRY.extents())
            .map(|extent| (extent, regions.mask(extent) & GEOMETRY.extent_mask(extent)))
            .collect();
    }
    stored
}
