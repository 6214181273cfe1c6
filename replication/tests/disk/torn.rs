//! Writes that were cut by a power loss, and bits that rot: the other place is read.

use proptest::collection::vec;
use proptest::prelude::*;
use replication::disk::{CHUNK_BYTES, Damage, ReadError, RecordName, format};
use replication::id::ReplicaId;
use replication::{MetadataRecord, RegionSet, Stored};

use super::image::{GEOMETRY, IDENTITY, Image, activity, longest_activity, page, superblock};

const SECTOR: usize = 512;

/// Each kind of record, with what was there before it: nothing, one, or something in both places.
fn cases() -> Vec<(Vec<MetadataRecord>, MetadataRecord)> {
    let mut cases = Vec::new();
    let kinds = [
        [superblock(1), superblock(70), superblock(3)],
        [activity(7), activity(9), longest_activity()],
        [longest_activity(), activity(1500), activity(3)],
        [page(0, 3, 1), page(0, 3, u64::MAX), page(0, 3, 6)],
    ];
    for [first, second, third] in kinds {
        cases.push((vec![], third.clone()));
        cases.push((vec![first.clone()], third.clone()));
        cases.push((vec![first, second], third));
    }
    cases
}

/// What must be read after a write of `record` that may have been torn.
#[track_caller]
fn assert_old_or_new(image: &Image, record: &MetadataRecord, why: &str) {
    let stored = image.read_first().unwrap_or_else(|error| panic!("{why}: {error}")).stored;
    let (old, mut new, mut all) = (&image.model, image.model.clone(), image.model.clone());
    new.apply(record);
    if let MetadataRecord::Bitmap(page) = record {
        all.bitmaps[page.of.index()].union(&whole_page(page.page));
    }
    assert!(stored == *old || stored == new || stored == all, "{why}");
}

fn whole_page(page: u32) -> RegionSet {
    let extents = page * 256..GEOMETRY.extents().min(page * 256 + 256);
    extents.map(|extent| (extent, GEOMETRY.extent_mask(extent))).collect()
}

#[test]
fn a_write_torn_at_any_sector_leaves_the_old_record() {
    for (before, record) in cases() {
        let mut image = Image::with(&before);
        let (at, bytes) = image.encode(&record);
        for cut in (0..=bytes.len()).step_by(SECTOR) {
            for (from, to, what) in [(0, cut, "first"), (cut, bytes.len(), "last")] {
                let mut torn = image.clone();
                torn.bytes[at + from..at + to].copy_from_slice(&bytes[from..to]);
                let why =
                    format!("only the {what} {} bytes of {:?}", to - from, std::mem::discriminant(&record));
                assert_old_or_new(&torn, &record, &why);
            }
        }
    }
}

#[test]
fn after_a_torn_write_the_next_one_is_written_whole() {
    for (before, record) in cases() {
        let mut image = Image::with(&before);
        let (at, bytes) = image.encode(&record);
        image.bytes[at..at + SECTOR].copy_from_slice(&bytes[..SECTOR]);
        let opened = image.read().expect("the old one");
        image.writer = opened.writer;
        image.model = opened.stored;
        image.write(&record);
        let again = image.read().expect("whole");
        assert_eq!((again.stored, again.damages), (image.model, vec![]));
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_noticed() {
    for (before, record) in cases().into_iter().filter(|(before, _)| before.len() == 1) {
        let mut image = Image::with(&before);
        let (at, bytes) = image.encode(&record);
        image.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        // Every bit of the header and what follows it; then one of each byte.
        for bit in (0..bytes.len() * 8).filter(|bit| bit / 8 < 128 || bit % 8 == (bit / 8) % 8) {
            image.bytes[at + bit / 8] ^= 1 << (bit % 8);
            let opened = image.read_first().expect("the old one");
            assert_eq!(opened.stored, image.model, "bit {bit}");
            assert_eq!(opened.damages.len(), 1, "bit {bit}");
            image.bytes[at + bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn both_places_damaged_is_an_error_and_never_an_empty_record() {
    let names =
        [RecordName::Superblock, RecordName::Activity, RecordName::Bitmap { of: ReplicaId(0), page: 3 }];
    let records =
        [[superblock(1), superblock(2)], [activity(1), activity(2)], [page(0, 3, 1), page(0, 3, 2)]];
    for (name, records) in names.into_iter().zip(records) {
        let mut image = Image::with(&records);
        for record in &records {
            let (at, _) = image.encode(record);
            image.bytes[at + 100] ^= 1;
        }
        assert_eq!(image.read(), Err(ReadError::Damaged(name)));
    }
}

#[test]
fn a_head_record_whose_places_are_both_zero_is_an_error_once_anything_was_written() {
    for (record, other, name) in [
        (superblock(1), activity(1), RecordName::Superblock),
        (activity(1), superblock(1), RecordName::Activity),
    ] {
        let mut image = Image::with(&[record.clone(), other]);
        for _ in 0..2 {
            let (at, bytes) = image.encode(&record);
            image.bytes[at..at + bytes.len()].fill(0);
        }
        assert_eq!(image.read(), Err(ReadError::Damaged(name)));
    }
}

#[test]
fn a_page_whose_first_write_is_damaged_counts_as_full() {
    let record = page(0, 3, 1);
    let mut image = Image::with(&[superblock(1)]);
    let (at, bytes) = image.encode(&record);
    image.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
    image.bytes[at + 50] ^= 0x10;
    let opened = image.read().expect("more is never too few");
    assert_eq!(opened.stored.bitmaps[0], whole_page(3));
    let name = RecordName::Bitmap { of: ReplicaId(0), page: 3 };
    assert_eq!(opened.damages, [Damage { record: name, assumed_all: true }]);
    assert_eq!(
        opened.damages[0].to_string(),
        "one of the two places of page 3 of the bitmap of replica 0 is damaged, as by a power loss: all of its \
         regions are sent again"
    );
}

#[test]
fn a_record_in_anothers_place_is_damaged() {
    let mut image = Image::with(&[page(0, 3, 1), page(0, 3, 2)]);
    let (at, bytes) = image.clone().encode(&page(0, 4, 9));
    let (own, _) = image.encode(&page(0, 3, 3));
    // A write meant for page 4 went to page 3.
    image.bytes[own..own + bytes.len()].copy_from_slice(&bytes);
    let opened = image.read().expect("the old one");
    assert_eq!((opened.stored, opened.damages.len()), (image.model.clone(), 1));
    // And one meant for the odd half went to the even one.
    let mut image = Image::with(&[page(0, 4, 1), page(0, 4, 2)]);
    let newest = image.bytes[at - CHUNK_BYTES / 2..][..bytes.len()].to_vec();
    image.bytes[at..at + bytes.len()].copy_from_slice(&newest);
    assert_eq!(image.read().expect("the one in its place").stored, image.model);
}

#[test]
fn a_format_that_was_cut_short_is_no_format() {
    let mut head = Vec::new();
    format(&IDENTITY, &mut head);
    let whole = Image::new();
    for cut in (0..CHUNK_BYTES).step_by(SECTOR) {
        for (from, to) in [(0, cut), (cut, CHUNK_BYTES)] {
            let mut image = whole.clone();
            image.bytes[..CHUNK_BYTES].fill(0);
            image.bytes[from..to].copy_from_slice(&head[from..to]);
            match image.read_first() {
                Err(ReadError::NotFormatted) => {}
                opened => {
                    assert_eq!(opened.map(|opened| opened.stored), Ok(whole.model.clone()), "{from}..{to}")
                }
            }
        }
    }
}

/// A disk whose cache is lost: of the writes that were not flushed, any sectors may have come through.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64),
    Flush,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![3 => (0..5_usize, any::<u64>()).prop_map(|(at, word)| Step::Write(at, word)),
        2 => Just(Step::Flush)];
    vec(step, 1..40)
}

fn record(which: usize, word: u64) -> MetadataRecord {
    match which {
        0 => superblock(word % 100 + 1),
        1 => activity((word % 4097) as u32),
        2 => page(0, 0, word),
        3 => page(0, 1, word),
        _ => page(2, 15, word),
    }
}

/// Of each record the old or the new, and of a page that had never been durable also all of it.
fn is_allowed(stored: &Stored, durable: &Stored, pending: &[Option<MetadataRecord>]) -> bool {
    let mut states = vec![durable.clone()];
    for record in pending.iter().flatten() {
        for mut state in states.clone() {
            if let MetadataRecord::Bitmap(page) = record {
                let mut all = state.clone();
                all.bitmaps[page.of.index()].union(&whole_page(page.page));
                states.push(all);
            }
            state.apply(record);
            states.push(state);
        }
    }
    states.contains(stored)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_power_loss_at_any_point_keeps_what_was_durable(steps in any_steps(), luck in any::<u64>()) {
        let mut image = Image::new();
        let mut pending: Vec<Option<MetadataRecord>> = vec![None; 5];
        let mut in_cache: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut luck = luck | 1;
        for step in steps {
            match step {
                // One write of each record at a time: the next one waits for the flush.
                Step::Write(which, word) if pending[which].is_none() => {
                    let record = record(which, word);
                    in_cache.push(image.encode(&record));
                    pending[which] = Some(record);
                }
                Step::Write(..) => {}
                Step::Flush => {
                    for (at, bytes) in in_cache.drain(..) {
                        image.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                    pending.iter_mut().filter_map(Option::take).for_each(|record| image.model.apply(&record));
                }
            }
            let intact: Vec<_> = in_cache.iter().map(|(at, bytes)| image.bytes[*at..at + bytes.len()].to_vec()).collect();
            for (at, bytes) in &in_cache {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    luck ^= luck << 13;
                    luck ^= luck >> 7;
                    luck ^= luck << 17;
                    if luck % 3 != 0 {
                        image.bytes[at + index * SECTOR..][..SECTOR].copy_from_slice(sector);
                    }
                }
            }
            let opened = image.read_first().expect("a power loss destroys nothing durable");
            for ((at, _), bytes) in in_cache.iter().zip(intact) {
                image.bytes[*at..at + bytes.len()].copy_from_slice(&bytes);
            }
            prop_assert!(is_allowed(&opened.stored, &image.model, &pending));
        }
    }
}
