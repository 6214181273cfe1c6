//! The transmission phase: requests one way, replies or chunks of replies the other.
//!
//! ```text
//! client                                server
//!   encode_request  ── 28 or 32 bytes ──▶ decode_request, check
//!   [payload]       ────────────────────▶
//!   decode_reply_header ◀── 16, 20, 32 ── put_simple_reply, put_chunk_header, …
//!                       ◀─────────────── [payload]
//! ```

mod check;
mod receive;
mod reply;
mod request;

use std::fmt;
use std::ops::BitOr;

pub use check::{Limits, Verdict, check};
pub use receive::{
    ErrorChunk, ReplyHeader, decode_block_status, decode_error, decode_error_offset, decode_offset_data,
    decode_offset_hole, decode_reply_header,
};
pub use reply::{
    CHUNK_OFFSET_BYTES, ChunkType, Extent, SIMPLE_REPLY_BYTES, STATE_HOLE, STATE_ZERO, put_block_status,
    put_chunk_header, put_done, put_error, put_error_offset, put_none, put_offset_data, put_offset_hole,
    put_simple_reply,
};
pub use request::{
    BadMagic, BlockStatusPayload, Command, CommandFlags, EXTENDED_REQUEST_BYTES, REQUEST_BYTES, Request,
    decode_block_status_payload, decode_request, encode_block_status_payload, encode_request,
};

/// The longest string of the protocol: names, messages, descriptions.
pub const STRING_BYTES_MAX: usize = 4096;

/// What the client chose for a request and gets back in each reply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

/// Which headers the handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStyle {
    /// Compact requests, simple replies only.
    Simple,
    /// Compact requests; reads and errors are answered in chunks.
    Structured,
    /// Requests and chunks with 64-bit lengths; no simple replies at all.
    Extended,
}

impl ReplyStyle {
    /// The size of a request's header.
    #[inline]
    pub fn request_bytes(self) -> usize {
        match self {
            ReplyStyle::Simple | ReplyStyle::Structured => REQUEST_BYTES,
            ReplyStyle::Extended => EXTENDED_REQUEST_BYTES,
        }
    }

    /// The size of a chunk's header.
    #[inline]
    pub fn chunk_header_bytes(self) -> usize {
        match self {
            ReplyStyle::Simple => SIMPLE_REPLY_BYTES,
            ReplyStyle::Structured => reply::CHUNK_HEADER_BYTES,
            ReplyStyle::Extended => reply::EXTENDED_CHUNK_HEADER_BYTES,
        }
    }
}

/// Error values (NBD protocol, "Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum Errno {
    Perm = 1,
    Io = 5,
    NoMem = 12,
    Inval = 22,
    NoSpc = 28,
    Overflow = 75,
    NotSup = 95,
    Shutdown = 108,
}

impl Errno {
    /// The error that a reply carries, `None` for success. An unlisted value reads as EINVAL, as the protocol asks.
    #[inline]
    pub fn from_u32(value: u32) -> Option<Errno> {
        match value {
            0 => None,
            1 => Some(Errno::Perm),
            5 => Some(Errno::Io),
            12 => Some(Errno::NoMem),
            28 => Some(Errno::NoSpc),
            75 => Some(Errno::Overflow),
            95 => Some(Errno::NotSup),
            108 => Some(Errno::Shutdown),
            _ => Some(Errno::Inval),
        }
    }

    /// The value on the wire.
    #[inline]
    pub fn to_u32(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Errno::Perm => "EPERM",
            Errno::Io => "EIO",
            Errno::NoMem => "ENOMEM",
            Errno::Inval => "EINVAL",
            Errno::NoSpc => "ENOSPC",
            Errno::Overflow => "EOVERFLOW",
            Errno::NotSup => "ENOTSUP",
            Errno::Shutdown => "ESHUTDOWN",
        })
    }
}

/// What a server says of an export (NBD_FLAG_*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmissionFlags(u16);

#[allow(missing_docs, reason = "the names are the protocol's own")]
impl TransmissionFlags {
    pub const NONE: TransmissionFlags = TransmissionFlags(0);
    pub const HAS_FLAGS: TransmissionFlags = TransmissionFlags(1 << 0);
    pub const READ_ONLY: TransmissionFlags = TransmissionFlags(1 << 1);
    pub const SEND_FLUSH: TransmissionFlags = TransmissionFlags(1 << 2);
    pub const SEND_FUA: TransmissionFlags = TransmissionFlags(1 << 3);
    pub const ROTATIONAL: TransmissionFlags = TransmissionFlags(1 << 4);
    pub const SEND_TRIM: TransmissionFlags = TransmissionFlags(1 << 5);
    pub const SEND_WRITE_ZEROES: TransmissionFlags = TransmissionFlags(1 << 6);
    pub const SEND_DF: TransmissionFlags = TransmissionFlags(1 << 7);
    pub const CAN_MULTI_CONN: TransmissionFlags = TransmissionFlags(1 << 8);
    pub const SEND_RESIZE: TransmissionFlags = TransmissionFlags(1 << 9);
    pub const SEND_CACHE: TransmissionFlags = TransmissionFlags(1 << 10);
    pub const SEND_FAST_ZERO: TransmissionFlags = TransmissionFlags(1 << 11);
    pub const BLOCK_STATUS_PAYLOAD: TransmissionFlags = TransmissionFlags(1 << 12);

    /// From the wire; bits that nobody defined yet are kept.
    #[inline]
    pub const fn from_bits(bits: u16) -> TransmissionFlags {
        TransmissionFlags(bits)
    }

    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: TransmissionFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These without `flags`.
    #[inline]
    pub const fn without(self, flags: TransmissionFlags) -> TransmissionFlags {
        TransmissionFlags(self.0 & !flags.0)
    }

    /// These, and `flags` if `wanted`.
    #[inline]
    pub const fn with(self, flags: TransmissionFlags, wanted: bool) -> TransmissionFlags {
        if wanted { TransmissionFlags(self.0 | flags.0) } else { self }
    }
}

impl BitOr for TransmissionFlags {
    type Output = TransmissionFlags;

    fn bitor(self, other: TransmissionFlags) -> TransmissionFlags {
        TransmissionFlags(self.0 | other.0)
    }
}
