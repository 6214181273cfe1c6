//! Fields of a basic header at their fixed places.
//!
//! Its one rule: the places are constants below 48, so that no bounds check remains.

use super::BHS_BYTES;

pub(super) type Bhs = [u8; BHS_BYTES];

/// The first byte: immediate delivery.
pub(super) const IMMEDIATE: u8 = 0x40;
/// The second byte: the last PDU of a sequence.
pub(super) const FINAL: u8 = 0x80;
/// The second byte of text and login PDUs: the text goes on in the next one.
pub(super) const CONTINUE: u8 = 0x40;

#[inline]
pub(super) fn u16_at(bhs: &Bhs, at: usize) -> u16 {
    u16::from_be_bytes([bhs[at], bhs[at + 1]])
}

#[inline]
pub(super) fn u32_at(bhs: &Bhs, at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

#[inline]
pub(super) fn u64_at(bhs: &Bhs, at: usize) -> u64 {
    u64::from(u32_at(bhs, at)) << 32 | u64::from(u32_at(bhs, at + 4))
}

/// The value where it is set, else nothing.
#[inline]
pub(super) fn bit(is_set: bool, value: u8) -> u8 {
    if is_set { value } else { 0 }
}

/// The first four bytes: opcode, flags, and two that depend on the opcode.
#[inline]
pub(super) fn head(opcode: u8, flags: u8, third: u8, fourth: u8) -> u32 {
    u32::from_be_bytes([opcode, flags, third, fourth])
}

/// Bytes 4 to 7: TotalAHSLength in words and DataSegmentLength in bytes.
#[inline]
pub(super) fn lengths(ahs_bytes: usize, data_bytes: usize) -> u32 {
    assert!(data_bytes < 1 << 24, "a data segment's length has 24 bits");
    assert!(ahs_bytes.is_multiple_of(4) && ahs_bytes <= super::AHS_BYTES_MAX, "an AHS has 255 words at most");
    (ahs_bytes as u32 / 4) << 24 | data_bytes as u32
}
