//! Requests on their way out: a buffer that they are written into and sent from, in place.
//!
//! Rule: bytes handed to `send` stay where they are until the socket has taken them.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use socket2::Socket;

use crate::load::Random;

/// The buffer, and what of it is yet to be sent.
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    end: usize,
}

impl Outgoing {
    /// Room for `size_bytes`, filled with random bytes.
    pub fn new(size_bytes: usize) -> Outgoing {
        let mut bytes = vec![0; size_bytes];
        Random::new(size_bytes as u64).fill(&mut bytes);
        Outgoing { bytes, sent: 0, end: 0 }
    }

    /// All has been sent.
    pub fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    /// `count` more bytes fit.
    #[inline]
    pub fn has_room(&self, count: usize) -> bool {
        self.end + count <= self.bytes.len()
    }

    /// Adds a header.
    #[inline]
    pub fn header(&mut self, header: &[u8]) {
        self.take(header.len()).copy_from_slice(header);
    }

    /// Adds a payload of `count` bytes: what lies in the buffer.
    #[inline]
    pub fn payload(&mut self, count: usize) -> &[u8] {
        self.take(count)
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

    /// What is yet to be sent.
    #[cfg(test)]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.end]
    }

    #[inline]
    fn take(&mut self, count: usize) -> &mut [u8] {
        assert!(self.has_room(count), "the caller looked whether there is room");
        let taken = &mut self.bytes[self.end..][..count];
        self.end += count;
        taken
    }
}
