//! One connection of the generator: requests out of a buffer that is sent in place, replies counted and dropped.
//!
//! Each request takes its place in `outgoing`, payload included: the buffer was filled with random bytes once,
//! and whatever lies there now goes out. Nothing is allocated or copied while a load runs.
//! Rule: never more than `depth` requests in flight, and a request keeps its slot until its reply.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use socket2::Socket;
use wire::nbd::transmission::{Command, CommandFlags, Cookie, Request};

use crate::address::Address;
use crate::dial::dial;
use crate::load::{Load, Questions, Sending};
use crate::outgoing::Outgoing;
use crate::replies::{READ, Replies};
use crate::tally::Tally;

/// One negotiated connection and what is in flight on it.
pub struct Connection {
    socket: Socket,
    questions: Questions,
    replies: Replies,
    outgoing: Outgoing,
    block_bytes: u64,
    sending: Sending,
    asked_ns: Vec<u64>,
    free: Vec<usize>,
}

impl Connection {
    /// Connects to `address` and negotiates, for connection `index` of `load`. Answers the export's size, too.
    pub fn open(address: &Address, load: &Load, index: usize) -> Result<(Connection, u64)> {
        let (socket, dialed) = dial(address, load.replies)?;
        if dialed.size_bytes < u64::from(load.block_bytes) {
            bail!(
                "{address} has {} bytes: too small for requests of {}",
                dialed.size_bytes,
                load.block_bytes
            );
        }
        socket.set_nonblocking(true)?;
        let connection = Connection {
            socket,
            questions: Questions::new(load, index, dialed.size_bytes),
            replies: Replies::new(dialed.style, load.block_bytes),
            outgoing: Outgoing::new(dialed.style, load.depth, load.payload_bytes_max()),
            block_bytes: load.block_bytes.into(),
            sending: load.sending,
            asked_ns: vec![0; load.depth],
            free: (0..load.depth).collect(),
        };
        Ok((connection, dialed.size_bytes))
    }

    /// The socket, to wait on.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Requests without a reply.
    pub fn inflight(&self) -> usize {
        self.asked_ns.len() - self.free.len()
    }

    /// Takes what has arrived into `tally`; `false` when nothing had. `inbox` is only borrowed for the moment.
    #[inline]
    pub fn receive(&mut self, inbox: &mut [u8], began: Instant, tally: &mut Tally) -> Result<bool> {
        let carried = self.replies.resume(inbox);
        let received = match (&self.socket).read(&mut inbox[carried..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let now_ns = if received > 0 { began.elapsed().as_nanos() as u64 } else { 0 };
        let (asked_ns, free) = (&self.asked_ns, &mut self.free);
        self.replies.take(&inbox[..carried + received], |answer| {
            let slot = (answer.cookie & !READ) as usize;
            tally.answered(now_ns - asked_ns[slot], answer.error);
            free.push(slot);
        })?;
        assert!(self.free.len() <= self.asked_ns.len(), "the server answered a request twice");
        Ok(received > 0)
    }

    /// Sends requests while slots are free, at most `budget` of them, and what an earlier send left over.
    /// Answers how many requests are new.
    #[inline]
    pub fn ask(&mut self, began: Instant, budget: u64) -> Result<u64> {
        let mut asked = 0;
        if asked < budget && !self.free.is_empty() {
            let now_ns = began.elapsed().as_nanos() as u64;
            while asked < budget && self.ask_one(now_ns) {
                asked += 1;
                if self.sending == Sending::Single {
                    self.outgoing.send(&self.socket)?;
                }
            }
        }
        self.outgoing.send(&self.socket)?;
        Ok(asked)
    }

    /// Something waits to be sent.
    pub fn is_backed_up(&self) -> bool {
        !self.outgoing.is_empty()
    }

    #[inline]
    fn ask_one(&mut self, now_ns: u64) -> bool {
        let Some(&slot) = self.free.last() else { return false };
        if !self.outgoing.has_room() {
            return false;
        }
        self.free.pop();
        self.asked_ns[slot] = now_ns;
        let question = self.questions.next();
        let (command, mark) = if question.write { (Command::Write, 0) } else { (Command::Read, READ) };
        self.outgoing.append(&Request {
            command,
            flags: CommandFlags::NONE,
            cookie: Cookie(slot as u64 | mark),
            offset: question.offset_bytes,
            length: self.block_bytes,
        });
        true
    }
}
