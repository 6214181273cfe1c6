//! The server's half of transmission: bytes in, requests answered.
//!
//! Its one rule: what a header announces is checked before a byte of it is taken, and nothing is stored that was
//! not asked for.

use wire::nbd::transmission::{
    CHUNK_OFFSET_BYTES, ChunkType, Command, Cookie, Errno, ReplyHeader, ReplyStyle, decode_block_status,
    decode_error, decode_error_offset, decode_offset_data, decode_offset_hole, decode_reply_header,
};

use super::table::Table;
use super::violation::Violation;

/// The longest list of extents that is taken.
const STATUS_BYTES_MAX: u64 = 64 << 20;
/// The longest error message, with what stands around it.
const ERROR_BYTES_MAX: u64 = 4096 + 64;

/// Reads what the server sends on one connection.
pub(super) struct Replies {
    link: usize,
    style: ReplyStyle,
    allocation_id: Option<u32>,
    phase: Phase,
    /// Requests answered since last asked.
    concluded: usize,
}

enum Phase {
    Header,
    /// The place of OFFSET_DATA is to come, then the data.
    DataOffset {
        cookie: Cookie,
        done: bool,
        data_bytes: u64,
    },
    /// `left` bytes go to `at` of the request's buffer.
    Data {
        key: usize,
        at: usize,
        left: usize,
        done: bool,
    },
    /// A short payload is gathered.
    Payload {
        cookie: Cookie,
        done: bool,
        chunk: ChunkType,
        gathered: Vec<u8>,
        left: usize,
    },
}

impl Replies {
    pub(super) fn new(link: usize, style: ReplyStyle, allocation_id: Option<u32>) -> Replies {
        Replies { link, style, allocation_id, phase: Phase::Header, concluded: 0 }
    }

    /// Takes as much of `input` as can be understood so far, and says how much.
    pub(super) fn advance(&mut self, input: &[u8], table: &mut Table) -> Result<usize, Violation> {
        let mut rest = input;
        while self.next(&mut rest, table)? {}
        Ok(input.len() - rest.len())
    }

    /// Where the next bytes belong, if they are data: request, place in its buffer, how many.
    pub(super) fn expected_data(&self) -> Option<(usize, usize, usize)> {
        match self.phase {
            Phase::Data { key, at, left, .. } => Some((key, at, left)),
            _ => None,
        }
    }

    /// `count` bytes were received right to where `expected_data` said.
    pub(super) fn took_data(&mut self, count: usize, table: &mut Table) -> Result<(), Violation> {
        let Phase::Data { at, left, .. } = &mut self.phase else { unreachable!("data was expected") };
        (*at, *left) = (*at + count, *left - count);
        self.end_data(table)
    }

    /// How many requests were answered since the last call.
    pub(super) fn take_concluded(&mut self) -> usize {
        std::mem::take(&mut self.concluded)
    }

    /// One step; `false` when more input is needed.
    fn next(&mut self, rest: &mut &[u8], table: &mut Table) -> Result<bool, Violation> {
        match &mut self.phase {
            Phase::Header => {
                let Some(header) = decode_reply_header(rest, self.style)? else { return Ok(false) };
                *rest = &rest[header.header_bytes()..];
                self.header(header, table)?;
            }
            Phase::DataOffset { cookie, done, data_bytes } => {
                let Some((front, after)) = rest.split_first_chunk::<CHUNK_OFFSET_BYTES>() else {
                    return Ok(false);
                };
                let (cookie, done, data_bytes) = (*cookie, *done, *data_bytes);
                *rest = after;
                self.begin_data(cookie, done, decode_offset_data(*front), data_bytes, table)?;
            }
            Phase::Data { key, at, left, .. } => {
                let count = rest.len().min(*left);
                let (data, after) = rest.split_at(count);
                table.slot(*key).buffer[*at..*at + count].copy_from_slice(data);
                *rest = after;
                self.took_data(count, table)?;
                return Ok(!rest.is_empty());
            }
            Phase::Payload { gathered, left, .. } => {
                let (data, after) = rest.split_at(rest.len().min(*left));
                gathered.extend_from_slice(data);
                *left -= data.len();
                *rest = after;
                if *left > 0 {
                    return Ok(false);
                }
                self.payload(table)?;
            }
        }
        Ok(!rest.is_empty())
    }

    fn header(&mut self, header: ReplyHeader, table: &mut Table) -> Result<(), Violation> {
        match header {
            ReplyHeader::Simple { cookie, error } => self.simple(cookie, error, table),
            ReplyHeader::Chunk { cookie, done, chunk, request_offset, payload_bytes } => {
                let key = table.sent(self.link, cookie)?;
                if request_offset.is_some_and(|offset| offset != table.slot(key).ask.offset) {
                    return Err(Violation::ForeignOffset);
                }
                self.chunk(key, cookie, done, chunk, payload_bytes, table)
            }
        }
    }

    fn simple(&mut self, cookie: Cookie, error: Option<Errno>, table: &mut Table) -> Result<(), Violation> {
        let key = table.sent(self.link, cookie)?;
        let slot = table.slot(key);
        if let Some(errno) = error {
            slot.fail(errno, &[]);
            return self.conclude(key, table);
        }
        match slot.ask.command {
            Command::Read if self.style != ReplyStyle::Simple => Err(Violation::SimpleRead),
            Command::Read => {
                let (offset, length) = (slot.ask.offset, slot.ask.length);
                self.begin_data(cookie, true, offset, length, table)
            }
            _ => self.conclude(key, table),
        }
    }

    fn chunk(
        &mut self,
        key: usize,
        cookie: Cookie,
        done: bool,
        chunk: ChunkType,
        payload_bytes: u64,
        table: &mut Table,
    ) -> Result<(), Violation> {
        let asked_bytes = table.slot(key).ask.length;
        let lawful = match chunk {
            ChunkType::None => payload_bytes == 0 && done,
            ChunkType::OffsetData => (9..=asked_bytes.saturating_add(8)).contains(&payload_bytes),
            ChunkType::OffsetHole => payload_bytes == 12,
            ChunkType::BlockStatus => (12..=STATUS_BYTES_MAX).contains(&payload_bytes),
            ChunkType::BlockStatusExt => (24..=STATUS_BYTES_MAX).contains(&payload_bytes),
            _ if chunk.is_error() => (6..=ERROR_BYTES_MAX).contains(&payload_bytes),
            _ => return Err(Violation::UnknownChunk(chunk.to_u16())),
        };
        if !lawful {
            return Err(Violation::ChunkLength { chunk, payload_bytes });
        }
        self.phase = match chunk {
            ChunkType::None => return self.conclude(key, table),
            ChunkType::OffsetData => {
                Phase::DataOffset { cookie, done, data_bytes: payload_bytes - CHUNK_OFFSET_BYTES as u64 }
            }
            _ => {
                let left = usize::try_from(payload_bytes).expect("it was bounded above");
                Phase::Payload { cookie, done, chunk, gathered: Vec::new(), left }
            }
        };
        Ok(())
    }

    fn begin_data(
        &mut self,
        cookie: Cookie,
        done: bool,
        offset: u64,
        length: u64,
        table: &mut Table,
    ) -> Result<(), Violation> {
        let key = table.sent(self.link, cookie)?;
        let at = table.slot(key).claim(offset, length)?;
        let left = usize::try_from(length).expect("it lies in the buffer");
        self.phase = Phase::Data { key, at, left, done };
        Ok(())
    }

    fn end_data(&mut self, table: &mut Table) -> Result<(), Violation> {
        match self.phase {
            Phase::Data { key, left: 0, done, .. } => self.end_chunk(key, done, table),
            _ => Ok(()),
        }
    }

    /// A gathered payload is there.
    fn payload(&mut self, table: &mut Table) -> Result<(), Violation> {
        let phase = std::mem::replace(&mut self.phase, Phase::Header);
        let Phase::Payload { cookie, done, chunk, gathered, .. } = phase else {
            unreachable!("a payload was gathered")
        };
        let key = table.sent(self.link, cookie)?;
        let slot = table.slot(key);
        match chunk {
            ChunkType::OffsetHole => {
                let hole = decode_offset_hole(&gathered).ok_or(Violation::MalformedChunk(chunk))?;
                slot.take_hole(hole.0, hole.1.into())?;
            }
            ChunkType::BlockStatus | ChunkType::BlockStatusExt => {
                let status = decode_block_status(chunk, &gathered);
                let (context, extents) = status.ok_or(Violation::MalformedChunk(chunk))?;
                if self.allocation_id != Some(context) {
                    return Err(Violation::ForeignContext);
                }
                slot.take_extents(extents)?;
            }
            _ => {
                let error = match chunk {
                    ChunkType::ErrorOffset => decode_error_offset(&gathered).map(|(error, _)| error),
                    _ => decode_error(&gathered),
                };
                let error = error.ok_or(Violation::MalformedChunk(chunk))?;
                slot.fail(error.errno, error.message);
            }
        }
        self.end_chunk(key, done, table)
    }

    fn end_chunk(&mut self, key: usize, done: bool, table: &mut Table) -> Result<(), Violation> {
        self.phase = Phase::Header;
        if done { self.conclude(key, table) } else { Ok(()) }
    }

    fn conclude(&mut self, key: usize, table: &mut Table) -> Result<(), Violation> {
        self.phase = Phase::Header;
        self.concluded += 1;
        table.conclude(key)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
#[cfg(test)]
mod tests;
