//! EXTENDED COPY and RECEIVE COPY RESULTS.

mod scsi_common;

use scsi_common::{A, B, DISK, ask, attach, be16, be32, be64, codes, get, sense, unit};
use wire::scsi::copy::{CopyOutcome, CopySegment, Designator, SEGMENT_FAILED, parse};
use wire::scsi::{Command, Sense, Unit};

/// An identification descriptor target descriptor for `designator`.
fn end(designator: &Designator) -> Vec<u8> {
    let mut descriptor = vec![0; 32];
    descriptor[0] = 0xe4;
    descriptor[4] = designator.code_set;
    descriptor[5] = designator.kind;
    descriptor[7] = designator.bytes.len() as u8;
    descriptor[8..8 + designator.bytes.len()].copy_from_slice(&designator.bytes);
    descriptor[30] = 2;
    descriptor
}

fn segment(source: u8, destination: u8, blocks: u16, from: u64, to: u64) -> Vec<u8> {
    let mut descriptor = vec![0x02, 0, 0, 0x18, 0, source, 0, destination, 0, 0];
    descriptor.extend_from_slice(&blocks.to_be_bytes());
    descriptor.extend_from_slice(&from.to_be_bytes());
    descriptor.extend_from_slice(&to.to_be_bytes());
    descriptor
}

fn lid1(id: u8, usage: u8, ends: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (ends, segments) = (ends.concat(), segments.concat());
    let mut list = vec![id, usage << 3];
    list.extend_from_slice(&(ends.len() as u16).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    list.extend_from_slice(&(segments.len() as u32).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    [list, ends, segments].concat()
}

fn lid4(id: u32, ends: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (ends, segments) = (ends.concat(), segments.concat());
    let mut list = vec![0; 48];
    (list[0], list[3], list[16]) = (1, 0x20, 0xff);
    list[20..24].copy_from_slice(&id.to_be_bytes());
    list[42..44].copy_from_slice(&(ends.len() as u16).to_be_bytes());
    list[44..46].copy_from_slice(&(segments.len() as u16).to_be_bytes());
    [list, ends, segments].concat()
}

fn naa() -> Designator {
    scsi_common::identity().designators().remove(0)
}

#[test]
fn both_forms_read_alike() {
    let (ends, segments) = ([end(&naa())], [segment(0, 0, 2048, 5, 6)]);
    let short = parse(&lid1(7, 2, &ends, &segments), false).expect("lawful");
    let long = parse(&lid4(7, &ends, &segments), true).expect("lawful");
    assert_eq!(short, long);
    assert_eq!((short.list_id, short.ends[0].block_bytes), (Some(7), 512));
    assert_eq!(short.ends[0].designator, naa());
    let expected = CopySegment {
        source: 0,
        destination: 0,
        blocks: 2048,
        count_by_destination: false,
        source_lba: 5,
        destination_lba: 6,
    };
    assert_eq!(short.segments, [expected]);
}

#[test]
fn nothing_to_copy_is_lawful() {
    assert_eq!(parse(&[], false).expect("lawful").segments, []);
    assert_eq!(parse(&lid1(0, 3, &[], &[]), false).expect("lawful").list_id, None);
}

#[test]
fn reserved_bytes_may_be_anything() {
    let mut list = lid1(1, 0, &[end(&naa())], &[segment(0, 0, 1, 0, 1)]);
    for at in [4, 5, 6, 7, 16 + 6, 16 + 20, 48 + 8, 48 + 9] {
        list[at] = 0xa5;
    }
    assert!(parse(&list, false).is_ok());
}

#[test]
fn lists_that_end_early_are_refused() {
    let list = lid1(1, 0, &[end(&naa())], &[segment(0, 0, 1, 0, 1)]);
    for length in 1..list.len() {
        assert_eq!(codes(parse(&list[..length], false)), (5, 0x1a, 0), "{length}");
    }
    let list = lid4(1, &[end(&naa())], &[segment(0, 0, 1, 0, 1)]);
    for length in 1..list.len() {
        assert_eq!(codes(parse(&list[..length], true)), (5, 0x1a, 0), "{length}");
    }
}

#[test]
fn limits_are_those_that_are_told() {
    let parameters = get(&mut unit(DISK), A, &[0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(be32(&parameters, 0) as usize, parameters.len() - 4);
    let (ends_max, segments_max) = (usize::from(be16(&parameters, 8)), usize::from(be16(&parameters, 10)));
    assert_eq!(&parameters[43..], [2, 0x02, 0xe4]);
    let list = |ends: usize, segments: usize| {
        parse(&lid1(1, 0, &vec![end(&naa()); ends], &vec![segment(0, 0, 1, 0, 1); segments]), false)
    };
    assert!(list(ends_max, segments_max).is_ok());
    assert_eq!(codes(list(ends_max + 1, 1)), (5, 0x26, 0x06));
    assert_eq!(codes(list(1, segments_max + 1)), (5, 0x26, 0x08));
    assert_eq!(codes(list(ends_max + 1, segments_max + 1)), (5, 0x1a, 0));
}

#[test]
fn descriptors_of_other_kinds_are_refused() {
    let mut fibre_channel = end(&naa());
    fibre_channel[0] = 0xe0;
    assert_eq!(codes(parse(&lid1(1, 0, &[fibre_channel], &[]), false)), (5, 0x26, 0x07));
    let stream = vec![0x03; 20];
    assert_eq!(codes(parse(&lid1(1, 0, &[end(&naa())], &[stream]), false)), (5, 0x26, 0x09));
}

#[test]
fn ends_that_cannot_be_reached_abort_the_copy() {
    let mut null = end(&naa());
    null[1] = 0x20;
    assert_eq!(codes(parse(&lid1(1, 0, &[null], &[]), false)), (0xa, 0x0d, 0x02));
    let beyond = lid1(1, 0, &[end(&naa())], &[segment(0, 1, 1, 0, 1)]);
    assert_eq!(codes(parse(&beyond, false)), (0xa, 0x0d, 0x02));
    let mut of_other_type = end(&naa());
    of_other_type[1] = 0x80;
    assert!(parse(&lid1(1, 0, &[of_other_type], &[]), false).is_ok());
    let mut long = end(&naa());
    long[7] = 21;
    assert_eq!(sense(parse(&lid1(1, 0, &[long], &[]), false)).field.map(|field| field.byte), Some(16 + 7));
}

fn results(unit: &mut Unit, service_action: u8, list_id: u8) -> Result<Vec<u8>, wire::scsi::Refusal> {
    let id_at = if service_action == 5 { 5 } else { 2 };
    let mut cdb = [0x84, service_action, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    cdb[id_at] = list_id;
    ask(unit, A, &cdb)
}

#[test]
fn outcomes_are_told_to_the_nexus_that_asked_for_the_copy() {
    let mut unit = unit(DISK);
    assert_eq!(codes(results(&mut unit, 0, 1)), (5, 0x24, 0));
    let done = CopyOutcome { segments_done: 3, bytes_done: 4096, refusal: None };
    unit.copy_ended(A, Some(1), done);
    unit.copy_ended(B, Some(2), done);
    unit.copy_ended(A, None, done);
    assert_eq!(results(&mut unit, 0, 1), Ok(vec![0, 0, 0, 8, 1, 0, 3, 0, 0, 0, 0x10, 0]));
    assert_eq!(results(&mut unit, 4, 1), Ok(vec![0; 4]));
    assert_eq!(codes(results(&mut unit, 0, 2)), (5, 0x24, 0));
    let long = results(&mut unit, 5, 1).expect("it is the same list");
    assert_eq!((long[5], be64(&long, 16), be16(&long, 24)), (1, 4096, 3));
    unit.detach(A);
    attach(&mut unit, A);
    assert_eq!(codes(results(&mut unit, 0, 1)), (5, 0x24, 0));
}

#[test]
fn a_failed_copy_tells_its_sense() {
    let mut unit = unit(DISK);
    unit.copy_ended(
        A,
        Some(1),
        CopyOutcome { segments_done: 0, bytes_done: 5 << 32, refusal: Some(SEGMENT_FAILED) },
    );
    let status = results(&mut unit, 0, 1).expect("known");
    assert_eq!((status[4], status[7], be32(&status, 8)), (2, 2, 5 << 12));
    let details = results(&mut unit, 4, 1).expect("known");
    assert_eq!((details[56], usize::from(be16(&details, 58))), (2, details.len() - 60));
    assert_eq!(Sense::decode(&details[60..]), SEGMENT_FAILED.sense);
}

#[test]
fn only_so_many_outcomes_are_kept() {
    let mut unit = unit(DISK);
    let done = CopyOutcome { segments_done: 0, bytes_done: 0, refusal: None };
    for id in 0..40 {
        unit.copy_ended(A, Some(id), done);
    }
    let kept = (0..40).filter(|id| results(&mut unit, 0, *id).is_ok()).collect::<Vec<_>>();
    assert_eq!(kept, (24..40).collect::<Vec<_>>());
}

#[test]
fn the_command_says_which_form_comes_with_it() {
    for (action, lid4) in [(0, false), (1, true)] {
        let cdb = [0x83, action, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0];
        let expected = Command::ExtendedCopy { lid4, parameter_bytes: 0x102 };
        assert_eq!(unit(DISK).begin(A, &cdb), Ok(expected));
    }
}
