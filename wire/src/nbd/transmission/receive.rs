//! What a client receives: a reply's or chunk's header, then the chunk's payload by its type.
//!
//! Its one rule: a decoder takes the whole payload or says `None`, upon which the client hangs up.

use crate::bytes::Reader;

use super::reply::{
    CHUNK_HEADER_BYTES, CHUNK_MAGIC, DONE, EXTENDED_CHUNK_HEADER_BYTES, EXTENDED_CHUNK_MAGIC,
    SIMPLE_REPLY_MAGIC,
};
use super::{BadMagic, ChunkType, Cookie, Errno, Extent, ReplyStyle, SIMPLE_REPLY_BYTES};

/// What stands at the beginning of every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHeader {
    /// The whole reply; the data follows if it answers a READ without error.
    Simple {
        /// The request's.
        cookie: Cookie,
        /// `None` for success.
        error: Option<Errno>,
    },
    /// One chunk of a reply.
    Chunk {
        /// The request's.
        cookie: Cookie,
        /// Whether it is the reply's last one.
        done: bool,
        /// What its payload is.
        chunk: ChunkType,
        /// The request's offset, in extended headers.
        request_offset: Option<u64>,
        /// How many bytes follow.
        payload_bytes: u64,
    },
}

impl ReplyHeader {
    /// The size of the header itself.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        match self {
            ReplyHeader::Simple { .. } => SIMPLE_REPLY_BYTES,
            ReplyHeader::Chunk { request_offset: None, .. } => CHUNK_HEADER_BYTES,
            ReplyHeader::Chunk { request_offset: Some(_), .. } => EXTENDED_CHUNK_HEADER_BYTES,
        }
    }

    /// Which request it answers.
    #[inline]
    pub fn cookie(&self) -> Cookie {
        match self {
            ReplyHeader::Simple { cookie, .. } | ReplyHeader::Chunk { cookie, .. } => *cookie,
        }
    }
}

/// The header at the front of `bytes`, of which it takes `header_bytes()`.
///
/// `None`: more bytes are needed. An error (also for a kind of reply that was not negotiated): hang up.
#[inline]
pub fn decode_reply_header(bytes: &[u8], style: ReplyStyle) -> Result<Option<ReplyHeader>, BadMagic> {
    let mut reader = Reader::new(bytes);
    let Some(magic) = reader.u32() else { return Ok(None) };
    match (style, magic) {
        (ReplyStyle::Simple | ReplyStyle::Structured, SIMPLE_REPLY_MAGIC) => Ok(decode_simple(reader)),
        (ReplyStyle::Structured, CHUNK_MAGIC) => Ok(decode_chunk(reader, false)),
        (ReplyStyle::Extended, EXTENDED_CHUNK_MAGIC) => Ok(decode_chunk(reader, true)),
        _ => Err(BadMagic(magic)),
    }
}

#[inline]
fn decode_simple(mut reader: Reader<'_>) -> Option<ReplyHeader> {
    let error = Errno::from_u32(reader.u32()?);
    Some(ReplyHeader::Simple { cookie: Cookie(reader.u64()?), error })
}

#[inline]
fn decode_chunk(mut reader: Reader<'_>, extended: bool) -> Option<ReplyHeader> {
    let done = reader.u16()? & DONE != 0;
    let chunk = ChunkType::from_u16(reader.u16()?);
    let cookie = Cookie(reader.u64()?);
    let request_offset = if extended { Some(reader.u64()?) } else { None };
    let payload_bytes = if extended { reader.u64()? } else { reader.u32()?.into() };
    Some(ReplyHeader::Chunk { cookie, done, chunk, request_offset, payload_bytes })
}

/// Where the data of an OFFSET_DATA chunk belongs; `front` is the first 8 bytes of its payload.
#[inline]
pub fn decode_offset_data(front: [u8; super::CHUNK_OFFSET_BYTES]) -> u64 {
    u64::from_be_bytes(front)
}

/// Offset and length of an OFFSET_HOLE chunk.
pub fn decode_offset_hole(payload: &[u8]) -> Option<(u64, u32)> {
    let mut reader = Reader::new(payload);
    let hole = (reader.u64()?, reader.u32()?);
    (reader.is_empty() && hole.1 > 0).then_some(hole)
}

/// What an error chunk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorChunk<'a> {
    /// The error; a server that sent 0 here meant EINVAL.
    pub errno: Errno,
    /// For people; may be empty, may be no UTF-8.
    pub message: &'a [u8],
}

/// The payload of an ERROR chunk, or of any error chunk whose type is unknown.
pub fn decode_error(payload: &[u8]) -> Option<ErrorChunk<'_>> {
    decode_error_front(&mut Reader::new(payload))
}

/// The payload of an ERROR_OFFSET chunk, and where in the export the error lies.
pub fn decode_error_offset(payload: &[u8]) -> Option<(ErrorChunk<'_>, u64)> {
    let mut reader = Reader::new(payload);
    let error = decode_error_front(&mut reader)?;
    Some((error, reader.u64()?))
}

fn decode_error_front<'a>(reader: &mut Reader<'a>) -> Option<ErrorChunk<'a>> {
    let errno = Errno::from_u32(reader.u32()?).unwrap_or(Errno::Inval);
    let message_bytes = reader.u16()?;
    Some(ErrorChunk { errno, message: reader.bytes(message_bytes.into())? })
}

/// Context and extents of a BLOCK_STATUS (`chunk` says which of the two) chunk.
pub fn decode_block_status(chunk: ChunkType, payload: &[u8]) -> Option<(u32, Vec<Extent>)> {
    let mut reader = Reader::new(payload);
    let context_id = reader.u32()?;
    let extents: Vec<Extent> = match chunk {
        ChunkType::BlockStatus => decode_descriptors(reader, Reader::u32)?,
        ChunkType::BlockStatusExt => {
            let count = reader.u32()?;
            let extents = decode_descriptors(reader, Reader::u64)?;
            // The number is redundant, and a server may leave it out.
            (count == 0 || extents.len() == usize::try_from(count).ok()?).then_some(extents)?
        }
        _ => return None,
    };
    let sound = !extents.is_empty() && extents.iter().all(|extent| extent.length > 0);
    sound.then_some((context_id, extents))
}

fn decode_descriptors<'a, N: Into<u64>>(
    mut reader: Reader<'a>,
    next: impl Fn(&mut Reader<'a>) -> Option<N>,
) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    while !reader.is_empty() {
        extents.push(Extent { length: next(&mut reader)?.into(), flags: next(&mut reader)?.into() });
    }
    Some(extents)
}
