//! What a client says to a node and hears from it, in NBD or in iSCSI.
//!
//! Its one rule: bytes in, bytes and replies out; nothing here waits.

use std::collections::BTreeMap;

use wire::nbd::transmission::{Command, CommandFlags, Cookie, ReplyStyle, Request as Wire, encode_request};

use super::iscsi::Talk;
use super::words::{Replies, Reply};
use crate::disk::SECTOR_BYTES;
use crate::history::fill;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Trim,
    Zero,
    Flush,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub cookie: u64,
    pub kind: Kind,
    /// Sectors; none of a flush.
    pub first: usize,
    pub sectors: usize,
    /// Of what is written.
    pub tag: u64,
    pub durable: bool,
}

/// What a node says.
pub enum Heard {
    Reply(Reply),
    /// That it wants to be left.
    Leave,
}

/// One protocol.
pub enum Speech {
    Nbd(Nbd),
    Iscsi(Box<Talk>),
}

/// NBD.
pub struct Nbd {
    style: ReplyStyle,
    replies: Replies,
    /// Where each request begins, and how many bytes it reads.
    expected: BTreeMap<u64, (u64, usize)>,
}

impl Question {
    pub fn offset(&self) -> u64 {
        (self.first * SECTOR_BYTES) as u64
    }

    pub fn bytes(&self) -> usize {
        self.sectors * SECTOR_BYTES
    }

    /// Appends what is to be written.
    pub fn payload(&self, out: &mut Vec<u8>) {
        (self.first..self.first + self.sectors).for_each(|sector| fill(self.tag, sector, out));
    }
}

impl Speech {
    /// Whether the node takes one more request.
    pub fn may_ask(&self) -> bool {
        match self {
            Speech::Nbd(_) => true,
            Speech::Iscsi(talk) => talk.may_ask(),
        }
    }

    /// Whether such a request can be made durable by itself.
    pub fn has_durable(&self, kind: Kind) -> bool {
        kind == Kind::Write || matches!((self, kind), (Speech::Nbd(_), Kind::Trim | Kind::Zero))
    }

    /// Appends a request.
    pub fn ask(&mut self, question: &Question, out: &mut Vec<u8>) {
        match self {
            Speech::Nbd(nbd) => nbd.ask(question, out),
            Speech::Iscsi(talk) => talk.ask(question, out),
        }
    }

    /// Appends that nothing more will come.
    pub fn farewell(&mut self, out: &mut Vec<u8>) {
        match self {
            Speech::Nbd(nbd) => {
                nbd.put(Command::Disconnect, CommandFlags::NONE, Cookie(0), 0, 0, out);
            }
            Speech::Iscsi(talk) => talk.log_out(out),
        }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Speech::Nbd(nbd) => nbd.replies.push(bytes),
            Speech::Iscsi(talk) => talk.push(bytes),
        }
    }

    /// What has been heard, if it is whole; what it is to be answered with is appended. An error is what no honest node
    /// says.
    pub fn hear(&mut self, out: &mut Vec<u8>) -> Result<Option<Heard>, String> {
        match self {
            Speech::Nbd(nbd) => nbd.hear(),
            Speech::Iscsi(talk) => talk.hear(out),
        }
    }
}

impl Nbd {
    pub fn new(style: ReplyStyle, input: Vec<u8>) -> Nbd {
        Nbd { style, replies: Replies::new(style, input), expected: BTreeMap::new() }
    }

    fn ask(&mut self, question: &Question, out: &mut Vec<u8>) {
        let Question { cookie, kind, durable, .. } = *question;
        let command = match kind {
            Kind::Read => Command::Read,
            Kind::Write => Command::Write,
            Kind::Trim => Command::Trim,
            Kind::Zero => Command::WriteZeroes,
            Kind::Flush => Command::Flush,
        };
        let flags = if durable { CommandFlags::FUA } else { CommandFlags::NONE };
        let (offset, bytes) =
            if kind == Kind::Flush { (0, 0) } else { (question.offset(), question.bytes()) };
        self.put(command, flags, Cookie(cookie), offset, bytes as u64, out);
        if kind == Kind::Write {
            question.payload(out);
        }
        self.expected.insert(cookie, (offset, if kind == Kind::Read { bytes } else { 0 }));
    }

    fn put(
        &self,
        command: Command,
        flags: CommandFlags,
        cookie: Cookie,
        offset: u64,
        length: u64,
        out: &mut Vec<u8>,
    ) {
        encode_request(out, self.style, &Wire { command, flags, cookie, offset, length });
    }

    fn hear(&mut self) -> Result<Option<Heard>, String> {
        let Nbd { replies, expected, .. } = self;
        let reply = replies.next(|cookie| expected.get(&cookie.0).copied())?;
        if let Some(reply) = &reply {
            expected.remove(&reply.cookie);
        }
        Ok(reply.map(Heard::Reply))
    }
}
