//! One request: what was asked, its buffer, and what has been answered so far.
//!
//! Its one rule: a reply is believed only as far as it fits what was asked; the rest is a `Violation`.

use std::task::Waker;

use wire::nbd::transmission::{Command, CommandFlags, Cookie, Errno, Extent};

use super::coverage::Coverage;
use super::violation::Violation;
use crate::error::{Error, Kind};
use crate::runtime::Instant;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) command: Command,
    pub(super) flags: CommandFlags,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What came of it.
pub(super) type Answer = (Result<(), Error>, Vec<u8>, Vec<Extent>);

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In nobody's queue: no connection is there.
    Nowhere,
    /// To be sent by a link.
    Queued(usize),
    /// Sent by a link, with this cookie.
    Sent(usize, Cookie),
    /// Answered, or given up.
    Done,
}

/// A request from its beginning to its end.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) ask: Ask,
    pub(super) place: Place,
    /// The payload of a write, or where a read goes.
    pub(super) buffer: Vec<u8>,
    /// Whether the kernel has `buffer` at the moment.
    pub(super) lent: bool,
    /// Nobody waits for the answer.
    pub(super) abandoned: bool,
    pub(super) outcome: Option<Result<(), Error>>,
    pub(super) waker: Option<Waker>,
    /// How many acknowledged writes a flush makes durable.
    pub(super) covers: u64,
    /// When it is given up; set when it first had no connection.
    pub(super) give_up_at: Option<Instant>,
    coverage: Coverage,
    extents: Vec<Extent>,
    error: Option<Error>,
}

impl Slot {
    pub(super) fn new(ask: Ask, buffer: Vec<u8>, covers: u64) -> Slot {
        Slot {
            ask,
            place: Place::Nowhere,
            buffer,
            lent: false,
            abandoned: false,
            outcome: None,
            waker: None,
            covers,
            give_up_at: None,
            coverage: Coverage::default(),
            extents: Vec::new(),
            error: None,
        }
    }

    /// Forgets what an earlier connection answered.
    pub(super) fn begin(&mut self, link: usize, cookie: Cookie) {
        self.place = Place::Sent(link, cookie);
        self.coverage = Coverage::default();
        self.extents.clear();
        self.error = None;
    }

    pub(super) fn into_answer(self) -> Answer {
        (self.outcome.expect("only what is done has an answer"), self.buffer, self.extents)
    }

    /// A stretch of the export that the server is about to tell; where it lies in the buffer.
    pub(super) fn claim(&mut self, offset: u64, length: u64) -> Result<usize, Violation> {
        if self.ask.command != Command::Read {
            return Err(Violation::DataNotAskedFor(self.ask.command));
        }
        let at = offset
            .checked_sub(self.ask.offset)
            .filter(|at| at.checked_add(length).is_some_and(|end| end <= self.ask.length));
        let at = at.ok_or(Violation::DataOutside { offset, length })?;
        self.coverage.add(at, length)?;
        Ok(usize::try_from(at).expect("it lies in the buffer"))
    }

    /// A stretch of zeroes.
    pub(super) fn take_hole(&mut self, offset: u64, length: u64) -> Result<(), Violation> {
        let at = self.claim(offset, length)?;
        let length = usize::try_from(length).expect("it lies in the buffer");
        self.buffer[at..at + length].fill(0);
        Ok(())
    }

    /// The state of the range, of which a server may tell less than was asked, and more with its last extent.
    pub(super) fn take_extents(&mut self, extents: Vec<Extent>) -> Result<(), Violation> {
        if self.ask.command != Command::BlockStatus {
            return Err(Violation::StatusNotAskedFor(self.ask.command));
        }
        if !self.extents.is_empty() {
            return Err(Violation::StatusTwice);
        }
        let mut left = self.ask.length;
        for extent in extents {
            if left == 0 {
                return Err(Violation::StatusTooLong);
            }
            let length = extent.length.min(left);
            self.extents.push(Extent { length, ..extent });
            left -= length;
        }
        Ok(())
    }

    /// An error; the first one counts.
    pub(super) fn fail(&mut self, errno: Errno, words: &[u8]) {
        if self.error.is_none() {
            let words = String::from_utf8_lossy(words);
            let words = if words.is_empty() { String::new() } else { format!(" {words:?}") };
            let what = format!("{}: the server answered {errno}{words}", self.ask);
            self.error = Some(Error::new(Kind::Server(errno), what));
        }
    }

    /// The reply is at its end: what came of the request.
    pub(super) fn conclude(&mut self) -> Result<Result<(), Error>, Violation> {
        if let Some(error) = self.error.take() {
            return Ok(Err(error));
        }
        match self.ask.command {
            Command::Read if !self.coverage.is_whole(self.ask.length) => Err(Violation::DataMissing),
            Command::BlockStatus if self.extents.is_empty() => Err(Violation::StatusMissing),
            _ => Ok(Ok(())),
        }
    }

    /// Whether the server may hold what it acknowledged in a volatile cache.
    pub(super) fn leaves_unflushed(&self) -> bool {
        let changes = matches!(self.ask.command, Command::Write | Command::WriteZeroes | Command::Trim);
        changes && !self.ask.flags.contains(CommandFlags::FUA)
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.command {
            Command::Read => "read",
            Command::Write => "write",
            Command::Flush => return f.write_str("flush"),
            Command::Trim => "trim",
            Command::Cache => "cache",
            Command::WriteZeroes => "zero",
            Command::BlockStatus => "block status",
            Command::Disconnect | Command::Unknown(_) => "command",
        };
        write!(f, "{verb} of {} bytes at {}", self.length, self.offset)
    }
}
