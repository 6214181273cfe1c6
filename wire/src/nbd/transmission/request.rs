//! A request's header, both ways.
//!
//! ```text
//! compact   magic 4 | flags 2 | type 2 | cookie 8 | offset 8 | length 4
//! extended  magic 4 | flags 2 | type 2 | cookie 8 | offset 8 | length 8
//! ```
//! In extended headers `length` counts the payload where PAYLOAD_LEN is set (a WRITE; a BLOCK_STATUS
//! that names its contexts), else the bytes of the export that the command is about.

use std::ops::BitOr;

use crate::bytes::{Frame, Reader};

use super::{Cookie, ReplyStyle};

/// A compact request's header.
pub const REQUEST_BYTES: usize = 28;
/// An extended request's header.
pub const EXTENDED_REQUEST_BYTES: usize = 32;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;

/// The peer does not speak where a header should begin: nothing after it can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad magic {0:#010x} where a header should begin")]
pub struct BadMagic(pub u32);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    Cache,
    WriteZeroes,
    BlockStatus,
    /// A type that no one defined.
    Unknown(u16),
}

impl Command {
    /// From the wire.
    #[inline]
    pub fn from_u16(value: u16) -> Command {
        match value {
            0 => Command::Read,
            1 => Command::Write,
            2 => Command::Disconnect,
            3 => Command::Flush,
            4 => Command::Trim,
            5 => Command::Cache,
            6 => Command::WriteZeroes,
            7 => Command::BlockStatus,
            other => Command::Unknown(other),
        }
    }

    /// The value on the wire.
    #[inline]
    pub fn to_u16(self) -> u16 {
        match self {
            Command::Read => 0,
            Command::Write => 1,
            Command::Disconnect => 2,
            Command::Flush => 3,
            Command::Trim => 4,
            Command::Cache => 5,
            Command::WriteZeroes => 6,
            Command::BlockStatus => 7,
            Command::Unknown(other) => other,
        }
    }
}

/// How a client wants it done (NBD_CMD_FLAG_*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandFlags(u16);

#[allow(missing_docs, reason = "the names are the protocol's own")]
impl CommandFlags {
    pub const NONE: CommandFlags = CommandFlags(0);
    pub const FUA: CommandFlags = CommandFlags(1 << 0);
    pub const NO_HOLE: CommandFlags = CommandFlags(1 << 1);
    pub const DF: CommandFlags = CommandFlags(1 << 2);
    pub const REQ_ONE: CommandFlags = CommandFlags(1 << 3);
    pub const FAST_ZERO: CommandFlags = CommandFlags(1 << 4);
    pub const PAYLOAD_LEN: CommandFlags = CommandFlags(1 << 5);

    /// From the wire, whatever is set.
    #[inline]
    pub const fn from_bits(bits: u16) -> CommandFlags {
        CommandFlags(bits)
    }

    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: CommandFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These without `flags`.
    #[inline]
    pub const fn without(self, flags: CommandFlags) -> CommandFlags {
        CommandFlags(self.0 & !flags.0)
    }

    /// Whether a bit is set that is not in `allowed`.
    #[inline]
    pub const fn has_other_than(self, allowed: CommandFlags) -> bool {
        self.0 & !allowed.0 != 0
    }
}

impl BitOr for CommandFlags {
    type Output = CommandFlags;

    #[inline]
    fn bitor(self, other: CommandFlags) -> CommandFlags {
        CommandFlags(self.0 | other.0)
    }
}

/// One request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// How to do it.
    pub flags: CommandFlags,
    /// What to put into the reply.
    pub cookie: Cookie,
    /// Where it begins, in bytes of the export.
    pub offset: u64,
    /// How many bytes: of the payload with PAYLOAD_LEN, else of the export.
    pub length: u64,
}

impl Request {
    /// How many bytes follow the header on the wire.
    ///
    /// With a WRITE they always do: also extended headers, which demand PAYLOAD_LEN for it, cannot mean anything
    /// else, and other servers take it so.
    #[inline]
    pub fn payload_bytes(&self, style: ReplyStyle) -> u64 {
        let counts_payload = style == ReplyStyle::Extended && self.flags.contains(CommandFlags::PAYLOAD_LEN);
        if self.command == Command::Write || counts_payload { self.length } else { 0 }
    }

    /// The request that a BLOCK_STATUS with a payload stands for, once its payload was read.
    pub fn with_effect_length(mut self, length: u64) -> Request {
        self.flags = self.flags.without(CommandFlags::PAYLOAD_LEN);
        self.length = length;
        self
    }
}

/// The request at the front of `bytes`, of which it takes `style.request_bytes()`.
///
/// `None`: more bytes are needed. An error: the connection must be closed.
#[inline]
pub fn decode_request(bytes: &[u8], style: ReplyStyle) -> Result<Option<Request>, BadMagic> {
    match style {
        ReplyStyle::Simple | ReplyStyle::Structured => {
            let Some(header) = bytes.first_chunk::<REQUEST_BYTES>() else {
                return too_short(bytes, REQUEST_MAGIC);
            };
            decode_header(header, REQUEST_MAGIC, |reader| reader.u32().map(u64::from))
        }
        ReplyStyle::Extended => {
            let Some(header) = bytes.first_chunk::<EXTENDED_REQUEST_BYTES>() else {
                return too_short(bytes, EXTENDED_REQUEST_MAGIC);
            };
            decode_header(header, EXTENDED_REQUEST_MAGIC, |reader| reader.u64())
        }
    }
}

/// A wrong magic is told as soon as it is there: a peer that speaks something else may never send the rest.
#[cold]
fn too_short(bytes: &[u8], expected: u32) -> Result<Option<Request>, BadMagic> {
    match Reader::new(bytes).u32() {
        Some(magic) if magic != expected => Err(BadMagic(magic)),
        _ => Ok(None),
    }
}

#[inline]
fn decode_header<const N: usize>(
    header: &[u8; N],
    expected: u32,
    length: impl FnOnce(&mut Reader<'_>) -> Option<u64>,
) -> Result<Option<Request>, BadMagic> {
    let fields = || {
        let mut reader = Reader::new(header);
        let magic = reader.u32()?;
        let flags = CommandFlags::from_bits(reader.u16()?);
        let command = Command::from_u16(reader.u16()?);
        let cookie = Cookie(reader.u64()?);
        let offset = reader.u64()?;
        Some((magic, Request { command, flags, cookie, offset, length: length(&mut reader)? }))
    };
    let (magic, request) = fields().expect("the header was cut to the size of its fields");
    if magic == expected { Ok(Some(request)) } else { Err(BadMagic(magic)) }
}

/// Appends the header of `request`; its payload, if it has one, must follow.
///
/// An extended WRITE gets its PAYLOAD_LEN here. A compact header cannot carry a length of 2^32 or more: asking for one is the caller's mistake.
#[inline]
pub fn encode_request(out: &mut Vec<u8>, style: ReplyStyle, request: &Request) {
    let Request { command, flags, cookie, offset, length } = *request;
    if style == ReplyStyle::Extended {
        let carries_data = command == Command::Write;
        let flags = if carries_data { flags | CommandFlags::PAYLOAD_LEN } else { flags };
        let frame =
            Frame::append::<EXTENDED_REQUEST_BYTES>(out).u32(EXTENDED_REQUEST_MAGIC).u16(flags.bits());
        frame.u16(command.to_u16()).u64(cookie.0).u64(offset).u64(length).end();
    } else {
        let length = u32::try_from(length).expect("a compact request's length fits 32 bits");
        let frame = Frame::append::<REQUEST_BYTES>(out).u32(REQUEST_MAGIC).u16(flags.bits());
        frame.u16(command.to_u16()).u64(cookie.0).u64(offset).u32(length).end();
    }
}

/// What a BLOCK_STATUS with PAYLOAD_LEN asks: the range's length, and only these contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStatusPayload {
    /// How many bytes of the export the request is about.
    pub length: u64,
    /// The contexts to answer for; not checked against the negotiated ones.
    pub context_ids: Vec<u32>,
}

/// The whole payload of such a request; `None` if it has no such form or names a context twice (EINVAL).
///
/// `check` has bounded its size before anyone received it.
pub fn decode_block_status_payload(payload: &[u8]) -> Option<BlockStatusPayload> {
    let mut reader = Reader::new(payload);
    let length = reader.u64()?;
    let (ids, odd) = reader.rest().as_chunks();
    let context_ids: Vec<u32> = ids.iter().map(|id| u32::from_be_bytes(*id)).collect();
    let named_twice = context_ids.iter().enumerate().any(|(at, id)| context_ids[..at].contains(id));
    let sound = odd.is_empty() && !context_ids.is_empty() && !named_twice;
    sound.then_some(BlockStatusPayload { length, context_ids })
}

/// Appends such a payload; the request's `length` is what this appends.
pub fn encode_block_status_payload(out: &mut Vec<u8>, payload: &BlockStatusPayload) {
    out.extend_from_slice(&payload.length.to_be_bytes());
    for id in &payload.context_ids {
        out.extend_from_slice(&id.to_be_bytes());
    }
}
