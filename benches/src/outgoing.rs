//! Requests on their way out: a buffer that they are written into and sent from, in place.
//!
//! Rule: bytes handed to `send` stay where they are until the socket has taken them.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use socket2::Socket;
use wire::nbd::transmission::{ReplyStyle, Request, encode_request};

use crate::load::Random;

/// The buffer, and what of it is yet to be sent.
pub struct Outgoing {
    style: ReplyStyle,
    header: Vec<u8>,
    bytes: Vec<u8>,
    record_bytes_max: usize,
    sent: usize,
    end: usize,
}

impl Outgoing {
    /// Room for `records` requests with payloads of at most `payload_bytes_max`, filled with random bytes.
    pub fn new(style: ReplyStyle, records: usize, payload_bytes_max: usize) -> Outgoing {
        let record_bytes_max = style.request_bytes() + payload_bytes_max;
        let mut bytes = vec![0; records * record_bytes_max];
        Random::new(records as u64).fill(&mut bytes);
        Outgoing { style, header: Vec::with_capacity(64), bytes, record_bytes_max, sent: 0, end: 0 }
    }

    /// All has been sent.
    pub fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// One more request fits.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.end + self.record_bytes_max <= self.bytes.len()
    }

    /// Adds a request; its payload is what lies in the buffer behind it.
    #[inline]
    pub fn append(&mut self, request: &Request) {
        assert!(self.has_room(), "the caller looked whether there is room");
        self.header.clear();
        encode_request(&mut self.header, self.style, request);
        self.bytes[self.end..self.end + self.header.len()].copy_from_slice(&self.header);
        self.end += self.header.len() + request.payload_bytes(self.style) as usize;
    }

    /// Sends until all is out or the socket is full.
    #[inline]
    pub fn send(&mut self, mut socket: &Socket) -> Result<()> {
        while self.sent < self.end {
            match socket.write(&self.bytes[self.sent..self.end]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        (self.sent, self.end) = (0, 0);
        Ok(())
    }
}
