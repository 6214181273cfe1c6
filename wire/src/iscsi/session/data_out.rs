//! How far the data out of one task has come (RFC 7143 §4.2.4, §11.7).
//!
//! ```text
//! 0 … immediate … unsolicited … FirstBurstLength | one R2T's … | another R2T's … | … EDTL
//! ```
//! Its one rule: a byte has a place only if it is the next one of a sequence that was agreed on or asked for.

use super::order::before;
use super::{Fault, Task};
use crate::iscsi::parameters::Parameters;
use crate::iscsi::pdu::{DataOut as DataOutPdu, NO_TAG};

/// A sequence of Data-Out PDUs that is under way.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    start: u32,
    next: u32,
    end: u32,
    data_sn: u32,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    tag: u32,
    sequence: Sequence,
}

/// What the end of a sequence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These bytes are all here.
    Burst { start: u32, end: u32 },
    /// The rules were broken, and nothing more is due.
    Failed(Fault),
}

/// The data out of one task.
#[derive(Debug, Default)]
pub(super) struct DataOut {
    /// What comes unasked, until its last PDU.
    unsolicited: Option<Sequence>,
    /// What has come unasked, to be told of when the task is started.
    untold: Option<u32>,
    /// The R2Ts that are not answered in full. Its memory serves one task after another.
    transfers: Vec<Transfer>,
    is_started: bool,
    fault: Option<Fault>,
    is_fault_told: bool,
    /// The first transfer tag that can be this task's: an older one is a straggler of another task of that name.
    first_tag: u32,
}

impl DataOut {
    /// A command has come with `bytes` of immediate data; `is_final` says that nothing more comes unasked.
    ///
    /// True if the data may be kept.
    #[inline]
    pub(super) fn begin(
        &mut self,
        task: &Task,
        is_final: bool,
        bytes: u32,
        next_tag: u32,
        parameters: &Parameters,
    ) -> bool {
        self.transfers.clear();
        (self.unsolicited, self.untold, self.fault) = (None, None, None);
        (self.is_started, self.is_fault_told, self.first_tag) = (false, false, next_tag);
        if !task.write || (bytes == 0 && is_final) {
            return true;
        }
        let end = task.expected_bytes.min(parameters.first_burst_length);
        if !parameters.immediate_data && bytes > 0 || parameters.initial_r2t && !is_final {
            self.fault = Some(Fault::UnexpectedUnsolicitedData);
        } else if bytes > end {
            self.fault = Some(Fault::IncorrectAmountOfData);
        }
        let kept = if self.fault.is_some() { 0 } else { bytes };
        if is_final {
            self.untold = Some(kept);
        } else {
            self.unsolicited = Some(Sequence { start: 0, next: kept, end, data_sn: 0 });
        }
        self.fault.is_none()
    }

    /// Where the data of a PDU belongs. `None`: nowhere.
    #[inline]
    pub(super) fn place(&mut self, pdu: &DataOutPdu, bytes: u32) -> Option<u32> {
        if self.fault.is_some() {
            return None;
        }
        let tag = pdu.target_transfer_tag;
        let Some(sequence) = self.sequence(tag) else {
            self.fault = self.fault_of_stranger(tag);
            return None;
        };
        let wrong = sequence.mistake(pdu, bytes);
        let offset = sequence.next;
        self.fault = wrong;
        wrong.is_none().then_some(offset)
    }

    /// A PDU has come, with `bytes` of data in their place, or (`None`) with data that had no place.
    #[inline]
    pub(super) fn arrived(&mut self, tag: u32, bytes: Option<u32>, is_final: bool) -> Option<Outcome> {
        if let (Some(bytes), Some(sequence)) = (bytes, self.sequence(tag)) {
            sequence.next += bytes;
            sequence.data_sn = sequence.data_sn.wrapping_add(1);
        }
        let ended = if is_final { self.end(tag) } else { None };
        if self.fault.is_some() {
            return self.failure();
        }
        let Sequence { start, next, .. } = ended?;
        if !self.is_started {
            self.untold = Some(next);
            return None;
        }
        Some(Outcome::Burst { start, end: next })
    }

    /// The task is started: what has become of its data so far.
    #[inline]
    pub(super) fn start(&mut self) -> Option<Outcome> {
        self.is_started = true;
        if self.fault.is_some() {
            return self.failure();
        }
        self.untold.take().map(|end| Outcome::Burst { start: 0, end })
    }

    /// A sequence that an R2T asks for.
    #[inline]
    pub(super) fn ask(&mut self, tag: u32, start: u32, end: u32) {
        let sequence = Sequence { start, next: start, end, data_sn: 0 };
        self.transfers.push(Transfer { tag, sequence });
    }

    #[inline]
    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    #[inline]
    pub(super) fn awaits_unsolicited(&self) -> bool {
        self.unsolicited.is_some()
    }

    #[inline]
    pub(super) fn outstanding(&self) -> usize {
        self.transfers.len()
    }

    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        self.fault.is_some()
    }

    #[inline]
    fn sequence(&mut self, tag: u32) -> Option<&mut Sequence> {
        if tag == NO_TAG {
            return self.unsolicited.as_mut();
        }
        self.transfers.iter_mut().find(|transfer| transfer.tag == tag).map(|transfer| &mut transfer.sequence)
    }

    /// Takes a sequence out whose last PDU has come. Less than an R2T asked for is a fault; less unasked is not.
    #[inline]
    fn end(&mut self, tag: u32) -> Option<Sequence> {
        if tag == NO_TAG {
            return self.unsolicited.take();
        }
        let at = self.transfers.iter().position(|transfer| transfer.tag == tag)?;
        let Transfer { sequence, .. } = self.transfers.remove(at);
        if sequence.next != sequence.end && self.fault.is_none() {
            self.fault = Some(Fault::IncorrectAmountOfData);
        }
        Some(sequence)
    }

    /// No sequence has this tag. One that is older than the task does not concern it.
    fn fault_of_stranger(&self, tag: u32) -> Option<Fault> {
        match tag {
            NO_TAG => Some(Fault::UnexpectedUnsolicitedData),
            tag if before(tag, self.first_tag) => None,
            _ => Some(Fault::IllegalTransferTag),
        }
    }

    /// A fault is told once, and only when no more data is due (§7.8): the initiator would send it regardless.
    fn failure(&mut self) -> Option<Outcome> {
        let is_due = self.unsolicited.is_some() || !self.transfers.is_empty();
        if is_due || self.is_fault_told || !self.is_started {
            return None;
        }
        self.is_fault_told = true;
        self.fault.map(Outcome::Failed)
    }
}

impl Sequence {
    #[inline]
    fn mistake(&self, pdu: &DataOutPdu, bytes: u32) -> Option<Fault> {
        if pdu.data_sn != self.data_sn {
            return Some(Fault::DataSequence);
        }
        if pdu.buffer_offset != self.next {
            return Some(Fault::DataOffset);
        }
        (bytes > self.end - self.next).then_some(Fault::IncorrectAmountOfData)
    }
}
