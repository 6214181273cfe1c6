//! Command descriptor blocks: what they ask for, and how they are refused.

mod scsi_common;

use scsi_common::{A, B, DISK, ask, attentions, be16, be32, cdb10, cdb16, codes, get, sense, unit};
use wire::scsi::{ByteCheck, Command, Geometry, Refusal, SanitizeAction, Unit};

const INVALID_OPCODE: (u8, u8, u8) = (5, 0x20, 0);
const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0);
const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);

fn begin(cdb: &[u8]) -> Result<Command, Refusal> {
    unit(DISK).begin(A, cdb)
}

#[test]
fn read_and_write_come_in_four_sizes() {
    let long = cdb16(0x88, 0x08, 1 << 20, 9);
    assert_eq!(begin(&long), Ok(Command::Read { lba: 1 << 20, blocks: 9, fua: true }));
    let mut twelve = [0xa8, 0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0];
    assert_eq!(begin(&twelve), Ok(Command::Read { lba: 0x102, blocks: 256, fua: false }));
    twelve[0] = 0xaa;
    assert_eq!(begin(&twelve), Ok(Command::Write { lba: 0x102, blocks: 256, fua: false, verify: None }));
    let ten = cdb10(0x2a, 0x18, 7, 8);
    assert_eq!(begin(&ten), Ok(Command::Write { lba: 7, blocks: 8, fua: true, verify: None }));
    // The flags of longer CDBs are address bits here, and no length is 256 blocks.
    let six = [0x08, 0x08, 1, 2, 0, 0];
    assert_eq!(begin(&six), Ok(Command::Read { lba: 0x80102, blocks: 256, fua: false }));
}

#[test]
fn verify_says_how_much_data_comes_with_it() {
    let bytes = |flags| begin(&cdb10(0x2f, flags, 0, 3)).expect("lawful").data_out_bytes(512);
    assert_eq!([bytes(0x00), bytes(0x02), bytes(0x06)], [0, 3 * 512, 512]);
    let reserved = begin(&cdb10(0x2f, 0x04, 0, 3));
    assert_eq!(sense(reserved).field.expect("a pointer").bit, Some(2));
}

#[test]
fn write_and_verify_compares_on_demand() {
    let check = |flags| match begin(&cdb16(0x8e, flags, 0, 1)) {
        Ok(Command::Write { verify, .. }) => verify,
        other => panic!("{other:?}"),
    };
    assert_eq!((check(0), check(2)), (Some(ByteCheck::None), Some(ByteCheck::Compare)));
    assert_eq!(codes(begin(&cdb16(0x8e, 0x06, 0, 1))), INVALID_FIELD);
}

#[test]
fn zero_blocks_is_lawful_inside_and_refused_beyond() {
    for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41] {
        assert!(begin(&cdb10(opcode, 0, 0, 0)).is_ok(), "{opcode:02x}");
        assert_eq!(codes(begin(&cdb10(opcode, 0, (1 << 21) + 1, 0))), OUT_OF_RANGE, "{opcode:02x}");
    }
    for opcode in [0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93] {
        assert!(begin(&cdb16(opcode, 0, 0, 0)).is_ok(), "{opcode:02x}");
        assert_eq!(codes(begin(&cdb16(opcode, 0, u64::MAX, 0))), OUT_OF_RANGE, "{opcode:02x}");
    }
}

#[test]
fn a_range_that_leaves_the_medium_names_the_first_block_that_is_not_there() {
    for (lba, blocks) in [((1 << 21) - 1, 2), (1 << 21, 1), (0, 0x8000)] {
        let small = Geometry { blocks: if blocks == 0x8000 { 100 } else { DISK.blocks }, ..DISK };
        let refused = sense(unit(small).begin(A, &cdb10(0x28, 0, lba, blocks)));
        assert_eq!((refused.asc, refused.information), (0x21, Some(small.blocks)));
    }
    let overflowing = sense(begin(&cdb16(0x88, 0, u64::MAX, u32::MAX)));
    assert_eq!(overflowing.information, Some(u64::MAX));
}

#[test]
fn the_longest_transfer_is_the_one_that_is_announced() {
    assert!(begin(&cdb10(0x28, 0, 0, 8192)).is_ok());
    let refused = sense(begin(&cdb10(0x28, 0, 0, 8193)));
    assert_eq!(refused.field.map(|field| (field.in_cdb, field.byte)), Some((true, 7)));
    let refused = sense(begin(&cdb16(0x8b, 0, 0, 8193)));
    assert_eq!(refused.field.map(|field| field.byte), Some(10));
}

#[test]
fn protection_information_is_refused_where_it_is_asked_for() {
    for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x41] {
        let field = sense(begin(&cdb10(opcode, 0x20, 0, 1))).field.expect("a pointer");
        assert_eq!((field.in_cdb, field.byte, field.bit), (true, 1, Some(5)), "{opcode:02x}");
    }
}

#[test]
fn commands_without_length_reach_to_the_end() {
    let rest = |command| match command {
        Ok(
            Command::WriteSame { blocks, .. }
            | Command::SynchronizeCache { blocks, .. }
            | Command::PreFetch { blocks, .. },
        ) => blocks,
        other => panic!("{other:?}"),
    };
    for opcode in [0x90, 0x91, 0x93] {
        assert_eq!(rest(begin(&cdb16(opcode, 0, 100, 0))), (1 << 21) - 100);
    }
}

#[test]
fn write_same_keeps_its_own_limit() {
    let geometry = Geometry { write_same_blocks_max: 1000, ..DISK };
    assert!(unit(geometry).begin(A, &cdb16(0x93, 0, 0, 1000)).is_ok());
    assert_eq!(codes(unit(geometry).begin(A, &cdb16(0x93, 0, 0, 1001))), INVALID_FIELD);
    assert_eq!(codes(unit(geometry).begin(A, &cdb16(0x93, 0, 0, 0))), INVALID_FIELD);
    let zeroes = begin(&cdb16(0x93, 0x09, 5, 6));
    assert_eq!(zeroes, Ok(Command::WriteSame { lba: 5, blocks: 6, unmap: true, ndob: true }));
    assert_eq!(zeroes.expect("lawful").data_out_bytes(512), 0);
}

#[test]
fn what_cannot_discard_does_not_offer_it() {
    let solid = Geometry { can_discard: false, ..DISK };
    let mut unit = unit(solid);
    assert_eq!(codes(unit.begin(A, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0])), INVALID_OPCODE);
    assert_eq!(codes(unit.begin(A, &cdb16(0x93, 0x08, 0, 1))), INVALID_FIELD);
    assert_eq!(codes(unit.begin(A, &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0])), INVALID_FIELD);
    assert!(unit.begin(A, &cdb16(0x93, 0, 0, 1)).is_ok());
}

#[test]
fn compare_and_write_takes_twice_its_blocks() {
    let mut cdb = cdb16(0x89, 0x08, 4, 3);
    let command = begin(&cdb).expect("lawful");
    assert_eq!(command, Command::CompareAndWrite { lba: 4, blocks: 3, fua: true });
    assert_eq!(command.data_out_bytes(512), 6 * 512);
    cdb[13] = 17;
    let limited = Geometry { compare_and_write_blocks_max: 16, ..DISK };
    assert_eq!(sense(unit(limited).begin(A, &cdb)).field.map(|field| field.byte), Some(13));
}

#[test]
fn sanitize_knows_its_lengths() {
    let overwrite = |length: u16| {
        let [high, low] = length.to_be_bytes();
        begin(&[0x48, 0x81, 0, 0, 0, 0, 0, high, low, 0])
    };
    let expected = Command::Sanitize {
        action: SanitizeAction::Overwrite,
        immediate: true,
        unrestricted_exit: false,
        parameter_bytes: 516,
    };
    assert_eq!(overwrite(516), Ok(expected));
    for length in [0, 1, 4, 517] {
        assert_eq!(codes(overwrite(length)), INVALID_FIELD, "{length}");
    }
    for action in [2, 0x1f] {
        assert!(begin(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0]).is_ok());
        assert_eq!(codes(begin(&[0x48, action, 0, 0, 0, 0, 0, 0, 8, 0])), INVALID_FIELD);
    }
    for action in [0, 3, 4, 0x1e] {
        assert_eq!(codes(begin(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0])), INVALID_FIELD);
    }
}

#[test]
fn unknown_commands_are_told_apart_from_unknown_service_actions() {
    for opcode in [0x04, 0x9c, 0xc0, 0xff] {
        assert_eq!(codes(begin(&[opcode; 16])), INVALID_OPCODE);
    }
    let refused = sense(begin(&[0x5e, 0x1f, 0, 0, 0, 0, 0, 0, 8, 0]));
    assert_eq!((refused.asc, refused.field.map(|field| (field.byte, field.bit))), (0x24, Some((1, Some(4)))));
    assert_eq!(codes(begin(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), INVALID_OPCODE);
}

/// Each command as REPORT SUPPORTED OPERATION CODES lists it: operation code, service action if it has one, size.
fn listed(unit: &mut Unit, with_timeouts: bool) -> Vec<(u8, Option<u16>, usize)> {
    let flags = u8::from(with_timeouts) << 7;
    let data = get(unit, A, &[0xa3, 0x0c, flags, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    assert_eq!(be32(&data, 0) as usize, data.len() - 4);
    let descriptors = data[4..].chunks(if with_timeouts { 20 } else { 8 });
    let read = descriptors.map(|each| {
        assert_eq!(each[5] & 2 != 0, with_timeouts);
        assert!(!with_timeouts || be16(each, 8) == 10);
        (each[0], (each[5] & 1 != 0).then(|| be16(each, 2)), usize::from(be16(each, 6)))
    });
    read.collect()
}

/// CDB USAGE DATA of one command.
fn usage(unit: &mut Unit, opcode: u8, action: Option<u16>) -> Vec<u8> {
    let [high, low] = action.unwrap_or(0).to_be_bytes();
    let option = if action.is_some() { 2 } else { 1 };
    let data = get(unit, A, &[0xa3, 0x0c, option, opcode, high, low, 0, 0, 0xff, 0xff, 0, 0]);
    assert_eq!((data[1] & 7, usize::from(be16(&data, 2))), (3, data.len() - 4));
    data[4..].to_vec()
}

#[test]
fn every_listed_command_can_be_asked_for_by_itself() {
    let mut unit = unit(DISK);
    let all = listed(&mut unit, false);
    assert_eq!(all, listed(&mut unit, true));
    for (opcode, action, size) in all {
        let usage = usage(&mut unit, opcode, action);
        assert_eq!((usage[0], usage.len()), (opcode, size));
        let wrong_option = if action.is_some() { 1 } else { 2 };
        let wrong = [0xa3, 0x0c, wrong_option, opcode, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        assert_eq!(sense(ask(&mut unit, A, &wrong)).field.map(|field| field.byte), Some(2));
    }
}

#[test]
fn a_command_that_is_not_supported_is_said_to_be_so() {
    let mut unit = unit(DISK);
    for option in 1..=3 {
        let data = get(&mut unit, A, &[0xa3, 0x0c, option, 0x9c, 0, 0, 0, 0, 0, 99, 0, 0]);
        assert_eq!(data, [0, 1, 0, 0]);
    }
    let data = get(&mut unit, A, &[0xa3, 0x0c, 3, 0x28, 0, 0, 0, 0, 0, 99, 0, 0]);
    assert_eq!((data[1], data[4]), (3, 0x28));
}

#[test]
fn every_bit_outside_the_usage_data_is_refused_where_it_stands() {
    let mut unit = unit(DISK);
    for (opcode, action, size) in listed(&mut unit, false) {
        let usage = usage(&mut unit, opcode, action);
        for at in 1..size {
            let known = usage[at] | if at == 1 && action.is_some() { 0x1f } else { 0 };
            for bit in (0..8).filter(|bit| known >> bit & 1 == 0) {
                let mut cdb = vec![0; size];
                cdb[0] = opcode;
                cdb[1] = action.unwrap_or(0) as u8;
                cdb[at] |= 1 << bit;
                let field = sense(unit.begin(A, &cdb)).field.unwrap_or_else(|| panic!("{cdb:02x?}"));
                assert_eq!((field.byte, field.bit), (at as u16, Some(bit)), "{cdb:02x?}");
            }
        }
    }
}

#[test]
fn a_cdb_that_is_cut_short_is_refused() {
    let mut unit = unit(DISK);
    for (opcode, action, size) in listed(&mut unit, false) {
        let mut cdb = vec![0; size - 1];
        cdb[0] = opcode;
        cdb[1] = action.unwrap_or(0) as u8;
        let refused = sense(unit.begin(A, &cdb));
        assert_eq!(refused.field.map(|field| field.byte), Some(size as u16 - 1));
    }
    assert_eq!(codes(unit.begin(A, &[])), INVALID_OPCODE);
}

#[test]
fn writes_are_through_the_cache_once_it_is_switched_off() {
    let mut unit = unit(DISK);
    let caching = [&[0; 4], [0x08, 18].as_slice(), &[0; 18]].concat();
    let select = [0x15, 0x10, 0, 0, caching.len() as u8, 0];
    let answer = scsi_common::send(&mut unit, A, &select, &caching);
    assert!(answer.result.is_ok() && answer.flush && unit.write_through());
    let fua = |command| match command {
        Ok(
            Command::Write { fua, .. } | Command::OrWrite { fua, .. } | Command::CompareAndWrite { fua, .. },
        ) => fua,
        other => panic!("{other:?}"),
    };
    assert!(fua(unit.begin(A, &cdb10(0x2a, 0, 0, 1))));
    assert!(fua(unit.begin(A, &[0x0a, 0, 0, 0, 1, 0])));
    assert!(fua(unit.begin(A, &cdb10(0x2e, 0, 0, 1))));
    assert!(fua(unit.begin(A, &cdb16(0x8b, 0, 0, 1))));
    assert!(fua(unit.begin(A, &cdb16(0x89, 0, 0, 1))));
    assert_eq!(attentions(&mut unit, B), [(0x2a, 0x01)]);
}
