//! EXTENDED COPY (SPC-4 6.4): its parameter list, with list identifiers of both lengths.
//!
//! Its one rule: what is announced in RECEIVE COPY OPERATING PARAMETERS and in VPD page 8Fh is what
//! `parse` lets pass. Reserved bytes are not looked at: initiators are known to leave them as they were.

mod report;

pub(super) use self::report::{Outcomes, third_party_copy_page};
use super::{Refusal, SenseKey, additional};

/// Names a logical unit as its identification page (VPD 83h) does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designator {
    /// CODE SET.
    pub code_set: u8,
    /// DESIGNATOR TYPE: 1 T10 vendor identification, 2 EUI-64, 3 NAA.
    pub kind: u8,
    /// The designator itself.
    pub bytes: Vec<u8>,
}

/// One end of a copy (identification descriptor target descriptor, E4h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyEnd {
    /// Which unit. Compare it with [`super::Identity::designators`].
    pub designator: Designator,
    /// The block length that the initiator believes it has; 0 if it does not say.
    pub block_bytes: u32,
}

/// One block-to-block segment (02h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySegment {
    /// Index of the source in [`CopyPlan::ends`].
    pub source: u16,
    /// Index of the destination.
    pub destination: u16,
    /// Blocks of the source, or of the destination if `count_by_destination`.
    pub blocks: u16,
    /// DC: in whose blocks `blocks` counts.
    pub count_by_destination: bool,
    /// Where to read, in blocks of the source.
    pub source_lba: u64,
    /// Where to write, in blocks of the destination.
    pub destination_lba: u64,
}

/// What EXTENDED COPY asks for. The ends and blocks have still to be looked up and checked against the units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyPlan {
    /// LIST IDENTIFIER; `None` if none is used.
    pub list_id: Option<u32>,
    /// The units involved.
    pub ends: Vec<CopyEnd>,
    /// In the order to carry out.
    pub segments: Vec<CopySegment>,
}

/// How a copy ended, for RECEIVE COPY RESULTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOutcome {
    /// Segments carried out.
    pub segments_done: u16,
    /// Bytes written.
    pub bytes_done: u64,
    /// Why it ended early.
    pub refusal: Option<Refusal>,
}

/// An end names no unit that can be reached from here.
pub const NOT_REACHABLE: Refusal =
    Refusal::check(SenseKey::CopyAborted, additional::COPY_TARGET_NOT_REACHABLE);

/// A segment leaves the medium of one of its ends, or cannot be carried out for other reasons of its own.
pub const SEGMENT_FAILED: Refusal = Refusal::check(SenseKey::CopyAborted, additional::NONE);

/// The most of each, and of the bytes that describe them.
const ENDS_MAX: usize = 16;
const SEGMENTS_MAX: usize = 64;
const DESCRIPTORS_BYTES_MAX: usize = ENDS_MAX * END_BYTES + SEGMENTS_MAX * SEGMENT_BYTES;
const INLINE_BYTES_MAX: usize = 0;

const END_TYPE: u8 = 0xe4;
const END_BYTES: usize = 32;
const SEGMENT_TYPE: u8 = 0x02;
const SEGMENT_BYTES: usize = 28;

const LENGTH_ERROR: Refusal = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);

/// Reads the parameter list.
pub fn parse(data: &[u8], lid4: bool) -> Result<CopyPlan, Refusal> {
    if data.is_empty() {
        return Ok(CopyPlan::default());
    }
    let header = if lid4 { Header::parse_lid4(data)? } else { Header::parse_lid1(data)? };
    let descriptors_bytes = header.ends_bytes.checked_add(header.segments_bytes).ok_or(LENGTH_ERROR)?;
    if descriptors_bytes > DESCRIPTORS_BYTES_MAX || header.inline_bytes > INLINE_BYTES_MAX {
        return Err(LENGTH_ERROR);
    }
    let descriptors = data.get(header.bytes..header.bytes + descriptors_bytes).ok_or(LENGTH_ERROR)?;
    let (ends, segments) = descriptors.split_at(header.ends_bytes);
    let ends = parse_ends(ends, header.bytes)?;
    let segments = parse_segments(segments, header.bytes + header.ends_bytes, ends.len())?;
    Ok(CopyPlan { list_id: header.list_id, ends, segments })
}

/// What the two forms of the parameter list say before their descriptors.
struct Header {
    /// Its own size.
    bytes: usize,
    list_id: Option<u32>,
    ends_bytes: usize,
    segments_bytes: usize,
    inline_bytes: usize,
}

impl Header {
    /// SPC-4 table 101.
    fn parse_lid1(data: &[u8]) -> Result<Header, Refusal> {
        let header = data.first_chunk::<16>().ok_or(LENGTH_ERROR)?;
        let size =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Ok(Header {
            bytes: header.len(),
            list_id: list_id(header[0].into(), header[1], 0)?,
            ends_bytes: u16::from_be_bytes([header[2], header[3]]).into(),
            segments_bytes: usize::try_from(size(8)).map_err(|_| LENGTH_ERROR)?,
            inline_bytes: usize::try_from(size(12)).map_err(|_| LENGTH_ERROR)?,
        })
    }

    /// SPC-4 table 107.
    fn parse_lid4(data: &[u8]) -> Result<Header, Refusal> {
        let header = data.first_chunk::<48>().ok_or(LENGTH_ERROR)?;
        let short = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        if header[0] != 1 {
            return Err(Refusal::parameter_field(0, None));
        }
        if short(2) != 0x20 {
            return Err(Refusal::parameter_field(2, None));
        }
        // IMMED: the answer comes when the copy is done.
        if header[15] & 0x01 != 0 {
            return Err(Refusal::parameter_field(15, Some(0)));
        }
        if header[16] != 0xff {
            return Err(Refusal::parameter_field(16, None));
        }
        let id = u32::from_be_bytes([header[20], header[21], header[22], header[23]]);
        Ok(Header {
            bytes: header.len(),
            list_id: list_id(id, header[1], 20)?,
            ends_bytes: short(42),
            segments_bytes: short(44),
            inline_bytes: short(46),
        })
    }
}

/// LIST ID USAGE 11b: there is none, and the field is zero.
fn list_id(id: u32, flags: u8, at: u16) -> Result<Option<u32>, Refusal> {
    match flags >> 3 & 3 {
        3 if id != 0 => Err(Refusal::parameter_field(at, None)),
        3 => Ok(None),
        1 => Err(Refusal::parameter_field(1, Some(4))),
        _ => Ok(Some(id)),
    }
}

fn parse_ends(mut rest: &[u8], start: usize) -> Result<Vec<CopyEnd>, Refusal> {
    let mut ends = Vec::new();
    let mut at = start;
    while let Some(kind) = rest.first() {
        if *kind != END_TYPE {
            return Err(Refusal::illegal(additional::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE));
        }
        let (descriptor, after) = rest.split_first_chunk::<END_BYTES>().ok_or(LENGTH_ERROR)?;
        if ends.len() == ENDS_MAX {
            return Err(Refusal::illegal(additional::TOO_MANY_TARGET_DESCRIPTORS));
        }
        ends.push(parse_end(descriptor, at)?);
        (rest, at) = (after, at + END_BYTES);
    }
    Ok(ends)
}

fn parse_end(descriptor: &[u8; END_BYTES], at: usize) -> Result<CopyEnd, Refusal> {
    let bad = |offset: usize, bit: Option<u8>| Err(Refusal::parameter_field((at + offset) as u16, bit));
    // LU ID TYPE says nothing where a designator names the unit (SPC-4 6.4.5.8).
    let flags = descriptor[1];
    // NUL: an end that is not there.
    if flags & 0x20 != 0 {
        return Err(NOT_REACHABLE);
    }
    if flags & 0x1f != 0 {
        return Err(Refusal::check(SenseKey::CopyAborted, additional::INCORRECT_COPY_TARGET_TYPE));
    }
    let length = usize::from(descriptor[7]);
    if descriptor[5] & 0x30 != 0 {
        return bad(5, Some(5));
    }
    let Some(bytes) = descriptor[8..28].get(..length) else { return bad(7, None) };
    let designator =
        Designator { code_set: descriptor[4] & 0x0f, kind: descriptor[5] & 0x0f, bytes: bytes.to_vec() };
    let block_bytes = u32::from_be_bytes([0, descriptor[29], descriptor[30], descriptor[31]]);
    Ok(CopyEnd { designator, block_bytes })
}

fn parse_segments(mut rest: &[u8], start: usize, ends: usize) -> Result<Vec<CopySegment>, Refusal> {
    let mut segments = Vec::new();
    let mut at = start;
    while let Some(kind) = rest.first() {
        if *kind != SEGMENT_TYPE {
            return Err(Refusal::illegal(additional::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE));
        }
        let (descriptor, after) = rest.split_first_chunk::<SEGMENT_BYTES>().ok_or(LENGTH_ERROR)?;
        if segments.len() == SEGMENTS_MAX {
            return Err(Refusal::illegal(additional::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        segments.push(parse_segment(descriptor, at, ends)?);
        (rest, at) = (after, at + SEGMENT_BYTES);
    }
    Ok(segments)
}

fn parse_segment(descriptor: &[u8; SEGMENT_BYTES], at: usize, ends: usize) -> Result<CopySegment, Refusal> {
    let short = |at: usize| u16::from_be_bytes([descriptor[at], descriptor[at + 1]]);
    let long = |at: usize| u64::from_be_bytes(*descriptor[at..].first_chunk().expect("it lies within"));
    if usize::from(short(2)) != SEGMENT_BYTES - 4 {
        return Err(Refusal::parameter_field((at + 2) as u16, None));
    }
    let (source, destination) = (short(4), short(6));
    if usize::from(source.max(destination)) >= ends {
        return Err(NOT_REACHABLE);
    }
    Ok(CopySegment {
        source,
        destination,
        blocks: short(10),
        count_by_destination: descriptor[1] & 0x02 != 0,
        source_lba: long(12),
        destination_lba: long(20),
    })
}
