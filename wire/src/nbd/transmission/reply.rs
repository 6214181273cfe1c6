//! Replies and chunks of replies, appended to a buffer.
//!
//! ```text
//! simple    magic 4 | error 4 | cookie 8
//! chunk     magic 4 | flags 2 | type 2 | cookie 8 | length 4            (structured)
//! chunk     magic 4 | flags 2 | type 2 | cookie 8 | offset 8 | length 8 (extended)
//! ```
//! Its one rule: nothing here allocates but the buffer that it appends to.

use crate::bytes::Frame;

use super::{Cookie, Errno, ReplyStyle, STRING_BYTES_MAX};

/// A simple reply.
pub const SIMPLE_REPLY_BYTES: usize = 16;
/// What stands between a chunk's header and its data.
pub const CHUNK_OFFSET_BYTES: usize = 8;

pub(super) const CHUNK_HEADER_BYTES: usize = 20;
pub(super) const EXTENDED_CHUNK_HEADER_BYTES: usize = 32;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;
pub(super) const EXTENDED_CHUNK_MAGIC: u32 = 0x6e8a_278c;
pub(super) const DONE: u16 = 1;

/// The longest 32-bit descriptor: the largest multiple of any lawful minimum block size (at most 64 KiB).
const DESCRIPTOR_BYTES_MAX: u64 = 0xffff_0000;

/// More descriptors in one chunk could be taken for an attack.
const DESCRIPTORS_MAX: usize = 1 << 20;

/// What a chunk holds (NBD_REPLY_TYPE_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum ChunkType {
    None,
    OffsetData,
    OffsetHole,
    BlockStatus,
    BlockStatusExt,
    Error,
    ErrorOffset,
    /// A type that no one defined; with bit 15 set it is an error all the same.
    Unknown(u16),
}

impl ChunkType {
    /// From the wire.
    #[inline]
    pub fn from_u16(value: u16) -> ChunkType {
        match value {
            0 => ChunkType::None,
            1 => ChunkType::OffsetData,
            2 => ChunkType::OffsetHole,
            5 => ChunkType::BlockStatus,
            6 => ChunkType::BlockStatusExt,
            0x8001 => ChunkType::Error,
            0x8002 => ChunkType::ErrorOffset,
            other => ChunkType::Unknown(other),
        }
    }

    /// The value on the wire.
    #[inline]
    pub fn to_u16(self) -> u16 {
        match self {
            ChunkType::None => 0,
            ChunkType::OffsetData => 1,
            ChunkType::OffsetHole => 2,
            ChunkType::BlockStatus => 5,
            ChunkType::BlockStatusExt => 6,
            ChunkType::Error => 0x8001,
            ChunkType::ErrorOffset => 0x8002,
            ChunkType::Unknown(other) => other,
        }
    }

    /// Whether it says that the request failed.
    #[inline]
    pub fn is_error(self) -> bool {
        self.to_u16() & 0x8000 != 0
    }
}

/// A stretch of the export and its state in one metadata context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub length: u64,
    /// For base:allocation `STATE_HOLE` and `STATE_ZERO`.
    pub flags: u64,
}

/// base:allocation: nothing is allocated here.
pub const STATE_HOLE: u64 = 1;
/// base:allocation: this reads as zeroes.
pub const STATE_ZERO: u64 = 2;

/// Appends a simple reply. After a successful one to a READ, exactly the data must follow.
#[inline]
pub fn put_simple_reply(out: &mut Vec<u8>, cookie: Cookie, error: Option<Errno>) {
    let error = error.map_or(0, Errno::to_u32);
    Frame::append::<SIMPLE_REPLY_BYTES>(out).u32(SIMPLE_REPLY_MAGIC).u32(error).u64(cookie.0).end();
}

/// Appends a chunk's header, whose payload must follow. `style` is not `Simple`.
#[inline]
pub fn put_chunk_header(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    chunk: ChunkType,
    cookie: Cookie,
    request_offset: u64,
    payload_bytes: u64,
) {
    const COMPACT: usize = CHUNK_HEADER_BYTES;
    const EXTENDED: usize = EXTENDED_CHUNK_HEADER_BYTES;
    chunk_frame::<COMPACT, EXTENDED>(out, style, done, chunk, cookie, request_offset, payload_bytes).end();
}

/// Appends the head of a chunk of `data_bytes` bytes read at `data_offset`; they must follow.
#[inline]
pub fn put_offset_data(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    cookie: Cookie,
    request_offset: u64,
    data_offset: u64,
    data_bytes: u64,
) {
    assert!(data_bytes > 0, "a content chunk describes at least one byte");
    let payload_bytes = CHUNK_OFFSET_BYTES as u64 + data_bytes;
    const COMPACT: usize = CHUNK_HEADER_BYTES + CHUNK_OFFSET_BYTES;
    const EXTENDED: usize = EXTENDED_CHUNK_HEADER_BYTES + CHUNK_OFFSET_BYTES;
    let chunk = ChunkType::OffsetData;
    let frame =
        chunk_frame::<COMPACT, EXTENDED>(out, style, done, chunk, cookie, request_offset, payload_bytes);
    frame.u64(data_offset).end();
}

/// Appends a chunk that says: zeroes from `hole_offset` on.
#[inline]
pub fn put_offset_hole(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    cookie: Cookie,
    request_offset: u64,
    hole_offset: u64,
    hole_bytes: u32,
) {
    assert!(hole_bytes > 0, "a content chunk describes at least one byte");
    put_chunk_header(out, style, done, ChunkType::OffsetHole, cookie, request_offset, 12);
    Frame::append::<12>(out).u64(hole_offset).u32(hole_bytes).end();
}

/// Appends the chunk that only says that the reply is complete.
#[inline]
pub fn put_none(out: &mut Vec<u8>, style: ReplyStyle, done: bool, cookie: Cookie, request_offset: u64) {
    assert!(done, "an empty chunk is only lawful as the last one");
    put_chunk_header(out, style, done, ChunkType::None, cookie, request_offset, 0);
}

/// Appends an error chunk with a sentence for people (empty for none, cut at the protocol's limit).
pub fn put_error(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    cookie: Cookie,
    request_offset: u64,
    errno: Errno,
    message: &str,
) {
    let message = cut(message);
    let payload_bytes = 6 + message.len() as u64;
    put_chunk_header(out, style, done, ChunkType::Error, cookie, request_offset, payload_bytes);
    put_errno_and_message(out, errno, message);
}

/// Appends an error chunk that says where in the export it happened.
#[expect(clippy::too_many_arguments, reason = "the fields of the chunk, in the order of its siblings")]
pub fn put_error_offset(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    cookie: Cookie,
    request_offset: u64,
    errno: Errno,
    message: &str,
    error_offset: u64,
) {
    let message = cut(message);
    let payload_bytes = 14 + message.len() as u64;
    put_chunk_header(out, style, done, ChunkType::ErrorOffset, cookie, request_offset, payload_bytes);
    put_errno_and_message(out, errno, message);
    out.extend_from_slice(&error_offset.to_be_bytes());
}

/// Appends the state of consecutive extents, from the request's offset on, in one metadata context.
///
/// Neighbours of equal state become one. Where 32 bits cannot hold a length, and after 2^20 descriptors, the list ends early, which
/// the protocol allows: the client asks again from there.
pub fn put_block_status(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    cookie: Cookie,
    request_offset: u64,
    context_id: u32,
    descriptors: &[Extent],
) {
    let start = out.len();
    let wide = style == ReplyStyle::Extended;
    let chunk = if wide { ChunkType::BlockStatusExt } else { ChunkType::BlockStatus };
    put_chunk_header(out, style, done, chunk, cookie, request_offset, 0);
    let payload_start = out.len();
    out.extend_from_slice(&context_id.to_be_bytes());
    let count =
        if wide { put_wide_descriptors(out, descriptors) } else { put_narrow_descriptors(out, descriptors) };
    assert!(count > 0, "a block status has at least one descriptor");
    let payload_bytes = u32::try_from(out.len() - payload_start).expect("the list of descriptors is bounded");
    // The length ends the header in both styles, and its upper half is zero in the wide one.
    out[payload_start - 4..payload_start].copy_from_slice(&payload_bytes.to_be_bytes());
    debug_assert_eq!(payload_start - start, style.chunk_header_bytes());
}

/// Appends what ends any command but a successful READ.
#[inline]
pub fn put_done(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    cookie: Cookie,
    request_offset: u64,
    result: Result<(), Errno>,
) {
    match (style, result) {
        (ReplyStyle::Simple, result) => put_simple_reply(out, cookie, result.err()),
        // Shorter than an empty chunk, and lawful for all but reads.
        (ReplyStyle::Structured, Ok(())) => put_simple_reply(out, cookie, None),
        (ReplyStyle::Extended, Ok(())) => put_none(out, style, true, cookie, request_offset),
        (_, Err(errno)) => put_error(out, style, true, cookie, request_offset, errno, ""),
    }
}

/// A frame for a chunk's header and the fixed part of its payload, with the header filled in.
#[inline]
fn chunk_frame<const COMPACT_BYTES: usize, const EXTENDED_BYTES: usize>(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    done: bool,
    chunk: ChunkType,
    cookie: Cookie,
    request_offset: u64,
    payload_bytes: u64,
) -> Frame<'_> {
    let flags = if done { DONE } else { 0 };
    match style {
        ReplyStyle::Simple => panic!("chunks were not negotiated"),
        ReplyStyle::Structured => {
            let length = u32::try_from(payload_bytes).expect("a structured chunk's payload is below 4 GiB");
            let frame = Frame::append::<COMPACT_BYTES>(out).u32(CHUNK_MAGIC).u16(flags);
            frame.u16(chunk.to_u16()).u64(cookie.0).u32(length)
        }
        ReplyStyle::Extended => {
            let frame = Frame::append::<EXTENDED_BYTES>(out).u32(EXTENDED_CHUNK_MAGIC).u16(flags);
            frame.u16(chunk.to_u16()).u64(cookie.0).u64(request_offset).u64(payload_bytes)
        }
    }
}

fn put_errno_and_message(out: &mut Vec<u8>, errno: Errno, message: &str) {
    out.extend_from_slice(&errno.to_u32().to_be_bytes());
    let message_bytes = u16::try_from(message.len()).expect("a message was cut to 4096 bytes");
    out.extend_from_slice(&message_bytes.to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

fn put_narrow_descriptors(out: &mut Vec<u8>, descriptors: &[Extent]) -> u32 {
    let mut count = 0;
    for extent in merged(descriptors).take(DESCRIPTORS_MAX) {
        let length = extent.length.min(DESCRIPTOR_BYTES_MAX);
        let flags = u32::try_from(extent.flags).expect("only wide contexts have flags beyond 32 bits");
        Frame::append::<8>(out).u32(length as u32).u32(flags).end();
        count += 1;
        if length < extent.length {
            break;
        }
    }
    count
}

fn put_wide_descriptors(out: &mut Vec<u8>, descriptors: &[Extent]) -> u32 {
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for extent in merged(descriptors).take(DESCRIPTORS_MAX) {
        Frame::append::<16>(out).u64(extent.length).u64(extent.flags).end();
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    count
}

/// The extents with neighbours of equal flags joined and empty ones left out.
fn merged(descriptors: &[Extent]) -> impl Iterator<Item = Extent> {
    let mut rest = descriptors.iter().copied().filter(|extent| extent.length > 0).peekable();
    std::iter::from_fn(move || {
        let mut extent = rest.next()?;
        while let Some(next) = rest.next_if(|next| next.flags == extent.flags) {
            extent.length = extent.length.saturating_add(next.length);
        }
        Some(extent)
    })
}

/// At most what a string of the protocol may have, not through the middle of a character.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(STRING_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
