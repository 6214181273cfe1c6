//! Protocol data units (RFC 7143 §11): headers to values and back.
//!
//! ```text
//! basic header 48 | additional header (AHS) 0..1020 | header digest 0|4 | data, padded to 4 | data digest 0|4
//! ```
//! Its one rule: decoding reads only what the header announces, and never allocates more than an
//! extended CDB. Lengths, digests and data are the caller's.

mod cdb;
pub mod code;
mod field;
mod lun;
mod request;
mod request_decode;
mod response;
mod response_decode;
mod segments;

pub use cdb::{CDB_BYTES_MAX, Cdb};
pub use code::RejectReason;
pub use lun::Lun;
pub use request::{
    CommandRequest, DataOut, LoginRequest, LogoutRequest, NopOut, Request, SnackRequest, TaskAttribute,
    TaskManagementRequest, TextRequest,
};
pub use response::{
    AsyncMessage, CommandResponse, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, Residual,
    Response, TaskManagementResponse, TextResponse,
};
pub use segments::Segments;

/// The basic header segment.
pub const BHS_BYTES: usize = 48;
/// A task tag that names no task.
pub const NO_TAG: u32 = 0xffff_ffff;
/// The longest additional header segment: 255 words.
pub const AHS_BYTES_MAX: usize = 1020;
