//! What a target sends, and how it is written.
//!
//! Its one rule: the fields have the standard's names; what the standard reserves is no field.

use crate::bytes::Frame;

use super::field::{CONTINUE, FINAL, bit, head, lengths};
use super::request::{login_flags, session_id};
use super::{BHS_BYTES, Lun, NO_TAG, RejectReason, code::opcode};

/// A PDU from a target to an initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Response {
    NopIn(NopIn),
    Command(CommandResponse),
    TaskManagement(TaskManagementResponse),
    Login(LoginResponse),
    Text(TextResponse),
    DataIn(DataIn),
    Logout(LogoutResponse),
    Async(AsyncMessage),
    R2t(R2t),
    Reject(Reject),
}

/// What was transferred against what was expected (§11.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Residual {
    /// As many bytes as expected.
    #[default]
    None,
    /// So many bytes more than the initiator had room for or gave.
    Overflow(u32),
    /// So many bytes fewer than expected.
    Underflow(u32),
}

/// NOP-In (§11.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct NopIn {
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
}

/// SCSI Response (§11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct CommandResponse {
    pub response: u8,
    pub status: u8,
    pub residual: Residual,
    pub initiator_task_tag: u32,
    pub snack_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub exp_data_sn: u32,
}

/// Task Management Function Response (§11.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct TaskManagementResponse {
    pub response: u8,
    pub initiator_task_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
}

/// Login Response (§11.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct LoginResponse {
    pub transit: bool,
    pub continues: bool,
    pub current_stage: u8,
    pub next_stage: u8,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub initiator_task_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub status_class: u8,
    pub status_detail: u8,
}

/// Text Response (§11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct TextResponse {
    pub is_final: bool,
    pub continues: bool,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
}

/// SCSI Data-In (§11.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct DataIn {
    pub is_final: bool,
    pub acknowledge: bool,
    /// With it, the PDU ends the task: `residual` and `stat_sn` hold.
    pub status: Option<u8>,
    pub residual: Residual,
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub data_sn: u32,
    pub buffer_offset: u32,
}

/// Logout Response (§11.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct LogoutResponse {
    pub response: u8,
    pub initiator_task_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub time2wait: u16,
    pub time2retain: u16,
}

/// Asynchronous Message (§11.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct AsyncMessage {
    pub lun: Lun,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub event: u8,
    pub vendor_code: u8,
    pub parameters: [u16; 3],
}

/// Ready To Transfer (§11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct R2t {
    pub lun: Lun,
    pub initiator_task_tag: u32,
    pub target_transfer_tag: u32,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub r2t_sn: u32,
    pub buffer_offset: u32,
    pub desired_data_transfer_length: u32,
}

/// Reject (§11.17). Its data segment is the header that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct Reject {
    pub reason: RejectReason,
    pub stat_sn: u32,
    pub exp_cmd_sn: u32,
    pub max_cmd_sn: u32,
    pub data_sn_or_r2t_sn: u32,
}

impl Response {
    /// Appends its header, which announces a data segment of `data_bytes`; data and padding must follow.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        match self {
            Response::DataIn(pdu) => pdu.encode(data_bytes, out),
            Response::Command(pdu) => pdu.encode(data_bytes, out),
            Response::R2t(pdu) => pdu.encode(data_bytes, out),
            Response::NopIn(pdu) => pdu.encode(data_bytes, out),
            Response::TaskManagement(pdu) => pdu.encode(data_bytes, out),
            Response::Login(pdu) => pdu.encode(data_bytes, out),
            Response::Text(pdu) => pdu.encode(data_bytes, out),
            Response::Logout(pdu) => pdu.encode(data_bytes, out),
            Response::Async(pdu) => pdu.encode(data_bytes, out),
            Response::Reject(pdu) => pdu.encode(data_bytes, out),
        }
    }
}

impl NopIn {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, head(opcode::NOP_IN, FINAL, 0, 0), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(0)
            .u64(0)
            .end();
    }
}

impl CommandResponse {
    /// See `Response::encode`.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let (residual_flags, residual) = self.residual.fields();
        let first = head(opcode::SCSI_RESPONSE, FINAL | residual_flags, self.response, self.status);
        begin(out, first, data_bytes)
            .u64(0)
            .u32(self.initiator_task_tag)
            .u32(self.snack_tag)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(self.exp_data_sn)
            .u32(0)
            .u32(residual)
            .end();
    }
}

impl TaskManagementResponse {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, head(opcode::TASK_MANAGEMENT_RESPONSE, FINAL, self.response, 0), data_bytes)
            .u64(0)
            .u32(self.initiator_task_tag)
            .u32(0)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(0)
            .u64(0)
            .end();
    }
}

impl LoginResponse {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = login_flags(self.transit, self.continues, self.current_stage, self.next_stage);
        begin(out, head(opcode::LOGIN_RESPONSE, flags, self.version_max, self.version_active), data_bytes)
            .u64(session_id(self.isid, self.tsih))
            .u32(self.initiator_task_tag)
            .u32(0)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(head(self.status_class, self.status_detail, 0, 0))
            .u64(0)
            .end();
    }
}

impl TextResponse {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let flags = bit(self.is_final, FINAL) | bit(self.continues, CONTINUE);
        begin(out, head(opcode::TEXT_RESPONSE, flags, 0, 0), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(0)
            .u64(0)
            .end();
    }
}

impl DataIn {
    /// See `Response::encode`.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let (residual_flags, residual) = self.residual.fields();
        let flags = bit(self.is_final, FINAL) | bit(self.acknowledge, 0x40) | bit(self.status.is_some(), 1);
        begin(out, head(opcode::DATA_IN, flags | residual_flags, 0, self.status.unwrap_or(0)), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(self.data_sn)
            .u32(self.buffer_offset)
            .u32(residual)
            .end();
    }
}

impl LogoutResponse {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, head(opcode::LOGOUT_RESPONSE, FINAL, self.response, 0), data_bytes)
            .u64(0)
            .u32(self.initiator_task_tag)
            .u32(0)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(0)
            .u16(self.time2wait)
            .u16(self.time2retain)
            .u32(0)
            .end();
    }
}

impl AsyncMessage {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        let [first, second, third] = self.parameters;
        begin(out, head(opcode::ASYNC_MESSAGE, FINAL, 0, 0), data_bytes)
            .u64(self.lun.0)
            .u32(NO_TAG)
            .u32(0)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u16(u16::from_be_bytes([self.event, self.vendor_code]))
            .u16(first)
            .u16(second)
            .u16(third)
            .u32(0)
            .end();
    }
}

impl R2t {
    /// See `Response::encode`.
    #[inline]
    pub fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, head(opcode::R2T, FINAL, 0, 0), data_bytes)
            .u64(self.lun.0)
            .u32(self.initiator_task_tag)
            .u32(self.target_transfer_tag)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(self.r2t_sn)
            .u32(self.buffer_offset)
            .u32(self.desired_data_transfer_length)
            .end();
    }
}

impl Reject {
    fn encode(&self, data_bytes: usize, out: &mut Vec<u8>) {
        begin(out, head(opcode::REJECT, FINAL, self.reason as u8, 0), data_bytes)
            .u64(0)
            .u32(NO_TAG)
            .u32(0)
            .u32(self.stat_sn)
            .u32(self.exp_cmd_sn)
            .u32(self.max_cmd_sn)
            .u32(self.data_sn_or_r2t_sn)
            .u64(0)
            .end();
    }
}

impl Residual {
    /// The O and U bits, and the count.
    #[inline]
    fn fields(self) -> (u8, u32) {
        match self {
            Residual::None => (0, 0),
            Residual::Overflow(count) => (0x04, count),
            Residual::Underflow(count) => (0x02, count),
        }
    }
}

/// A frame with its first eight bytes filled in.
#[inline]
fn begin(out: &mut Vec<u8>, first_four: u32, data_bytes: usize) -> Frame<'_> {
    Frame::append::<BHS_BYTES>(out).u32(first_four).u32(lengths(0, data_bytes))
}
