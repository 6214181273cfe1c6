//! Replies of an NBD server, put together from their chunks.

use std::collections::BTreeMap;

use wire::nbd::transmission::{
    ChunkType, Cookie, Errno, ReplyHeader, ReplyStyle, decode_error, decode_error_offset, decode_offset_data,
    decode_offset_hole, decode_reply_header,
};

/// A whole reply.
pub struct Reply {
    pub cookie: u64,
    /// What it says, if it is none that was wished for.
    pub error: Option<String>,
    pub data: Vec<u8>,
}

/// Bytes in, replies out.
pub struct Replies {
    style: ReplyStyle,
    input: Vec<u8>,
    /// Replies of which a part is here.
    parts: BTreeMap<u64, Part>,
}

struct Part {
    data: Vec<u8>,
    filled: usize,
    error: Option<Errno>,
}

impl Replies {
    pub fn new(style: ReplyStyle, input: Vec<u8>) -> Replies {
        Replies { style, input, parts: BTreeMap::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole reply. `expected` knows offset and length of the read with a cookie. An error is what no
    /// honest server sends.
    pub fn next(
        &mut self,
        expected: impl Fn(Cookie) -> Option<(u64, usize)>,
    ) -> Result<Option<Reply>, String> {
        loop {
            let header = decode_reply_header(&self.input, self.style);
            let Some(header) = header.map_err(|error| format!("a reply's {error:?}"))? else {
                return Ok(None);
            };
            let cookie = header.cookie();
            let Some((offset, bytes)) = expected(cookie) else {
                return Err(format!("an answer to {}, which was not asked", cookie.0));
            };
            let payload = match header {
                ReplyHeader::Simple { error: None, .. } => bytes,
                ReplyHeader::Simple { .. } => 0,
                ReplyHeader::Chunk { payload_bytes, .. } => payload_bytes as usize,
            };
            let start = header.header_bytes();
            if self.input.len() < start + payload {
                return Ok(None);
            }
            let front: Vec<u8> = self.input.drain(..start + payload).collect();
            let payload = &front[start..];
            match header {
                ReplyHeader::Simple { error, .. } => {
                    let error = error.map(|error| format!("{error:?}"));
                    return Ok(Some(Reply { cookie: cookie.0, error, data: payload.to_vec() }));
                }
                ReplyHeader::Chunk { done, chunk, .. } => {
                    let part = self.parts.entry(cookie.0);
                    let part = part.or_insert_with(|| Part { data: vec![0; bytes], filled: 0, error: None });
                    part.take(chunk, payload, offset)?;
                    if done {
                        let Part { data, filled, error } = self.parts.remove(&cookie.0).expect("just there");
                        if error.is_none() && filled != bytes {
                            return Err(format!("{filled} bytes where {bytes} were asked for"));
                        }
                        let error = error.map(|error| format!("{error:?}"));
                        return Ok(Some(Reply { cookie: cookie.0, error, data }));
                    }
                }
            }
        }
    }
}

impl Part {
    fn take(&mut self, chunk: ChunkType, payload: &[u8], offset: u64) -> Result<(), String> {
        let bad = || format!("a chunk {chunk:?} that makes no sense");
        match chunk {
            ChunkType::None => {}
            ChunkType::OffsetData => {
                let (front, data) = payload.split_first_chunk::<8>().ok_or_else(bad)?;
                self.put(decode_offset_data(*front) - offset, data.len(), Some(data)).ok_or_else(bad)?;
            }
            ChunkType::OffsetHole => {
                let (at, len) = decode_offset_hole(payload).ok_or_else(bad)?;
                self.put(at - offset, len as usize, None).ok_or_else(bad)?;
            }
            ChunkType::ErrorOffset => {
                self.error = Some(decode_error_offset(payload).ok_or_else(bad)?.0.errno);
            }
            _ if chunk.is_error() => self.error = Some(decode_error(payload).ok_or_else(bad)?.errno),
            _ => return Err(bad()),
        }
        Ok(())
    }

    fn put(&mut self, at: u64, len: usize, data: Option<&[u8]>) -> Option<()> {
        let to = self.data.get_mut(at as usize..(at as usize).checked_add(len)?)?;
        match data {
            Some(data) => to.copy_from_slice(data),
            None => to.fill(0),
        }
        self.filled += len;
        Some(())
    }
}
