//! MODE SENSE and MODE SELECT.

mod scsi_common;

use scsi_common::{A, B, DISK, ask, attentions, be16, be32, be64, cdb10, codes, get, send, sense, unit};
use wire::scsi::{Answer, Geometry, Reset, Unit};

const CURRENT: u8 = 0x00;
const CHANGEABLE: u8 = 0x40;
const DEFAULT: u8 = 0x80;
const SAVED: u8 = 0xc0;

/// A page by MODE SENSE (6) without block descriptors.
fn page(unit: &mut Unit, control: u8, code: u8) -> Vec<u8> {
    let data = get(unit, A, &[0x1a, 0x08, control | code, 0, 255, 0]);
    assert_eq!((usize::from(data[0]), data[3]), (data.len() - 1, 0));
    data[4..].to_vec()
}

/// MODE SELECT (6) of these pages.
fn select(unit: &mut Unit, pages: &[u8]) -> Answer {
    let list = [&[0; 4], pages].concat();
    send(unit, A, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

/// The control page with these bits of its third and fifth byte changed.
fn control(unit: &mut Unit, d_sense: bool, swp: bool) -> Vec<u8> {
    let mut page = page(unit, CURRENT, 0x0a);
    page[2] = page[2] & !0x04 | u8::from(d_sense) << 2;
    page[4] = page[4] & !0x08 | u8::from(swp) << 3;
    page
}

#[test]
fn all_pages_hold_each_page_as_it_reads_alone() {
    let mut unit = unit(DISK);
    for page_control in [CURRENT, CHANGEABLE, DEFAULT] {
        let all = page(&mut unit, page_control, 0x3f);
        let (mut rest, mut codes) = (all.as_slice(), Vec::new());
        while let [code, length, ..] = *rest {
            let (one, after) = rest.split_at(2 + usize::from(length));
            assert_eq!(one, page(&mut unit, page_control, code & 0x3f));
            codes.push(code);
            rest = after;
        }
        assert_eq!(codes, [0x01, 0x02, 0x08, 0x0a, 0x1c]);
    }
}

#[test]
fn subpages_come_alone_or_all_together() {
    let mut unit = unit(DISK);
    let extension = get(&mut unit, A, &[0x1a, 0x08, 0x0a, 0x01, 255, 0]);
    assert_eq!(extension[4..8], [0x4a, 0x01, 0, 28]);
    let both = get(&mut unit, A, &[0x1a, 0x08, 0x0a, 0xff, 255, 0]);
    assert_eq!(both.len(), 4 + 12 + 32);
    let everything = get(&mut unit, A, &[0x1a, 0x08, 0x3f, 0xff, 255, 0]);
    assert_eq!(everything.len(), page(&mut unit, CURRENT, 0x3f).len() + 4 + 32);
    assert_eq!(codes(ask(&mut unit, A, &[0x1a, 0x08, 0x08, 0x01, 255, 0])), (5, 0x24, 0));
    assert_eq!(sense(ask(&mut unit, A, &[0x1a, 0x08, 0x05, 0, 255, 0])).field.map(|f| f.byte), Some(2));
}

#[test]
fn nothing_is_saved() {
    let mut unit = unit(DISK);
    assert_eq!(codes(ask(&mut unit, A, &[0x1a, 0x08, SAVED | 0x0a, 0, 255, 0])), (5, 0x39, 0));
    let saving = send(&mut unit, A, &[0x15, 0x11, 0, 0, 4, 0], &[0; 4]);
    assert_eq!(codes(saving.result), (5, 0x24, 0));
}

#[test]
fn block_descriptors_come_in_two_sizes() {
    let mut unit = unit(DISK);
    let short = get(&mut unit, A, &[0x1a, 0, 0x0a, 0, 255, 0]);
    assert_eq!((short[3], be32(&short, 4), be32(&short, 8)), (8, 1 << 21, 512));
    let long = get(&mut unit, A, &[0x5a, 0x10, 0x0a, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!((long[4], be16(&long, 6), be64(&long, 8), be32(&long, 20)), (1, 16, 1 << 21, 512));
    assert_eq!(usize::from(be16(&long, 0)), long.len() - 2);
    let plain = get(&mut unit, A, &[0x5a, 0, 0x0a, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!((plain[4], be16(&plain, 6)), (0, 8));
}

#[test]
fn fua_is_announced_and_protection_shown() {
    let specific = |geometry| get(&mut unit(geometry), A, &[0x1a, 0x08, 0x0a, 0, 255, 0])[2];
    assert_eq!(specific(DISK), 0x10);
    assert_eq!(specific(Geometry { read_only: true, ..DISK }), 0x90);
}

#[test]
fn the_write_cache_is_shown_as_it_is() {
    let wce = |geometry, control| page(&mut unit(geometry), control, 0x08)[2] & 0x04 != 0;
    assert!(wce(DISK, CURRENT) && wce(DISK, CHANGEABLE));
    let through = Geometry { write_cache: false, ..DISK };
    assert!(!wce(through, CURRENT) && !wce(through, CHANGEABLE));
    let mut unit = unit(through);
    let mut caching = page(&mut unit, CURRENT, 0x08);
    caching[2] |= 0x04;
    assert_eq!(codes(select(&mut unit, &caching).result), (5, 0x26, 0));
}

#[test]
fn software_write_protection_stops_writes_of_everybody() {
    let mut unit = unit(DISK);
    let protect = control(&mut unit, false, true);
    assert!(select(&mut unit, &protect).result.is_ok());
    assert_eq!(attentions(&mut unit, B), [(0x2a, 0x01)]);
    assert_eq!(attentions(&mut unit, A), []);
    assert_eq!(page(&mut unit, CURRENT, 0x0a)[4] & 0x08, 0x08);
    assert_eq!(page(&mut unit, DEFAULT, 0x0a)[4] & 0x08, 0);
    for nexus in [A, B] {
        assert_eq!(codes(unit.begin(nexus, &cdb10(0x2a, 0, 0, 1))), (7, 0x27, 0x02));
        assert!(unit.begin(nexus, &cdb10(0x28, 0, 0, 1)).is_ok());
    }
    assert_eq!(codes(unit.begin(A, &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0])), (7, 0x27, 0x02));
    let free = control(&mut unit, false, false);
    assert!(select(&mut unit, &free).result.is_ok());
    assert!(unit.begin(A, &cdb10(0x2a, 0, 0, 1)).is_ok());
}

#[test]
fn a_read_only_unit_refuses_every_write() {
    let mut unit = unit(Geometry { read_only: true, ..DISK });
    let tens = [0x2a, 0x2e, 0x41, 0x42].map(|opcode| cdb10(opcode, 0, 0, 1).to_vec());
    let sixteens = [0x89, 0x8a, 0x8b, 0x8e, 0x93].map(|opcode| scsi_common::cdb16(opcode, 0, 0, 1).to_vec());
    for cdb in tens.into_iter().chain(sixteens) {
        let cdb = if cdb[0] == 0x42 { vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0] } else { cdb };
        assert_eq!(codes(unit.begin(A, &cdb)), (7, 0x27, 0), "{cdb:02x?}");
    }
}

#[test]
fn sense_format_follows_the_control_page_until_a_reset() {
    let mut unit = unit(DISK);
    let descriptor = control(&mut unit, true, false);
    assert!(select(&mut unit, &descriptor).result.is_ok() && unit.wants_descriptor_sense());
    assert!(select(&mut unit, &descriptor).result.is_ok());
    assert_eq!(attentions(&mut unit, B), [(0x2a, 0x01)], "the second time nothing changed");
    unit.reset(Reset::LogicalUnit);
    assert!(!unit.wants_descriptor_sense());
}

#[test]
fn a_bit_that_cannot_change_is_pointed_at_and_nothing_is_changed() {
    let mut unit = unit(DISK);
    let mut pages = control(&mut unit, true, false);
    let mut exceptions = page(&mut unit, CURRENT, 0x1c);
    exceptions[2] ^= 0x80;
    pages.extend(exceptions);
    let field = sense(select(&mut unit, &pages).result).field.expect("a pointer");
    assert_eq!((field.in_cdb, field.byte, field.bit), (false, 4 + 12 + 2, Some(7)));
    assert!(!unit.wants_descriptor_sense());
    assert_eq!(attentions(&mut unit, B), []);
}

#[test]
fn broken_parameter_lists_are_refused() {
    let mut unit = unit(DISK);
    let control = control(&mut unit, false, false);
    let cut = &control[..7];
    assert_eq!(codes(select(&mut unit, cut).result), (5, 0x1a, 0));
    let mut wrong_length = control.clone();
    wrong_length[1] = 9;
    assert_eq!(sense(select(&mut unit, &wrong_length).result).field.map(|f| f.byte), Some(5));
    assert_eq!(sense(select(&mut unit, &[0x05, 0]).result).field.map(|f| f.byte), Some(4));
    assert_eq!(codes(send(&mut unit, A, &[0x15, 0x10, 0, 0, 3, 0], &[0; 3]).result), (5, 0x1a, 0));
    // Less data came than was announced.
    assert_eq!(codes(send(&mut unit, A, &[0x15, 0x10, 0, 0, 16, 0], &[0; 4]).result), (5, 0x1a, 0));
    assert!(send(&mut unit, A, &[0x15, 0x10, 0, 0, 0, 0], &[]).result.is_ok());
}

#[test]
fn block_descriptors_may_only_say_what_is() {
    let mut unit = unit(DISK);
    let mut list = get(&mut unit, A, &[0x1a, 0, 0x0a, 0, 255, 0]);
    list[0] = 0;
    let select = [0x15, 0x10, 0, 0, list.len() as u8, 0];
    assert!(send(&mut unit, A, &select, &list).result.is_ok());
    list[10] = 0x10;
    assert_eq!(sense(send(&mut unit, A, &select, &list).result).field.map(|f| f.byte), Some(9));
    let mut list = get(&mut unit, A, &[0x5a, 0x10, 0x0a, 0, 0, 0, 0, 0, 255, 0]);
    let select = [0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
    assert!(send(&mut unit, A, &select, &list).result.is_ok());
    list[15] ^= 1;
    assert_eq!(sense(send(&mut unit, A, &select, &list).result).field.map(|f| f.byte), Some(8));
}
