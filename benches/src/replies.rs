//! Finds the replies in a stream of bytes, in whatever style, and skips their payloads in place.
//!
//! Payload bytes are neither copied nor looked at: a generator that verifies would measure itself.
//! Rule: a cookie tells whether its request was a read, so the length of a simple reply is known from it.

use anyhow::{Context, Result};
use wire::nbd::transmission::{Cookie, ReplyHeader, ReplyStyle, decode_reply_header};

/// Set in the cookie of a read.
pub const READ: u64 = 1 << 63;

/// No header is longer.
const HEADER_BYTES_MAX: usize = 32;

/// One request answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its cookie.
    pub cookie: u64,
    /// It failed.
    pub error: bool,
}

/// The place in one connection's stream of replies.
pub struct Replies {
    style: ReplyStyle,
    block_bytes: usize,
    skip: usize,
    carry: [u8; HEADER_BYTES_MAX],
    carried: usize,
    chunk_failed: bool,
}

impl Replies {
    /// At the start of a stream in `style`; reads ask for `block_bytes` each.
    pub fn new(style: ReplyStyle, block_bytes: u32) -> Replies {
        let block_bytes = block_bytes as usize;
        Replies { style, block_bytes, skip: 0, carry: [0; HEADER_BYTES_MAX], carried: 0, chunk_failed: false }
    }

    /// Puts back the piece of a header that ended the bytes before; the next bytes go behind it.
    #[inline]
    pub fn resume(&mut self, inbox: &mut [u8]) -> usize {
        let carried = std::mem::take(&mut self.carried);
        inbox[..carried].copy_from_slice(&self.carry[..carried]);
        carried
    }

    /// Takes the next `bytes` of the stream and tells of every request that they finish.
    #[inline]
    pub fn take(&mut self, mut bytes: &[u8], mut answered: impl FnMut(Answer)) -> Result<()> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let header = decode_reply_header(bytes, self.style).context("the server lost the protocol")?;
            let Some(header) = header else { break };
            bytes = &bytes[header.header_bytes()..];
            if let Some(answer) = self.header(header) {
                answered(answer);
            }
        }
        self.carried = bytes.len();
        self.carry[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn header(&mut self, header: ReplyHeader) -> Option<Answer> {
        match header {
            ReplyHeader::Simple { cookie: Cookie(cookie), error } => {
                let has_payload = cookie & READ != 0 && error.is_none();
                self.skip = if has_payload { self.block_bytes } else { 0 };
                Some(Answer { cookie, error: error.is_some() })
            }
            ReplyHeader::Chunk { cookie: Cookie(cookie), done, chunk, payload_bytes, .. } => {
                self.skip = payload_bytes as usize;
                self.chunk_failed |= chunk.is_error();
                done.then(|| Answer { cookie, error: std::mem::take(&mut self.chunk_failed) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::nbd::transmission::{Errno, put_error, put_none, put_offset_data, put_simple_reply};

    fn answers(style: ReplyStyle, stream: &[u8], cut: usize) -> Vec<(u64, bool)> {
        let mut replies = Replies::new(style, 512);
        let mut inbox = vec![0; 1024];
        let mut found = Vec::new();
        for piece in stream.chunks(cut) {
            let carried = replies.resume(&mut inbox);
            inbox[carried..carried + piece.len()].copy_from_slice(piece);
            let bytes = &inbox[..carried + piece.len()];
            replies.take(bytes, |answer| found.push((answer.cookie, answer.error))).expect("lawful");
        }
        found
    }

    #[test]
    fn simple_replies_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        put_simple_reply(&mut stream, Cookie(READ | 1), None);
        stream.extend([0x67; 512]);
        put_simple_reply(&mut stream, Cookie(2), None);
        put_simple_reply(&mut stream, Cookie(READ | 3), Some(Errno::Io));
        put_simple_reply(&mut stream, Cookie(4), None);
        for cut in [1, 3, 15, 17, 100, 900] {
            let found = answers(ReplyStyle::Simple, &stream, cut);
            assert_eq!(found, [(READ | 1, false), (2, false), (READ | 3, true), (4, false)], "cut {cut}");
        }
    }

    #[test]
    fn chunks_of_one_reply_are_one_answer() {
        let mut stream = Vec::new();
        let style = ReplyStyle::Structured;
        put_offset_data(&mut stream, style, false, Cookie(READ | 1), 0, 0, 100);
        stream.extend([1; 100]);
        put_none(&mut stream, style, true, Cookie(READ | 1), 0);
        put_error(&mut stream, style, true, Cookie(READ | 2), 0, Errno::Io, "broken");
        put_simple_reply(&mut stream, Cookie(3), None);
        for cut in [1, 7, 64, 900] {
            let found = answers(style, &stream, cut);
            assert_eq!(found, [(READ | 1, false), (READ | 2, true), (3, false)], "cut {cut}");
        }
    }

    #[test]
    fn garbage_ends_the_stream() {
        assert!(Replies::new(ReplyStyle::Simple, 512).take(&[0; 20], |_| {}).is_err());
    }
}
