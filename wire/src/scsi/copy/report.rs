//! What is told of copies: the third-party copy page (SPC-4 7.8.17) and RECEIVE COPY RESULTS (6.23 to 6.27).

use std::collections::VecDeque;

use super::{
    CopyOutcome, DESCRIPTORS_BYTES_MAX, END_TYPE, ENDS_MAX, INLINE_BYTES_MAX, SEGMENT_TYPE, SEGMENTS_MAX,
};
use crate::scsi::Refusal;
use crate::scsi::command::ReceiveCopyResults;

/// Outcomes kept for a nexus; the oldest gives way.
const OUTCOMES_MAX: usize = 16;
/// Copies that a nexus may have at a time.
const CONCURRENT_MAX: u8 = 4;
/// Blocks are counted in 16 bits, and the largest has 4096 bytes.
const SEGMENT_BYTES_MAX: u32 = 65535 * 4096;
/// Segments are whole blocks of 512 bytes.
const GRANULARITY_LOG2: u8 = 9;

/// How the copies of one nexus ended.
#[derive(Clone, Debug, Default)]
pub(in crate::scsi) struct Outcomes {
    kept: VecDeque<(u32, CopyOutcome)>,
}

impl Outcomes {
    pub fn keep(&mut self, list_id: u32, outcome: CopyOutcome) {
        self.kept.retain(|(id, _)| *id != list_id);
        if self.kept.len() == OUTCOMES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((list_id, outcome));
    }

    /// The answer to RECEIVE COPY RESULTS, not yet cut to the allocation length.
    pub fn report(&self, asked: &ReceiveCopyResults) -> Result<Vec<u8>, Refusal> {
        if asked.service_action == 3 {
            return Ok(operating_parameters());
        }
        let found = self.kept.iter().find(|(id, _)| *id == asked.list_id);
        let (_, outcome) = found.ok_or(Refusal::cdb_field(2, None))?;
        Ok(match asked.service_action {
            0 => status_lid1(outcome),
            4 => failure_details(outcome),
            _ => status_lid4(outcome),
        })
    }
}

/// RECEIVE COPY OPERATING PARAMETERS (SPC-4 6.25).
fn operating_parameters() -> Vec<u8> {
    const SNLID: u8 = 0x01;
    let mut data = vec![0, 0, 0, 0, SNLID, 0, 0, 0];
    data.extend_from_slice(&(ENDS_MAX as u16).to_be_bytes());
    data.extend_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    data.extend_from_slice(&(DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    data.extend_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    data.extend_from_slice(&(INLINE_BYTES_MAX as u32).to_be_bytes());
    // HELD DATA LIMIT, MAXIMUM STREAM DEVICE TRANSFER SIZE, reserved.
    data.extend_from_slice(&[0; 10]);
    data.extend_from_slice(&u16::from(CONCURRENT_MAX).to_be_bytes());
    data.extend_from_slice(&[CONCURRENT_MAX, GRANULARITY_LOG2, 0, 0, 0, 0, 0, 2, SEGMENT_TYPE, END_TYPE]);
    with_length(data)
}

/// RECEIVE COPY STATUS (LID1) (SPC-4 6.26).
fn status_lid1(outcome: &CopyOutcome) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 0, outcome.status()];
    data.extend_from_slice(&outcome.segments_done.to_be_bytes());
    let (units, count) = counted(outcome.bytes_done);
    data.push(units);
    data.extend_from_slice(&count.to_be_bytes());
    with_length(data)
}

/// TRANSFER COUNT UNITS, and the count: bytes while they fit, else MiB.
fn counted(bytes: u64) -> (u8, u32) {
    match u32::try_from(bytes) {
        Ok(bytes) => (0, bytes),
        Err(_) => (2, u32::try_from(bytes >> 20).unwrap_or(u32::MAX)),
    }
}

/// RECEIVE COPY FAILURE DETAILS (LID1) (SPC-4 6.24): nothing is available of a copy that did not fail.
fn failure_details(outcome: &CopyOutcome) -> Vec<u8> {
    let Some(refusal) = outcome.refusal else { return vec![0; 4] };
    let sense = sense_of(&refusal);
    let mut data = vec![0; 56];
    data.extend_from_slice(&[refusal.status as u8, 0]);
    data.extend_from_slice(&(sense.len() as u16).to_be_bytes());
    data.extend(sense);
    with_length(data)
}

/// RECEIVE COPY STATUS (LID4) (SPC-4 6.27).
fn status_lid4(outcome: &CopyOutcome) -> Vec<u8> {
    let (status, sense) = match outcome.refusal {
        Some(refusal) => (refusal.status as u8, sense_of(&refusal)),
        None => (0, Vec::new()),
    };
    let sense_bytes = sense.len() as u8;
    let mut data =
        vec![0, 0, 0, 0, 0x01, outcome.status(), 0, 1, 0, 0, 0, 0, status, sense_bytes, sense_bytes, 0];
    data.extend_from_slice(&outcome.bytes_done.to_be_bytes());
    data.extend_from_slice(&outcome.segments_done.to_be_bytes());
    data.extend_from_slice(&[0; 6]);
    data.extend(sense);
    with_length(data)
}

impl CopyOutcome {
    /// COPY MANAGER STATUS: completed without errors, or with.
    fn status(&self) -> u8 {
        if self.refusal.is_none() { 0x01 } else { 0x02 }
    }
}

fn sense_of(refusal: &Refusal) -> Vec<u8> {
    let mut sense = Vec::new();
    if let Some(value) = refusal.sense {
        value.encode(false, &mut sense);
    }
    sense
}

/// Fills in AVAILABLE DATA.
fn with_length(mut data: Vec<u8>) -> Vec<u8> {
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// The third-party copy page, without its header.
pub(in crate::scsi) fn third_party_copy_page() -> Vec<u8> {
    let mut body = Vec::new();
    // Supported commands: EXTENDED COPY and RECEIVE COPY RESULTS with their service actions.
    put_descriptor(&mut body, 0x0001, &[10, 0x83, 2, 0x00, 0x01, 0x84, 4, 0x00, 0x03, 0x04, 0x05]);
    let mut parameters = vec![0; 4];
    parameters.extend_from_slice(&(ENDS_MAX as u16).to_be_bytes());
    parameters.extend_from_slice(&(SEGMENTS_MAX as u16).to_be_bytes());
    parameters.extend_from_slice(&(DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    parameters.extend_from_slice(&(INLINE_BYTES_MAX as u32).to_be_bytes());
    parameters.resize(28, 0);
    put_descriptor(&mut body, 0x0004, &parameters);
    put_descriptor(&mut body, 0x0008, &[2, SEGMENT_TYPE, END_TYPE]);
    let mut general = u32::from(CONCURRENT_MAX).to_be_bytes().to_vec();
    general.extend_from_slice(&u32::from(CONCURRENT_MAX).to_be_bytes());
    general.extend_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    general.push(GRANULARITY_LOG2);
    general.resize(32, 0);
    put_descriptor(&mut body, 0x8001, &general);
    body
}

/// A third-party copy descriptor, padded to a multiple of four bytes.
fn put_descriptor(body: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = content.len().next_multiple_of(4);
    body.extend_from_slice(&kind.to_be_bytes());
    body.extend_from_slice(&(length as u16).to_be_bytes());
    body.extend_from_slice(content);
    body.resize(body.len() + length - content.len(), 0);
}
