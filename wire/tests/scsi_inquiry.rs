//! What a unit says of itself, and that it never contradicts itself.

mod scsi_common;

use scsi_common::{A, B, DISK, ask, attentions, be16, be32, be64, codes, get, inquiry, target, unit};
use wire::scsi::{Geometry, Unit, begin_without_unit};

fn page(unit: &mut Unit, code: u8) -> Vec<u8> {
    let page = get(unit, A, &inquiry(Some(code), u16::MAX));
    assert_eq!((page[0], page[1], usize::from(be16(&page, 2))), (0, code, page.len() - 4));
    page
}

fn read_capacity_16(unit: &mut Unit) -> Vec<u8> {
    get(unit, A, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])
}

#[test]
fn standard_data_claims_spc_4_and_sbc_3() {
    let data = get(&mut unit(DISK), A, &inquiry(None, 255));
    assert_eq!((data[0], data[1], data[2], data[3] & 0x0f), (0, 0, 6, 2));
    assert_eq!(usize::from(data[4]), data.len() - 5);
    let versions: Vec<u16> = (58..74).step_by(2).map(|at| be16(&data, at)).collect();
    assert!(versions.contains(&0x0460) && versions.contains(&0x04c0));
    assert!(data[8..36].iter().all(|byte| (0x20..0x7f).contains(byte)));
}

#[test]
fn a_removable_unit_says_so() {
    let removable = Geometry { removable: true, ..DISK };
    assert_eq!(get(&mut unit(removable), A, &inquiry(None, 255))[1], 0x80);
}

#[test]
fn data_is_cut_to_the_allocation_length_and_its_lengths_stay_whole() {
    let mut unit = unit(DISK);
    let whole = get(&mut unit, A, &inquiry(None, 256));
    for allocation in 0..=255 {
        let data = get(&mut unit, A, &inquiry(None, allocation));
        assert_eq!(data, whole[..whole.len().min(allocation.into())]);
    }
    assert_eq!(get(&mut unit, A, &inquiry(Some(0x83), 5)).len(), 5);
}

#[test]
fn a_page_code_without_evpd_is_refused() {
    assert_eq!(codes(ask(&mut unit(DISK), A, &[0x12, 0, 0x83, 0, 255, 0])), (5, 0x24, 0));
}

#[test]
fn every_page_that_is_listed_can_be_read_and_no_other() {
    let mut unit = unit(DISK);
    let listed = page(&mut unit, 0x00)[4..].to_vec();
    assert!(listed.is_sorted());
    for code in 0..=0xff {
        let answer = ask(&mut unit, A, &inquiry(Some(code), 255));
        assert_eq!(answer.is_ok(), listed.contains(&code), "page {code:02x}");
    }
}

#[test]
fn block_limits_are_those_that_are_kept() {
    let mut unit = unit(DISK);
    let page = page(&mut unit, 0xb0);
    assert_eq!(page.len(), 64);
    assert_eq!((page[4], page[5], be16(&page, 6)), (0, 255, 8));
    assert_eq!((be32(&page, 8), be32(&page, 12)), (8192, 2048));
    assert_eq!((be32(&page, 20), be32(&page, 24), be32(&page, 28)), (1 << 20, 256, 8));
    assert_eq!((be32(&page, 32), be64(&page, 36)), (0x8000_0000, 0));
}

#[test]
fn provisioning_is_told_alike_everywhere() {
    for (can_discard, zero_after_unmap) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut unit = unit(Geometry { can_discard, zero_after_unmap, ..DISK });
        let provisioning = page(&mut unit, 0xb2);
        let capacity = read_capacity_16(&mut unit);
        let zeroes = can_discard && zero_after_unmap;
        assert_eq!(provisioning[5] & 0xe0 == 0xe0, can_discard);
        assert_eq!(provisioning[5] & 0x1c != 0, zeroes);
        assert_eq!(capacity[14] & 0x80 != 0, can_discard);
        assert_eq!(capacity[14] & 0x40 != 0, zeroes);
        assert_eq!(page(&mut unit, 0xb0)[20..32] == [0; 12], !can_discard);
        // WABEREQ goes with BLOCK ERASE.
        assert_eq!(page(&mut unit, 0xb1)[7] & 0xc0 != 0, can_discard);
    }
}

#[test]
fn capacity_is_told_in_both_sizes() {
    let mut unit = unit(DISK);
    let short = get(&mut unit, A, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let long = read_capacity_16(&mut unit);
    assert_eq!((be32(&short, 0), be32(&short, 4)), ((1 << 21) - 1, 512));
    assert_eq!((be64(&long, 0), be32(&long, 8), long[13], long.len()), ((1 << 21) - 1, 512, 3, 32));
}

#[test]
fn a_capacity_beyond_32_bits_reads_as_all_ones_in_the_short_form() {
    let mut unit = unit(Geometry { blocks: 1 << 40, ..DISK });
    assert_eq!(be32(&get(&mut unit, A, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0), u32::MAX);
    assert_eq!(be64(&read_capacity_16(&mut unit), 0), (1 << 40) - 1);
}

/// Association and type, code set, designator.
fn designators(page: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let (mut rest, mut found) = (&page[4..], Vec::new());
    while let Some((&[set, kind, _, length], after)) = rest.split_first_chunk() {
        let (designator, after) = after.split_at(length.into());
        found.push((kind & 0x3f, set & 0x0f, designator.to_vec()));
        rest = after;
    }
    found
}

#[test]
fn identification_derives_from_the_uuid_and_fits_a_short_allocation() {
    let page = page(&mut unit(DISK), 0x83);
    assert!(page.len() <= 255, "libiscsi reads no more");
    let found = designators(&page);
    assert_eq!(found[0], (0x03, 1, b"\x30\x31\x32\x33\x34\x35\x36\x37".to_vec()));
    let of_type = |kind| &found.iter().find(|each| each.0 == kind).expect("it is there").2;
    assert_eq!(of_type(0x01).as_slice(), b"RINGSAN 30313233343536373839616263646566");
    assert_eq!(of_type(0x02).len(), 16);
    assert!(of_type(0x08).starts_with(b"naa.3031323334353637\0"));
    assert_eq!(of_type(0x14).as_slice(), [0, 0, 0, 1]);
    assert!(of_type(0x18).starts_with(b"iqn.2026-11.io.ringsan:disk0,t,0x0001\0"));
    let serial = get(&mut unit(DISK), A, &inquiry(Some(0x80), 255));
    assert_eq!(&serial[4..], b"30313233343536373839616263646566");
}

#[test]
fn the_names_for_copies_are_those_of_the_identification_page() {
    let mut unit = unit(DISK);
    let found = designators(&page(&mut unit, 0x83));
    for designator in unit.identity().designators() {
        assert!(found.contains(&(designator.kind, designator.code_set, designator.bytes)));
    }
}

#[test]
fn third_party_copy_page_lists_commands_that_exist() {
    let mut unit = unit(DISK);
    let page = page(&mut unit, 0x8f);
    assert_eq!((be16(&page, 4), be16(&page, 6) % 4), (1, 0));
    let mut commands = &page[9..9 + usize::from(page[8])];
    while let Some((&[opcode, count], rest)) = commands.split_first_chunk() {
        let (actions, rest) = rest.split_at(count.into());
        for action in actions {
            let one = get(&mut unit, A, &[0xa3, 0x0c, 2, opcode, 0, *action, 0, 0, 0, 99, 0, 0]);
            assert_eq!(one[1], 3, "{opcode:02x}/{action:02x}");
        }
        commands = rest;
    }
    let descriptors = std::iter::successors(Some(4), |at| {
        let next = at + 4 + usize::from(be16(&page, at + 2));
        (next < page.len()).then_some(next)
    });
    assert_eq!(descriptors.map(|at| be16(&page, at)).collect::<Vec<_>>(), [1, 4, 8, 0x8001]);
}

#[test]
fn luns_are_those_of_the_target() {
    let mut unit = unit(DISK);
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(get(&mut unit, A, &report), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    unit.set_luns(A, &[0, 1 << 48]);
    assert_eq!(attentions(&mut unit, A), [], "nobody has seen the list before");
    unit.set_luns(A, &[0, 1 << 48, 2 << 48]);
    let data = get(&mut unit, A, &report);
    assert_eq!((be32(&data, 0), be64(&data, 24)), (24, 2 << 48));
    assert_eq!(attentions(&mut unit, A), [], "the new list was told");
    unit.set_luns(A, &[0]);
    unit.set_luns(A, &[0]);
    assert_eq!(attentions(&mut unit, A), [(0x3f, 0x0e)]);
    let well_known = [0xa0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(get(&mut unit, A, &well_known), [0; 8]);
}

#[test]
fn one_target_port_group_is_active() {
    let mut unit = unit(DISK);
    let data = get(&mut unit, A, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(data, [0, 0, 0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
    let extended = get(&mut unit, A, &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!((be32(&extended, 0), extended[4], &extended[8..]), (16, 0x10, &data[4..]));
    assert_eq!(target().portal_group, 1);
}

#[test]
fn task_management_functions_are_listed() {
    let mut unit = unit(DISK);
    assert_eq!(get(&mut unit, A, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0]), [0xd8, 0, 0, 0]);
    assert_eq!(get(&mut unit, A, &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 99, 0, 0]).len(), 16);
}

#[test]
fn there_are_no_defects() {
    let mut unit = unit(DISK);
    assert_eq!(get(&mut unit, A, &[0x37, 0, 0x18, 0, 0, 0, 0, 0, 32, 0]), [0, 0x18, 0, 0]);
    let long = [0xb7, 0x08, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    assert_eq!(get(&mut unit, A, &long), [0, 0x08, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_lun_without_a_unit_answers_what_every_lun_must() {
    let luns = [3 << 48];
    let data = begin_without_unit(&inquiry(None, 36), &luns).expect("answered");
    assert_eq!((data[0], data.len()), (0x7f, 36));
    let data = begin_without_unit(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0], &luns).expect("answered");
    assert_eq!(be64(&data, 8), 3 << 48);
    let data = begin_without_unit(&[0x03, 0, 0, 0, 18, 0], &luns).expect("answered");
    assert_eq!((data[2], data[12]), (5, 0x25));
    for cdb in [[0; 10], scsi_common::cdb10(0x28, 0, 0, 1), [0xff; 10]] {
        assert_eq!(codes(begin_without_unit(&cdb, &luns)), (5, 0x25, 0));
    }
}

#[test]
fn a_resize_reaches_every_nexus() {
    let mut unit = unit(DISK);
    unit.set_geometry(Geometry { blocks: 100, ..DISK });
    assert_eq!((attentions(&mut unit, A), attentions(&mut unit, B)), (vec![(0x2a, 9)], vec![(0x2a, 9)]));
    assert_eq!(be32(&get(&mut unit, A, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0), 99);
    unit.set_geometry(Geometry { blocks: 100, ..DISK });
    assert_eq!(attentions(&mut unit, A), [], "nothing has changed");
}
