//! A client's bytes as its reader wants them: headers, and payloads where the volume can take them from.
//!
//! What arrives together is taken with one receive. A payload that is already here is lent from the receive
//! buffer or copied; what is still to come is received straight into an aligned buffer.

use std::rc::Rc;

use reactor::{Buffer, View};

use crate::channel::Channel;
use crate::fault::{Fault, Kind};

/// After a payload of this size, the next header is received by itself, so that the payload behind it need
/// not be copied out of a receive buffer.
const LARGE_PAYLOAD_BYTES: usize = 32 << 10;

/// Who wants to know that something comes is told after so much of a payload.
const PART_BYTES: usize = 64 << 10;

/// Between two pauses. Peers that get less at a time cost more than what working at the same time gains.
pub const PAUSE_BYTES: usize = 64 << 10;

/// The stream of one client.
pub struct Incoming<'a> {
    channel: &'a Channel,
    /// From before this stream began (a handover).
    leftover: Vec<u8>,
    current: Option<Rc<Buffer>>,
    at: usize,
    expect_large: bool,
    /// Payloads can be lent, so none has to be received by itself.
    lends: bool,
    /// Told whenever something has come.
    tells: Option<&'a dyn Fn()>,
    /// Others have their turn in between.
    pauses: bool,
    /// Taken since the last pause, or receive.
    taken: usize,
}

impl<'a> Incoming<'a> {
    /// The bytes of `channel`, after `leftover`. `lends`: payloads are mostly taken by `lend`.
    pub fn new(channel: &'a Channel, leftover: Vec<u8>, lends: bool) -> Incoming<'a> {
        Incoming {
            channel,
            leftover,
            current: None,
            at: 0,
            expect_large: false,
            lends,
            tells: None,
            pauses: false,
            taken: 0,
        }
    }

    /// The same; `tells` is called whenever something has come, also parts of a payload.
    pub fn telling(mut self, tells: &'a dyn Fn()) -> Incoming<'a> {
        self.tells = Some(tells);
        self
    }

    /// The same, pausing between two headers for one turn of the core, after every `PAUSE_BYTES` of one receive: what
    /// has been begun with them goes out to peers before the rest is looked at, so that they work at the same time as we.
    pub fn with_pauses(mut self, pauses: bool) -> Incoming<'a> {
        self.pauses = pauses;
        self
    }

    /// The next `header.len()` bytes; `false` at a clean end of the stream.
    pub async fn header(&mut self, header: &mut [u8]) -> Result<bool, Fault> {
        if self.pauses && self.taken >= PAUSE_BYTES && self.current.is_some() {
            self.taken = 0;
            self.channel.pause().await;
        }
        let mut filled = 0;
        loop {
            filled += self.take(&mut header[filled..]);
            if filled == header.len() {
                return Ok(true);
            }
            let len_max = if self.expect_large { (header.len() - filled) as u32 } else { 0 };
            if !self.receive(len_max).await? {
                return match filled {
                    0 => Ok(false),
                    _ => Err(Fault::new(Kind::Disconnected, "the client left in the middle of a request")),
                };
            }
        }
    }

    /// The next `len` bytes, lent where they lie; `None` unless all are here in one receive buffer.
    pub fn lend(&mut self, len: usize) -> Option<View> {
        let current = self
            .current
            .as_ref()
            .filter(|current| self.leftover.is_empty() && current.len() - self.at >= len)?;
        let view = View::of_shared(current, self.at, len);
        self.skip(len);
        self.expect_large = false;
        Some(view)
    }

    /// Fills `buffer[start..]` with the next bytes.
    pub async fn payload(&mut self, mut buffer: Buffer, start: usize) -> Result<Buffer, Fault> {
        let here = start + self.take(&mut buffer.bytes_mut()[start..]);
        self.expect_large = !self.lends && buffer.len() - start >= LARGE_PAYLOAD_BYTES;
        if here == buffer.len() {
            return Ok(buffer);
        }
        match self.tells {
            Some(tells) => self.channel.receive_parts(buffer, here, PART_BYTES, tells).await,
            None => self.channel.receive_exact(buffer, here).await,
        }
    }

    /// What has been received and not been taken.
    pub fn into_leftover(mut self) -> Vec<u8> {
        let mut leftover = std::mem::take(&mut self.leftover);
        if let Some(current) = &self.current {
            leftover.extend_from_slice(&current.bytes()[self.at..]);
        }
        leftover
    }

    /// Forgets the next `len` bytes.
    pub async fn discard(&mut self, mut len: u64) -> Result<(), Fault> {
        while len > 0 {
            let mut sink = [0; 512];
            let want = sink.len().min(len as usize);
            let here = match self.current.as_ref().filter(|_| self.leftover.is_empty()) {
                Some(current) => {
                    let here = ((current.len() - self.at) as u64).min(len);
                    self.skip(here as usize);
                    here
                }
                None => self.take(&mut sink[..want]) as u64,
            };
            len -= here;
            if here == 0 && !self.receive(0).await? {
                return Err(Fault::new(Kind::Disconnected, "the client left in the middle of a payload"));
            }
        }
        Ok(())
    }

    fn take(&mut self, to: &mut [u8]) -> usize {
        if !self.leftover.is_empty() {
            let count = to.len().min(self.leftover.len());
            to[..count].copy_from_slice(&self.leftover[..count]);
            self.leftover.drain(..count);
            return count;
        }
        let Some(current) = &self.current else { return 0 };
        let count = to.len().min(current.len() - self.at);
        to[..count].copy_from_slice(&current.bytes()[self.at..self.at + count]);
        self.skip(count);
        count
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
        self.taken += count;
        if self.current.as_ref().is_some_and(|current| current.len() == self.at) {
            self.current = None;
        }
    }

    async fn receive(&mut self, len_max: u32) -> Result<bool, Fault> {
        let Some(buffer) = self.channel.receive(len_max).await? else { return Ok(false) };
        self.taken = 0;
        self.current = Some(Rc::new(buffer));
        self.at = 0;
        if let Some(tells) = self.tells {
            tells();
        }
        Ok(true)
    }
}
