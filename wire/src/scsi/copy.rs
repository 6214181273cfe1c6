//! EXTENDED COPY (SPC-4 6.4): the parameter list of both list identifier lengths, and what is kept of the outcome.

use super::Refusal;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Reads the parameter list.
pub fn parse(data: &[u8], lid4: bool) -> Result<CopyPlan, Refusal> {
    let _ = (data, lid4);
    unimplemented!()
}
