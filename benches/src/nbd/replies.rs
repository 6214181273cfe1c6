//! Finds the replies in a stream of bytes, in whatever style, and skips their payloads in place.
//!
//! Payload bytes are neither copied nor looked at: a generator that verifies would measure itself.
//! Rule: a cookie tells whether its request was a read, so the length of a simple reply is known from it.

use anyhow::{Context, Result};
use wire::nbd::transmission::{Cookie, ReplyHeader, ReplyStyle, decode_reply_header};

use crate::stream::Stream;
use crate::talk::Answer;

/// Set in the cookie of a read.
pub const READ: u64 = 1 << 63;

/// The place in one connection's stream of replies.
pub struct Replies {
    style: ReplyStyle,
    block_bytes: usize,
    stream: Stream,
    chunk_failed: bool,
}

impl Replies {
    /// At the start of a stream in `style`; reads ask for `block_bytes` each.
    pub fn new(style: ReplyStyle, block_bytes: u32) -> Replies {
        Replies { style, block_bytes: block_bytes as usize, stream: Stream::new(), chunk_failed: false }
    }

    /// Puts back the piece of a header that ended the bytes before; the next bytes go behind it.
    #[inline]
    pub fn resume(&mut self, inbox: &mut [u8]) -> usize {
        self.stream.resume(inbox)
    }

    /// Takes the next `bytes` of the stream and tells of every request that they finish.
    #[inline]
    pub fn take(&mut self, mut bytes: &[u8], answered: &mut dyn FnMut(Answer)) -> Result<()> {
        loop {
            (_, bytes) = self.stream.split(bytes);
            let header = decode_reply_header(bytes, self.style).context("the server lost the protocol")?;
            let Some(header) = header else { break };
            bytes = &bytes[header.header_bytes()..];
            if let Some(answer) = self.header(header) {
                answered(answer);
            }
        }
        self.stream.carry(bytes);
        Ok(())
    }

    #[inline]
    fn header(&mut self, header: ReplyHeader) -> Option<Answer> {
        let (slot, error) = match header {
            ReplyHeader::Simple { cookie: Cookie(cookie), error } => {
                let has_payload = cookie & READ != 0 && error.is_none();
                self.stream.expect(if has_payload { self.block_bytes } else { 0 });
                (cookie & !READ, error.is_some())
            }
            ReplyHeader::Chunk { cookie: Cookie(cookie), done, chunk, payload_bytes, .. } => {
                self.stream.expect(payload_bytes as usize);
                self.chunk_failed |= chunk.is_error();
                if !done {
                    return None;
                }
                (cookie & !READ, std::mem::take(&mut self.chunk_failed))
            }
        };
        Some(Answer { slot: slot as usize, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::nbd::transmission::{Errno, put_error, put_none, put_offset_data, put_simple_reply};

    fn answers(style: ReplyStyle, stream: &[u8], cut: usize) -> Vec<(usize, bool)> {
        let mut replies = Replies::new(style, 512);
        let mut inbox = vec![0; 1024];
        let mut found = Vec::new();
        for piece in stream.chunks(cut) {
            let carried = replies.resume(&mut inbox);
            inbox[carried..carried + piece.len()].copy_from_slice(piece);
            let bytes = &inbox[..carried + piece.len()];
            replies.take(bytes, &mut |answer| found.push((answer.slot, answer.error))).expect("lawful");
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
            assert_eq!(found, [(1, false), (2, false), (3, true), (4, false)], "cut {cut}");
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
            assert_eq!(found, [(1, false), (2, true), (3, false)], "cut {cut}");
        }
    }

    #[test]
    fn garbage_ends_the_stream() {
        assert!(Replies::new(ReplyStyle::Simple, 512).take(&[0; 20], &mut |_| {}).is_err());
    }
}
