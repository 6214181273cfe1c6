//! What an initiator sends, and how it is written.
//!
//! Its one rule: the fields have the standard's names; what the standard reserves is no field.

use crate::bytes::Frame;

use super::field::{CONTINUE, FINAL, IMMEDIATE, bit, head, lengths};
use super::{BHS_BYTES, Cdb, Lun, code::opcode};

/// A PDU from an initiator to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Request {
    NopOut(NopOut),
    Command(CommandRequest),
    TaskManagement(TaskManagementRequest),
    Login(LoginRequest),
    Text(TextRequest),
    DataOut(DataOut),
    Logout(LogoutRequest),
    Snack(SnackRequest),
}

/// How a task may be ordered among others (§11.3.1, SAM-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
#[repr(u8)]
pub enum TaskAttribute {
    Untagged = 0,
    #[default]
    Simple = 1,
    Ordered = 2,
    HeadOfQueue = 3,
    Aca = 4,
}

/// NOP-Out (§11.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct NopOut {
    pub immediate: bool,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

/// SCSI Command (§11.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct CommandRequest {
    pub immediate: bool,
    pub is_final: bool,
    pub read: bool,
    pub write: bool,
    pub attribute: TaskAttribute,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub expected_data_transfer_length: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub cdb: Cdb,
    /// Of a command that moves data both ways: the bidirectional AHS (§11.2.2.4).
    pub read_data_transfer_length: Option<u32>,
}

/// Task Management Function Request (§11.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct TaskManagementRequest {
    pub immediate: bool,
    pub function: u8,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub referenced_task_tag: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub ref_cmd_sn: u32,
    pub exp_data_sn: u32,
}

/// Login Request (§11.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct LoginRequest {
    pub transit: bool,
    pub continues: bool,
    pub current_stage: u8,
    pub next_stage: u8,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub initiator_task_tag: u32,
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

/// Text Request (§11.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct TextRequest {
    pub immediate: bool,
    pub is_final: bool,
    pub continues: bool,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

/// SCSI Data-Out (§11.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct DataOut {
    pub is_final: bool,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub exp_stat_sn: u32,
    pub data_sn: u32,
    pub buffer_offset: u32,
}

/// Logout Request (§11.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct LogoutRequest {
    pub immediate: bool,
    pub reason: u8,
    pub initiator_task_tag: u32,
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

/// SNACK Request (§11.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct SnackRequest {
    pub kind: u8,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    /// Or the SNACK tag.
    pub target_transfer_tag: u32,
    pub exp_stat_sn: u32,
    pub begin_run: u32,
    pub run_length: u32,
}

impl Request {
    /// Appends its header, which announces a data segment of `data_bytes`; data and padding must follow.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        match self {
            Request::NopOut(pdu) => pdu.encode(data_bytes, out),
            Request::Command(pdu) => pdu.encode(data_bytes, out),
            Request::TaskManagement(pdu) => pdu.encode(data_bytes, out),
            Request::Login(pdu) => pdu.encode(data_bytes, out),
            Request::Text(pdu) => pdu.encode(data_bytes, out),
            Request::DataOut(pdu) => pdu.encode(data_bytes, out),
            Request::Logout(pdu) => pdu.encode(data_bytes, out),
            Request::Snack(pdu) => pdu.encode(data_bytes, out),
        }
    }
}

impl NopOut {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, opcode::NOP_OUT, self.immediate, FINAL, data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u64(0)
            .u64(0)
            .end();
    }
}

impl CommandRequest {
    /// See `Request::encode`.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = bit(self.is_final, FINAL) | bit(self.read, 0x40) | bit(self.write, 0x20);
        let (cdb, more) = self.cdb.parts();
        let (cdb_high, cdb_low) = cdb.split_at(8);
        let ahs_bytes = extended_ahs_bytes(more) + self.read_data_transfer_length.map_or(0, |_| 8);
        let first = opcode::SCSI_COMMAND | bit(self.immediate, IMMEDIATE);
        Frame::append::<BHS_BYTES>(out)
            .u32(head(first, flags | self.attribute as u8, 0, 0))
            .u32(lengths(ahs_bytes, data_bytes))
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.expected_data_transfer_length)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u64(u64::from_be_bytes(cdb_high.try_into().expect("half of sixteen bytes")))
            .u64(u64::from_be_bytes(cdb_low.try_into().expect("half of sixteen bytes")))
            .end();
        if ahs_bytes > 0 {
            self.encode_ahs(more, out);
        }
    }

    #[cold]
    fn encode_ahs(&self, more: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        if !more.is_empty() {
            // The length counts from the reserved byte on and leaves out the padding (§11.2.2.3).
            let length = u16::try_from(more.len() + 1).expect("a CDB is short");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&[ahs_type::EXTENDED_CDB, 0]);
            out.extend_from_slice(more);
            out.resize(start + extended_ahs_bytes(more), 0);
        }
        if let Some(length) = self.read_data_transfer_length {
            out.extend_from_slice(&[0, 5, ahs_type::BIDIRECTIONAL, 0]);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// AHSType (§11.2.2.1).
pub(super) mod ahs_type {
    pub const EXTENDED_CDB: u8 = 1;
    pub const BIDIRECTIONAL: u8 = 2;
}

#[inline]
fn extended_ahs_bytes(more: &[u8]) -> usize {
    if more.is_empty() { 0 } else { 4 + more.len().next_multiple_of(4) }
}

impl TaskManagementRequest {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = FINAL | (self.function & 0x7f);
        begin(out, opcode::TASK_MANAGEMENT_REQUEST, self.immediate, flags, data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.referenced_task_tag)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u32(self.ref_cmd_sn)
            .u32(self.exp_data_sn)
            .u64(0)
            .end();
    }
}

impl LoginRequest {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = login_flags(self.transit, self.continues, self.current_stage, self.next_stage);
        Frame::append::<BHS_BYTES>(out)
            .u32(head(opcode::LOGIN_REQUEST | IMMEDIATE, flags, self.version_max, self.version_min))
            .u32(lengths(0, data_bytes))
            .u64(session_id(self.isid, self.tsih))
            .u32(self.initiator_task_tag)
            .u16(self.cid)
            .u16(0)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u64(0)
            .u64(0)
            .end();
    }
}

pub(super) fn login_flags(transit: bool, continues: bool, current_stage: u8, next_stage: u8) -> u8 {
    bit(transit, FINAL) | bit(continues, CONTINUE) | (current_stage & 3) << 2 | (next_stage & 3)
}

pub(super) fn session_id(isid: [u8; 6], tsih: u16) -> u64 {
    let [a, b, c, d, e, f] = isid;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]) << 16 | u64::from(tsih)
}

impl TextRequest {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = bit(self.is_final, FINAL) | bit(self.continues, CONTINUE);
        begin(out, opcode::TEXT_REQUEST, self.immediate, flags, data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u64(0)
            .u64(0)
            .end();
    }
}

impl DataOut {
    /// See `Request::encode`.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, opcode::DATA_OUT, false, bit(self.is_final, FINAL), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(0)
            .u32(self.exp_stat_sn)
            .u32(0)
            .u32(self.data_sn)
            .u32(self.buffer_offset)
            .u32(0)
            .end();
    }
}

impl LogoutRequest {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, opcode::LOGOUT_REQUEST, self.immediate, FINAL | (self.reason & 0x7f), data_bytes)
            .u64(0)
            .u32(self.initiator_task_tag)
            .u16(self.cid)
            .u16(0)
            .u32(self.cmd_sn)
            .u32(self.exp_stat_sn)
            .u64(0)
            .u64(0)
            .end();
    }
}

impl SnackRequest {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, opcode::SNACK_REQUEST, false, FINAL | (self.kind & 0x0f), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(0)
            .u32(self.exp_stat_sn)
            .u64(0)
            .u32(self.begin_run)
            .u32(self.run_length)
            .end();
    }
}

/// A frame with its first eight bytes filled in.
#[inline]
fn begin(out: &mut Vec<u8>, opcode: u8, immediate: bool, flags: u8, data_bytes: usize) -> Frame<'_> {
    let first = opcode | bit(immediate, IMMEDIATE);
    Frame::append::<BHS_BYTES>(out).u32(head(first, flags, 0, 0)).u32(lengths(0, data_bytes))
}
