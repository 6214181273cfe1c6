//! One place of one record.
//!
//! ```text
//!  0  8  magic "RINGSANM"               20  4  body bytes
//!  8  2  version of the format: 1       24  8  generation: grows by one with each write of the record
//! 10  2  kind: identity 1,              32  4  0
//!        superblock 2, activity 3,      36  4  CRC32C of bytes 0..36, of the body and of the zeros behind it,
//!        bitmap 4                               up to a multiple of 4096
//! 12  4  replica whose bitmap it is     40     body
//! 16  4  page of that bitmap                                                        all little endian
//! ```
//! Its one rule: a slot is as it was written for this very place, or it is damaged.

use super::layout::{ACTIVITY_BYTES, RecordName, SLOT_BYTES, half_of};

pub(super) const HEADER_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"RINGSANM";
const VERSION: u16 = 1;
const CRC_AT: usize = 36;
/// As long as the longest slot, for a comparison at the speed of memory.
static ZEROS: [u8; ACTIVITY_BYTES] = [0; ACTIVITY_BYTES];
/// More generations than a disk lives.
const GENERATION_MAX: u64 = u64::MAX >> 1;

/// What lies in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// Nothing was ever written there.
    Zero,
    /// A record.
    Valid { generation: u64, body: &'a [u8] },
    /// One of another version of the format, by its first bytes.
    OtherVersion(u16),
    /// One that is torn or rotten.
    Damaged,
    /// Not ours.
    Foreign,
}

impl Slot<'_> {
    /// What lies in the place of `name` in this half of a chunk.
    pub(super) fn read(name: RecordName, half: usize, bytes: &[u8]) -> Slot<'_> {
        debug_assert_eq!(bytes.len(), name.slot_bytes());
        if bytes == &ZEROS[..bytes.len()] {
            return Slot::Zero;
        }
        if bytes[..8] != MAGIC {
            return Slot::Foreign;
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Slot::OtherVersion(version);
        }
        read_body(name, half, bytes).unwrap_or(Slot::Damaged)
    }
}

fn read_body(name: RecordName, half: usize, bytes: &[u8]) -> Option<Slot<'_>> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes[at..].first_chunk()?));
    let body_bytes = number(20)? as usize;
    let whole_bytes = padded(body_bytes)?;
    let (header, rest) = bytes.get(..whole_bytes)?.split_at(HEADER_BYTES);
    if crc(header, rest) != number(CRC_AT)? {
        return None;
    }
    let generation = u64::from_le_bytes(*bytes[24..].first_chunk()?);
    let is_here = header[10..20] == place(name) && half_of(generation) == half;
    let is_sane = generation <= GENERATION_MAX;
    (is_here && is_sane).then(|| Slot::Valid { generation, body: &rest[..body_bytes] })
}

/// Makes `out`, which has the header's room and the body, a whole slot.
pub(super) fn finish(name: RecordName, generation: u64, out: &mut Vec<u8>) {
    let body_bytes = out.len() - HEADER_BYTES;
    let whole_bytes = padded(body_bytes).expect("records are bounded");
    assert!(whole_bytes <= name.slot_bytes(), "a record fits its slot");
    out.resize(whole_bytes, 0);
    let (header, rest) = out.split_at_mut(HEADER_BYTES);
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10..20].copy_from_slice(&place(name));
    header[20..24].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    header[24..32].copy_from_slice(&generation.to_le_bytes());
    let crc = crc(header, rest);
    header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

fn padded(body_bytes: usize) -> Option<usize> {
    HEADER_BYTES.checked_add(body_bytes)?.checked_next_multiple_of(SLOT_BYTES)
}

fn crc(header: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), rest)
}

/// Kind, replica and page.
fn place(name: RecordName) -> [u8; 10] {
    let (kind, of, page) = match name {
        RecordName::Identity => (1_u16, 0, 0),
        RecordName::Superblock => (2, 0, 0),
        RecordName::Activity => (3, 0, 0),
        RecordName::Bitmap { of, page } => (4, u32::from(of.0), page),
    };
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&kind.to_le_bytes());
    bytes[2..6].copy_from_slice(&of.to_le_bytes());
    bytes[6..].copy_from_slice(&page.to_le_bytes());
    bytes
}
