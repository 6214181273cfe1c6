//! Numbers of RFC 7143 §11 that are no fields: opcodes, functions, responses, reasons, events.

/// Opcodes (§11.2.1.2).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK_REQUEST: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
    /// The six bits of the first byte that are the opcode.
    pub const MASK: u8 = 0x3f;
}

/// What a SCSI Response says of the target itself (§11.4.3).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod command_response {
    pub const COMPLETED_AT_TARGET: u8 = 0x00;
    pub const TARGET_FAILURE: u8 = 0x01;
}

/// Task management functions (§11.5.1).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod function {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_ACA: u8 = 3;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const LOGICAL_UNIT_RESET: u8 = 5;
    pub const TARGET_WARM_RESET: u8 = 6;
    pub const TARGET_COLD_RESET: u8 = 7;
    pub const TASK_REASSIGN: u8 = 8;
    /// RFC 7144.
    pub const QUERY_TASK: u8 = 9;
    /// RFC 7144.
    pub const QUERY_TASK_SET: u8 = 10;
    /// RFC 7144.
    pub const I_T_NEXUS_RESET: u8 = 11;
    /// RFC 7144.
    pub const QUERY_ASYNC_EVENT: u8 = 12;
}

/// Answers to task management (§11.6.1).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod function_response {
    pub const COMPLETE: u8 = 0;
    pub const TASK_DOES_NOT_EXIST: u8 = 1;
    pub const LUN_DOES_NOT_EXIST: u8 = 2;
    pub const TASK_STILL_ALLEGIANT: u8 = 3;
    pub const REASSIGNMENT_NOT_SUPPORTED: u8 = 4;
    pub const NOT_SUPPORTED: u8 = 5;
    pub const AUTHORIZATION_FAILED: u8 = 6;
    pub const REJECTED: u8 = 255;
}

/// Why an initiator logs out (§11.14.1).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod logout_reason {
    pub const CLOSE_SESSION: u8 = 0;
    pub const CLOSE_CONNECTION: u8 = 1;
    pub const REMOVE_FOR_RECOVERY: u8 = 2;
}

/// Answers to a logout (§11.15.1).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod logout_response {
    pub const CLOSED: u8 = 0;
    pub const CID_NOT_FOUND: u8 = 1;
    pub const RECOVERY_NOT_SUPPORTED: u8 = 2;
    pub const CLEANUP_FAILED: u8 = 3;
}

/// Asynchronous events (§11.9.1).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod event {
    pub const SCSI: u8 = 0;
    pub const LOGOUT_REQUESTED: u8 = 1;
    pub const DROPS_CONNECTION: u8 = 2;
    pub const DROPS_ALL_CONNECTIONS: u8 = 3;
    pub const NEGOTIATION_REQUESTED: u8 = 4;
    pub const ALL_TASKS_ABORTED: u8 = 5;
    pub const VENDOR_SPECIFIC: u8 = 255;
}

/// Stages of the login phase (§11.12.3).
#[allow(missing_docs, reason = "the names are the standard's own")]
pub mod stage {
    pub const SECURITY: u8 = 0;
    pub const OPERATIONAL: u8 = 1;
    pub const FULL_FEATURE: u8 = 3;
}

/// Why a PDU was refused (§11.17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's own")]
#[repr(u8)]
pub enum RejectReason {
    DataDigestError = 0x02,
    SnackReject = 0x03,
    ProtocolError = 0x04,
    CommandNotSupported = 0x05,
    ImmediateCommandReject = 0x06,
    TaskInProgress = 0x07,
    InvalidDataAck = 0x08,
    InvalidPduField = 0x09,
    OutOfResources = 0x0a,
    NegotiationReset = 0x0b,
    WaitingForLogout = 0x0c,
}

impl RejectReason {
    /// From the wire; `None` for a number that stands for nothing.
    pub fn from_u8(value: u8) -> Option<RejectReason> {
        use RejectReason::*;
        const ALL: [RejectReason; 11] = [
            DataDigestError,
            SnackReject,
            ProtocolError,
            CommandNotSupported,
            ImmediateCommandReject,
            TaskInProgress,
            InvalidDataAck,
            InvalidPduField,
            OutOfResources,
            NegotiationReset,
            WaitingForLogout,
        ];
        ALL.into_iter().find(|reason| *reason as u8 == value)
    }
}
