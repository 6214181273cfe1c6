//! One connection of the generator: requests out of a buffer that is sent in place, replies counted and dropped.
//!
//! Each request takes its place in `outgoing`, payload included: the buffer was filled with random bytes once,
//! and whatever lies there now goes out. Nothing is allocated or copied while a load runs.
//! Rule: never more than `depth` requests in flight, and a request keeps its slot until its reply.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use socket2::Socket;

use crate::address::Address;
use crate::load::{Load, Questions, Sending};
use crate::outgoing::Outgoing;
use crate::talk::{Dialed, Talk, dial};
use crate::tally::Tally;

/// One negotiated connection and what is in flight on it.
pub struct Connection {
    socket: Socket,
    questions: Questions,
    talk: Box<dyn Talk>,
    outgoing: Outgoing,
    request_bytes_max: usize,
    sending: Sending,
    asked_ns: Vec<u64>,
    free: Vec<usize>,
}

impl Connection {
    /// Connects to `address` and negotiates, for connection `index` of `load`. Answers the volume's size, too.
    pub fn open(address: &Address, load: &Load, index: usize) -> Result<(Connection, u64)> {
        let Dialed { socket, talk, size_bytes } = dial(address, load)?;
        if size_bytes < u64::from(load.block_bytes) {
            bail!("{address} has {size_bytes} bytes: too small for requests of {}", load.block_bytes);
        }
        socket.set_nonblocking(true)?;
        let request_bytes_max = talk.request_bytes_max();
        let connection = Connection {
            socket,
            questions: Questions::new(load, index, size_bytes),
            talk,
            outgoing: Outgoing::new(load.depth * request_bytes_max),
            request_bytes_max,
            sending: load.sending,
            asked_ns: vec![0; load.depth],
            free: (0..load.depth).collect(),
        };
        Ok((connection, size_bytes))
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
        let carried = self.talk.resume(inbox);
        let received = match (&self.socket).read(&mut inbox[carried..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let now_ns = if received > 0 { began.elapsed().as_nanos() as u64 } else { 0 };
        let (asked_ns, free) = (&self.asked_ns, &mut self.free);
        self.talk.take(&inbox[..carried + received], &mut |answer| {
            tally.answered(now_ns - asked_ns[answer.slot], answer.error);
            free.push(answer.slot);
        })?;
        ensure!(self.free.len() <= self.asked_ns.len(), "the server answered a request twice");
        Ok(received > 0)
    }

    /// Sends what the server has asked for, requests while slots are free, at most `budget` of them, and what an
    /// earlier send left over. Answers how many requests are new.
    #[inline]
    pub fn ask(&mut self, began: Instant, budget: u64) -> Result<u64> {
        while self.talk.respond(&mut self.outgoing) {
            self.send_single()?;
        }
        let mut asked = 0;
        if asked < budget && !self.free.is_empty() {
            let now_ns = began.elapsed().as_nanos() as u64;
            while asked < budget && self.ask_one(now_ns) {
                asked += 1;
                self.send_single()?;
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
    fn send_single(&mut self) -> Result<()> {
        match self.sending {
            Sending::Single => self.outgoing.send(&self.socket),
            Sending::Gather => Ok(()),
        }
    }

    #[inline]
    fn ask_one(&mut self, now_ns: u64) -> bool {
        let Some(&slot) = self.free.last() else { return false };
        if !self.outgoing.has_room(self.request_bytes_max) || !self.talk.may_ask() {
            return false;
        }
        self.free.pop();
        self.asked_ns[slot] = now_ns;
        self.talk.ask(self.questions.next(), slot, &mut self.outgoing);
        true
    }
}
