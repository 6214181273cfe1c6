//! What is written comes back, whatever the order; and it lies where it is documented to lie.

use proptest::collection::vec;
use proptest::prelude::*;
use replication::disk::{CHUNK_BYTES, Identity, Layout, ReadError, Reader, Writer, read};
use replication::{Geometry, MetadataRecord, Stored};

use super::image::{GEOMETRY, IDENTITY, Image, REPLICAS, activity, longest_activity, page, superblock};

fn any_record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        (1..200_u64).prop_map(superblock),
        (0..=4096_u32).prop_map(activity),
        (0..REPLICAS as u8, 0..39_u32, any::<u64>()).prop_map(|(of, number, word)| page(of, number, word)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_was_written_last_is_read(records in vec(any_record(), 0..30)) {
        let image = Image::with(&records);
        let opened = image.read().expect("whole");
        prop_assert_eq!(opened.stored, image.model);
        prop_assert_eq!(opened.writer, image.writer);
        prop_assert!(opened.damages.is_empty());
    }
}

#[test]
fn a_new_file_holds_nothing() {
    let opened = Image::new().read().expect("whole");
    assert_eq!((opened.stored.superblock, opened.stored.activity), (None, Vec::new()));
    assert!(opened.stored.bitmaps.iter().all(replication::RegionSet::is_empty));
}

#[test]
fn the_last_page_has_only_the_regions_that_exist() {
    let image = Image::with(&[page(0, 39, u64::MAX)]);
    let stored = image.read().expect("whole").stored;
    let last = GEOMETRY.extents() - 1;
    assert_eq!(stored.bitmaps[0].mask(last), GEOMETRY.extent_mask(last));
    assert!(GEOMETRY.extent_mask(last) != u64::MAX && image.model.bitmaps[0].mask(last) == u64::MAX);
}

#[test]
fn holes_and_zeros_are_the_same() {
    let image = Image::with(&[superblock(3), activity(5)]);
    let mut reader = Reader::new(&IDENTITY, REPLICAS, image.bytes.len() as u64).expect("long enough");
    while let Some(offset) = reader.wants() {
        reader.take((offset == 0).then(|| &image.bytes[..CHUNK_BYTES])).expect("whole");
    }
    assert_eq!(Ok(reader.finish()), image.read());
}

#[test]
fn sixteen_tebibytes_are_bearable() {
    let identity = Identity { geometry: Geometry { size_bytes: 16 << 40, ..GEOMETRY }, ..IDENTITY };
    let layout = Layout::new(&identity.geometry, 2);
    assert_eq!(layout.file_bytes(), (1 + 8 * 1024) * CHUNK_BYTES as u64);
    let (mut head, mut bytes) = (Vec::new(), Vec::new());
    let mut writer: Writer = replication::disk::format(&identity, &mut head);
    let record = page(1, 16 * 1024 - 1, 7);
    let at = writer.encode(&record, &mut bytes);
    assert!(at + bytes.len() as u64 <= layout.file_bytes());
    let mut reader = Reader::new(&identity, 2, layout.file_bytes()).expect("long enough");
    let mut chunks = 0;
    while let Some(offset) = reader.wants() {
        let mut chunk = vec![0; CHUNK_BYTES];
        if let Some(within) = at.checked_sub(offset).filter(|&within| within < CHUNK_BYTES as u64) {
            chunk[within as usize..][..bytes.len()].copy_from_slice(&bytes);
            reader.take(Some(&chunk)).expect("whole");
        } else {
            reader.take((offset == 0).then_some(&head[..])).expect("whole");
        }
        chunks += 1;
    }
    assert_eq!(chunks, 1 + 2 * 1024);
    let mut model = Stored { bitmaps: vec![Default::default(); 2], ..Stored::default() };
    model.apply(&record);
    assert_eq!(reader.finish().stored, model);
}

#[test]
fn a_replica_more_moves_nothing() {
    let image = Image::with(&[superblock(3), page(2, 39, 5)]);
    let opened = read(&image.bytes, &IDENTITY, 8).expect("whole");
    assert_eq!((opened.stored.bitmaps.len(), &opened.stored.bitmaps[..3]), (8, &image.model.bitmaps[..]));
}

#[test]
fn a_file_that_was_never_formatted_says_so() {
    for bytes in [vec![], vec![0; Layout::new(&GEOMETRY, REPLICAS).file_bytes() as usize]] {
        assert_eq!(read(&bytes, &IDENTITY, REPLICAS), Err(ReadError::NotFormatted));
    }
}

/// The documented layout: whoever changes it changes the format's version.
#[test]
fn records_lie_where_they_are_documented_to_lie() {
    let mut image = Image::new();
    let mut place = |record: MetadataRecord| {
        let (at, bytes) = image.encode(&record);
        (at >> 10, bytes.len() >> 10)
    };
    assert_eq!(
        [place(superblock(1)), place(superblock(2)), place(superblock(3))],
        [(68, 4), (4, 4), (68, 4)]
    );
    assert_eq!(
        [place(activity(0)), place(longest_activity()), place(activity(2000))],
        [(72, 4), (8, 20), (72, 8)]
    );
    assert_eq!(place(page(0, 0, 1)), (128 + 64, 4));
    assert_eq!(place(page(2, 17, 1)), (128 * (1 + 8 + 2) + 64 + 4, 4));
}

#[test]
fn a_slot_is_laid_out_as_documented() {
    let mut image = Image::new();
    let (_, slot) = image.encode(&page(2, 17, 0x0102_0304_0506_0708));
    let header = "52494e4753414e4d 0100 0400 02000000 11000000 00080000 0100000000000000 00000000";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&slot[..36]), header.replace(' ', ""));
    assert_eq!(hex(&slot[40..56]), "08070605040302010000000000000000");
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot[..36]), &slot[40..]);
    assert_eq!(slot[36..40], crc.to_le_bytes());
}

/// A fingerprint of a superblock, so that no field moves unnoticed.
#[test]
fn a_superblock_does_not_change_its_layout_unnoticed() {
    let mut image = Image::new();
    let (_, slot) = image.encode(&superblock(3));
    assert_eq!(
        crc32c::crc32c(&slot),
        0x877F_FA3D,
        "the layout has changed: raise the format's version once it has been released"
    );
}
