//! Command descriptor blocks and parameter lists, written out byte by byte from SPC-4 and SBC-3.
#![allow(dead_code, reason = "each test program uses a part of it")]

use wire::scsi::copy::Designator;

/// WRITE SAME: no data-out buffer.
pub const NDOB: u8 = 0x01;
/// WRITE SAME: may let go.
pub const UNMAP: u8 = 0x08;

pub fn read16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x88, 0, lba, blocks)
}

pub fn write16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x8a, 0, lba, blocks)
}

pub fn orwrite16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x8b, 0, lba, blocks)
}

pub fn verify16(lba: u64, blocks: u32, byte_check: u8) -> [u8; 16] {
    sixteen(0x8f, byte_check << 1, lba, blocks)
}

pub fn write_and_verify16(lba: u64, blocks: u32, byte_check: u8) -> [u8; 16] {
    sixteen(0x8e, byte_check << 1, lba, blocks)
}

pub fn write_same16(lba: u64, blocks: u32, flags: u8) -> [u8; 16] {
    sixteen(0x93, flags, lba, blocks)
}

pub fn synchronize_cache16(lba: u64, blocks: u32, immediate: bool) -> [u8; 16] {
    sixteen(0x91, u8::from(immediate) << 1, lba, blocks)
}

pub fn prefetch16(lba: u64, blocks: u32) -> [u8; 16] {
    sixteen(0x90, 0, lba, blocks)
}

pub fn get_lba_status(lba: u64) -> [u8; 16] {
    sixteen(0x9e, 0x12, lba, 4096)
}

pub fn compare_and_write(lba: u64, blocks: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x89;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[13] = blocks;
    cdb
}

/// UNMAP with so many descriptors.
pub fn unmap_cdb(descriptors: u16) -> [u8; 10] {
    let [high, low] = (8 + 16 * descriptors).to_be_bytes();
    [0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

pub fn unmap_list(extents: &[(u64, u32)]) -> Vec<u8> {
    let bytes = 16 * extents.len() as u16;
    let mut list = (bytes + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in extents {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

/// SANITIZE: 1 overwrite, 2 block erase, 1Fh exit failure mode.
pub fn sanitize(action: u8, immediate: bool, parameter_bytes: u16) -> [u8; 10] {
    let [high, low] = parameter_bytes.to_be_bytes();
    [0x48, action | u8::from(immediate) << 7, 0, 0, 0, 0, 0, high, low, 0]
}

/// PERSISTENT RESERVE OUT.
pub fn reserve_out(action: u8, kind: u8) -> [u8; 10] {
    [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0]
}

pub fn reserve_list(key: u64, action_key: u64, through_power_loss: bool) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend_from_slice(&action_key.to_be_bytes());
    list.extend_from_slice(&[0, 0, 0, 0, u8::from(through_power_loss), 0, 0, 0]);
    list
}

/// EXTENDED COPY (LID1).
pub fn extended_copy(list_bytes: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&(list_bytes as u32).to_be_bytes());
    cdb
}

/// One block-to-block segment between two of `ends`.
pub fn copy_list(
    ends: &[Designator],
    (source, destination): (u16, u16),
    blocks: u16,
    source_lba: u64,
    destination_lba: u64,
) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[0] = 1;
    list[2..4].copy_from_slice(&(32 * ends.len() as u16).to_be_bytes());
    list[8..12].copy_from_slice(&28u32.to_be_bytes());
    for end in ends {
        let mut descriptor = [0; 32];
        descriptor[0] = 0xe4;
        descriptor[4] = end.code_set;
        descriptor[5] = end.kind;
        descriptor[7] = end.bytes.len() as u8;
        descriptor[8..8 + end.bytes.len()].copy_from_slice(&end.bytes);
        descriptor[29..32].copy_from_slice(&[0, 2, 0]);
        list.extend_from_slice(&descriptor);
    }
    let mut segment = [0; 28];
    segment[0] = 0x02;
    segment[3] = 24;
    segment[4..6].copy_from_slice(&source.to_be_bytes());
    segment[6..8].copy_from_slice(&destination.to_be_bytes());
    segment[10..12].copy_from_slice(&blocks.to_be_bytes());
    segment[12..20].copy_from_slice(&source_lba.to_be_bytes());
    segment[20..28].copy_from_slice(&destination_lba.to_be_bytes());
    list.extend_from_slice(&segment);
    list
}

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
