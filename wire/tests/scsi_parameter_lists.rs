//! The parameter lists of UNMAP and SANITIZE, and the answer to GET LBA STATUS.

mod scsi_common;

use proptest::prelude::*;
use scsi_common::{DISK, be32, be64, codes};
use wire::scsi::sanitize::{self, Overwrite};
use wire::scsi::{LbaExtent, Provisioning, put_lba_status, unmap};

fn unmap_list(extents: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = (extents.len() * 16) as u16;
    let mut list = [(descriptors + 6).to_be_bytes(), descriptors.to_be_bytes()].concat();
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in extents {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

#[test]
fn unmap_names_its_extents_in_order() {
    let list = unmap_list(&[(8, 1), (3, 0), (0, 16)]);
    assert_eq!(unmap::parse(&list, &DISK), Ok(vec![(8, 1), (0, 16)]));
    assert_eq!(unmap::parse(&[], &DISK), Ok(vec![]));
    assert_eq!(unmap::parse(&unmap_list(&[]), &DISK), Ok(vec![]));
    assert_eq!(unmap::parse(&unmap_list(&[(DISK.blocks, 0)]), &DISK), Ok(vec![]));
}

#[test]
fn unmap_stays_inside_and_keeps_its_limits() {
    let refused = |extents: &[(u64, u32)]| codes(unmap::parse(&unmap_list(extents), &DISK));
    assert_eq!(refused(&[(DISK.blocks, 1)]), (5, 0x21, 0));
    assert_eq!(refused(&[(0, 1), (u64::MAX, u32::MAX)]), (5, 0x21, 0));
    assert_eq!(refused(&[(DISK.blocks + 1, 0)]), (5, 0x21, 0));
    assert_eq!(refused(&[(0, 1 << 20), (0, 1)]), (5, 0x26, 0));
    assert_eq!(refused(&vec![(0, 0); 257]), (5, 0x26, 0));
    assert!(unmap::parse(&unmap_list(&vec![(0, 0); 256]), &DISK).is_ok());
}

#[test]
fn unmap_lists_that_end_early_are_refused() {
    let list = unmap_list(&[(8, 1)]);
    for length in 1..list.len() {
        assert_eq!(codes(unmap::parse(&list[..length], &DISK)), (5, 0x1a, 0));
    }
    // Half a descriptor does not count.
    let mut half = unmap_list(&[(8, 1), (9, 1)]);
    half[3] = 24;
    assert_eq!(unmap::parse(&half, &DISK), Ok(vec![(8, 1)]));
}

#[test]
fn overwrite_says_how_often_and_with_what() {
    let list = [&[0x83, 0, 0, 4], b"abcd".as_slice()].concat();
    let expected = Overwrite { passes: 3, invert: true, pattern: b"abcd".to_vec() };
    assert_eq!(sanitize::parse(&list, &DISK), Ok(expected));
    let block = [[1, 0, 2, 0].as_slice(), &[0xaa; 512]].concat();
    assert!(sanitize::parse(&block, &DISK).is_ok());
}

#[test]
fn overwrite_refuses_what_makes_no_pattern() {
    let refused = |list: &[u8]| codes(sanitize::parse(list, &DISK));
    assert_eq!(refused(&[0, 0, 0, 1, 9]), (5, 0x26, 0));
    assert_eq!(refused(&[1, 0, 0, 0, 9]), (5, 0x26, 0));
    assert_eq!(refused(&[0x21, 0, 0, 1, 9]), (5, 0x26, 0));
    assert_eq!(refused(&[[1, 0, 2, 4].as_slice(), &[0; 516]].concat()), (5, 0x26, 0));
    assert_eq!(refused(&[1, 0, 0, 4, 9]), (5, 0x1a, 0));
    assert_eq!(refused(&[1, 0]), (5, 0x1a, 0));
}

#[test]
fn lba_status_is_cut_to_whole_descriptors() {
    let extents = [
        LbaExtent { lba: 4, blocks: 6, provisioning: Provisioning::Mapped },
        LbaExtent { lba: 10, blocks: 1, provisioning: Provisioning::Deallocated },
    ];
    let data = put_lba_status(&extents, 40);
    assert_eq!((be32(&data, 0), data.len()), (36, 40));
    assert_eq!((be64(&data, 8), be32(&data, 16), data[20]), (4, 6, 0));
    assert_eq!((be64(&data, 24), be32(&data, 32), data[36]), (10, 1, 1));
    assert_eq!(put_lba_status(&extents, 39).len(), 24);
    assert_eq!(put_lba_status(&extents, 10).len(), 10);
    assert_eq!(put_lba_status(&extents, 0), []);
}

#[test]
fn a_long_extent_is_told_in_pieces() {
    let all = LbaExtent { lba: 1, blocks: 1 << 33, provisioning: Provisioning::Deallocated };
    let data = put_lba_status(&[all], u32::MAX);
    let pieces: Vec<(u64, u32)> = data[8..].chunks(16).map(|each| (be64(each, 0), be32(each, 8))).collect();
    assert_eq!(pieces, [(1, u32::MAX), (1 << 32, u32::MAX), (u64::from(u32::MAX) * 2 + 1, 2)]);
    // However long it is, no more is made than there is room for.
    let endless = LbaExtent { lba: 0, blocks: u64::MAX, provisioning: Provisioning::Mapped };
    assert_eq!(put_lba_status(&[endless], 256).len(), 8 + 15 * 16);
}

proptest! {
    #[test]
    fn whatever_unmap_lets_pass_lies_inside(list in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(extents) = unmap::parse(&list, &DISK) {
            for (lba, blocks) in extents {
                prop_assert!(blocks > 0 && lba.checked_add(blocks).is_some_and(|end| end <= DISK.blocks));
            }
        }
    }
}
