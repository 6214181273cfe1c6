//! The numbers of the handshake, as both ends use them.

use std::fmt;

pub(crate) const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(crate) const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
pub(crate) const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

pub(crate) const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
pub(crate) const FLAG_NO_ZEROES: u16 = 1 << 1;

pub(crate) const GREETING_BYTES: usize = 18;
pub(crate) const CLIENT_FLAGS_BYTES: usize = 4;
pub(crate) const OPTION_HEADER_BYTES: usize = 16;
pub(crate) const REPLY_HEADER_BYTES: usize = 20;
/// Reserved zeroes after the answer to EXPORT_NAME, unless both sides do without.
pub(crate) const EXPORT_NAME_PADDING_BYTES: usize = 124;

/// The one context of the `base:` namespace.
pub const BASE_ALLOCATION: &str = "base:allocation";

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_NAME: u16 = 1;
pub(crate) const INFO_DESCRIPTION: u16 = 2;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

/// What a client asks during the handshake (NBD_OPT_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum OptionCode {
    ExportName,
    Abort,
    List,
    StartTls,
    Info,
    Go,
    StructuredReply,
    ListMetaContext,
    SetMetaContext,
    ExtendedHeaders,
    /// An option that no one defined, or that was withdrawn.
    Unknown(u32),
}

impl OptionCode {
    /// From the wire.
    pub fn from_u32(value: u32) -> OptionCode {
        match value {
            1 => OptionCode::ExportName,
            2 => OptionCode::Abort,
            3 => OptionCode::List,
            5 => OptionCode::StartTls,
            6 => OptionCode::Info,
            7 => OptionCode::Go,
            8 => OptionCode::StructuredReply,
            9 => OptionCode::ListMetaContext,
            10 => OptionCode::SetMetaContext,
            11 => OptionCode::ExtendedHeaders,
            other => OptionCode::Unknown(other),
        }
    }

    /// The value on the wire.
    pub fn to_u32(self) -> u32 {
        match self {
            OptionCode::ExportName => 1,
            OptionCode::Abort => 2,
            OptionCode::List => 3,
            OptionCode::StartTls => 5,
            OptionCode::Info => 6,
            OptionCode::Go => 7,
            OptionCode::StructuredReply => 8,
            OptionCode::ListMetaContext => 9,
            OptionCode::SetMetaContext => 10,
            OptionCode::ExtendedHeaders => 11,
            OptionCode::Unknown(other) => other,
        }
    }
}

impl fmt::Display for OptionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OptionCode::ExportName => "NBD_OPT_EXPORT_NAME",
            OptionCode::Abort => "NBD_OPT_ABORT",
            OptionCode::List => "NBD_OPT_LIST",
            OptionCode::StartTls => "NBD_OPT_STARTTLS",
            OptionCode::Info => "NBD_OPT_INFO",
            OptionCode::Go => "NBD_OPT_GO",
            OptionCode::StructuredReply => "NBD_OPT_STRUCTURED_REPLY",
            OptionCode::ListMetaContext => "NBD_OPT_LIST_META_CONTEXT",
            OptionCode::SetMetaContext => "NBD_OPT_SET_META_CONTEXT",
            OptionCode::ExtendedHeaders => "NBD_OPT_EXTENDED_HEADERS",
            OptionCode::Unknown(other) => return write!(f, "option {other}"),
        })
    }
}

/// How a server answers an option (NBD_REP_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum ReplyCode {
    Ack,
    Server,
    Info,
    MetaContext,
    ErrUnsup,
    ErrPolicy,
    ErrInvalid,
    ErrPlatform,
    ErrTlsReqd,
    ErrUnknown,
    ErrShutdown,
    ErrBlockSizeReqd,
    ErrTooBig,
    ErrExtHeaderReqd,
    /// A reply that no one defined; with bit 31 set it is an error all the same.
    Unknown(u32),
}

const REPLY_ERROR: u32 = 1 << 31;

impl ReplyCode {
    /// From the wire.
    pub fn from_u32(value: u32) -> ReplyCode {
        match (value & REPLY_ERROR != 0, value & !REPLY_ERROR) {
            (false, 1) => ReplyCode::Ack,
            (false, 2) => ReplyCode::Server,
            (false, 3) => ReplyCode::Info,
            (false, 4) => ReplyCode::MetaContext,
            (true, 1) => ReplyCode::ErrUnsup,
            (true, 2) => ReplyCode::ErrPolicy,
            (true, 3) => ReplyCode::ErrInvalid,
            (true, 4) => ReplyCode::ErrPlatform,
            (true, 5) => ReplyCode::ErrTlsReqd,
            (true, 6) => ReplyCode::ErrUnknown,
            (true, 7) => ReplyCode::ErrShutdown,
            (true, 8) => ReplyCode::ErrBlockSizeReqd,
            (true, 9) => ReplyCode::ErrTooBig,
            (true, 10) => ReplyCode::ErrExtHeaderReqd,
            _ => ReplyCode::Unknown(value),
        }
    }

    /// The value on the wire.
    pub fn to_u32(self) -> u32 {
        match self {
            ReplyCode::Ack => 1,
            ReplyCode::Server => 2,
            ReplyCode::Info => 3,
            ReplyCode::MetaContext => 4,
            ReplyCode::ErrUnsup => REPLY_ERROR | 1,
            ReplyCode::ErrPolicy => REPLY_ERROR | 2,
            ReplyCode::ErrInvalid => REPLY_ERROR | 3,
            ReplyCode::ErrPlatform => REPLY_ERROR | 4,
            ReplyCode::ErrTlsReqd => REPLY_ERROR | 5,
            ReplyCode::ErrUnknown => REPLY_ERROR | 6,
            ReplyCode::ErrShutdown => REPLY_ERROR | 7,
            ReplyCode::ErrBlockSizeReqd => REPLY_ERROR | 8,
            ReplyCode::ErrTooBig => REPLY_ERROR | 9,
            ReplyCode::ErrExtHeaderReqd => REPLY_ERROR | 10,
            ReplyCode::Unknown(other) => other,
        }
    }

    /// Whether the option failed.
    pub fn is_error(self) -> bool {
        self.to_u32() & REPLY_ERROR != 0
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyCode::Ack => "NBD_REP_ACK",
            ReplyCode::Server => "NBD_REP_SERVER",
            ReplyCode::Info => "NBD_REP_INFO",
            ReplyCode::MetaContext => "NBD_REP_META_CONTEXT",
            ReplyCode::ErrUnsup => "NBD_REP_ERR_UNSUP",
            ReplyCode::ErrPolicy => "NBD_REP_ERR_POLICY",
            ReplyCode::ErrInvalid => "NBD_REP_ERR_INVALID",
            ReplyCode::ErrPlatform => "NBD_REP_ERR_PLATFORM",
            ReplyCode::ErrTlsReqd => "NBD_REP_ERR_TLS_REQD",
            ReplyCode::ErrUnknown => "NBD_REP_ERR_UNKNOWN",
            ReplyCode::ErrShutdown => "NBD_REP_ERR_SHUTDOWN",
            ReplyCode::ErrBlockSizeReqd => "NBD_REP_ERR_BLOCK_SIZE_REQD",
            ReplyCode::ErrTooBig => "NBD_REP_ERR_TOO_BIG",
            ReplyCode::ErrExtHeaderReqd => "NBD_REP_ERR_EXT_HEADER_REQD",
            ReplyCode::Unknown(other) => return write!(f, "reply {other:#x}"),
        })
    }
}
