//! A unit to test, nexuses on it, and commands put in a line.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod reservation;

use wire::scsi::{
    Answer, Command, Geometry, Identity, InitiatorPort, NexusId, Refusal, Sense, TargetPort, Unit,
};

pub const A: NexusId = NexusId(1);
pub const B: NexusId = NexusId(2);
pub const C: NexusId = NexusId(3);

/// A thinly provisioned disk of 1 GiB with a write cache.
pub const DISK: Geometry = Geometry {
    block_bytes: 512,
    blocks: 1 << 21,
    physical_block_exponent: 3,
    optimal_blocks: 2048,
    transfer_blocks_max: 8192,
    unmap_blocks_max: 1 << 20,
    unmap_descriptors_max: 256,
    unmap_granularity_blocks: 8,
    write_same_blocks_max: 0,
    compare_and_write_blocks_max: 255,
    can_discard: true,
    zero_after_unmap: true,
    read_only: false,
    write_cache: true,
    removable: false,
};

pub fn identity() -> Identity {
    Identity { uuid: *b"0123456789abcdef", volume_name: "disk0".to_owned() }
}

/// A unit with the nexuses A, B and C, whose power-on attentions have been taken.
pub fn unit(geometry: Geometry) -> Unit {
    let mut unit = Unit::new(identity(), geometry, None).expect("nothing was saved");
    for nexus in [A, B, C] {
        attach(&mut unit, nexus);
    }
    unit
}

pub fn attach(unit: &mut Unit, nexus: NexusId) {
    unit.attach(nexus, initiator(nexus), target());
    assert_eq!(attention(unit, nexus), Some((0x29, 0)));
}

pub fn initiator(nexus: NexusId) -> InitiatorPort {
    let host = nexus.0 as u8;
    InitiatorPort { name: format!("iqn.2026-11.org.example:host{host}"), isid: [0x80, 0, 0, 0, 0, host] }
}

pub fn target() -> TargetPort {
    TargetPort { target_name: "iqn.2026-11.io.ringsan:disk0".to_owned(), portal_group: 1, relative_port: 1 }
}

/// The data in of a command that the unit answers itself.
pub fn ask(unit: &mut Unit, nexus: NexusId, cdb: &[u8]) -> Result<Vec<u8>, Refusal> {
    send(unit, nexus, cdb, &[]).result
}

/// Data in, or panic.
pub fn get(unit: &mut Unit, nexus: NexusId, cdb: &[u8]) -> Vec<u8> {
    ask(unit, nexus, cdb).unwrap_or_else(|refusal| panic!("{cdb:02x?}: {refusal:?}"))
}

/// A command that the unit answers itself, with its data out.
pub fn send(unit: &mut Unit, nexus: NexusId, cdb: &[u8], data_out: &[u8]) -> Answer {
    match unit.begin(nexus, cdb) {
        Ok(Command::Unit(command)) => unit.answer(nexus, &command, data_out),
        Ok(command) => panic!("{cdb:02x?} is {command:?}, for the medium"),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Answer {
    Answer { result: Err(refusal), save: None, abort: Vec::new(), flush: false }
}

/// TEST UNIT READY: the unit attention that it meets.
pub fn attention(unit: &mut Unit, nexus: NexusId) -> Option<(u8, u8)> {
    let sense = unit.begin(nexus, &[0; 6]).err()?.sense?;
    (sense.key == wire::scsi::SenseKey::UnitAttention).then_some((sense.asc, sense.ascq))
}

/// All unit attentions that are pending.
pub fn attentions(unit: &mut Unit, nexus: NexusId) -> Vec<(u8, u8)> {
    std::iter::from_fn(|| attention(unit, nexus)).collect()
}

pub fn sense(result: Result<impl std::fmt::Debug, Refusal>) -> Sense {
    result.expect_err("the command is to be refused").sense.expect("with sense data")
}

/// Sense key, additional sense code, qualifier.
pub fn codes(result: Result<impl std::fmt::Debug, Refusal>) -> (u8, u8, u8) {
    let sense = sense(result);
    (sense.key as u8, sense.asc, sense.ascq)
}

/// A ten-byte CDB with flags, address and length.
pub fn cdb10(opcode: u8, flags: u8, lba: u32, length: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&length.to_be_bytes());
    cdb
}

/// A sixteen-byte CDB with flags, address and length.
pub fn cdb16(opcode: u8, flags: u8, lba: u64, length: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&length.to_be_bytes());
    cdb
}

pub fn inquiry(vpd_page: Option<u8>, allocation_bytes: u16) -> [u8; 6] {
    let [high, low] = allocation_bytes.to_be_bytes();
    [0x12, u8::from(vpd_page.is_some()), vpd_page.unwrap_or(0), high, low, 0]
}

pub fn be16(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(*data[at..].first_chunk().expect("two bytes"))
}

pub fn be32(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*data[at..].first_chunk().expect("four bytes"))
}

pub fn be64(data: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*data[at..].first_chunk().expect("eight bytes"))
}
