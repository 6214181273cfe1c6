//! All requests of a client, wherever they are, and what the server still owes to the next flush.
//!
//! Its one rule: a slot lives until its answer is taken, or, if nobody waits, until it is done; and never while
//! the kernel has its buffer.

use std::task::{Context, Poll};

use slab::Slab;
use wire::nbd::transmission::{Command, Cookie};

use super::request::{Answer, Ask, Place, Slot};
use super::violation::Violation;
use crate::error::{Error, Kind};
use crate::runtime::Instant;

/// The requests.
#[derive(Default)]
pub(super) struct Table {
    slots: Slab<Slot>,
    /// Makes cookies differ from one sending to the next.
    serial: u32,
    /// Writes acknowledged, of which `durable` were flushed.
    acknowledged: u64,
    durable: u64,
    /// Some of them may be lost, which the next flush must say.
    doubt: bool,
}

impl Table {
    pub(super) fn insert(&mut self, ask: Ask, buffer: Vec<u8>) -> usize {
        self.slots.insert(Slot::new(ask, buffer, self.acknowledged))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|(_, slot)| slot.place == Place::Done)
    }

    pub(super) fn slot(&mut self, key: usize) -> &mut Slot {
        &mut self.slots[key]
    }

    /// Marks a queued request as sent by `link`. `None`: it needs not be sent any more.
    pub(super) fn begin(&mut self, key: usize, link: usize) -> Option<(Ask, Cookie)> {
        if self.slots[key].abandoned {
            self.slots.remove(key);
            return None;
        }
        let is_flush = self.slots[key].ask.command == Command::Flush;
        if is_flush && std::mem::take(&mut self.doubt) {
            self.durable = self.acknowledged;
            self.finish(key, Err(unflushed()));
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        let index = u32::try_from(key).expect("requests in flight are counted in thousands");
        let cookie = Cookie(u64::from(self.serial) << 32 | u64::from(index));
        let slot = &mut self.slots[key];
        slot.begin(link, cookie);
        Some((slot.ask, cookie))
    }

    /// The request that a reply on `link` is about.
    pub(super) fn sent(&mut self, link: usize, cookie: Cookie) -> Result<usize, Violation> {
        let index = cookie.0 & u64::from(u32::MAX);
        let key = usize::try_from(index).expect("32 bits are an index");
        match self.slots.get(key) {
            Some(slot) if slot.place == Place::Sent(link, cookie) => Ok(key),
            _ => Err(Violation::ForeignCookie(cookie.0)),
        }
    }

    /// Whose place `is` one of these.
    pub(super) fn keys(&self, is: impl Fn(Place) -> bool) -> Vec<usize> {
        self.slots.iter().filter(|(_, slot)| is(slot.place)).map(|(key, _)| key).collect()
    }

    /// The end of the server's reply.
    pub(super) fn conclude(&mut self, key: usize) -> Result<(), Violation> {
        let outcome = self.slots[key].conclude()?;
        if outcome.is_ok() {
            let slot = &self.slots[key];
            if slot.leaves_unflushed() {
                self.acknowledged += 1;
            } else if slot.ask.command == Command::Flush {
                self.durable = self.durable.max(slot.covers);
            }
        }
        self.finish(key, outcome);
        Ok(())
    }

    /// The end of a request.
    pub(super) fn finish(&mut self, key: usize, outcome: Result<(), Error>) {
        let slot = &mut self.slots[key];
        slot.place = Place::Done;
        slot.outcome = Some(outcome);
        self.settle(key);
    }

    /// What was acknowledged and not flushed may be lost.
    pub(super) fn doubt_unflushed(&mut self) {
        self.doubt |= self.acknowledged > self.durable;
    }

    /// Gives the buffer out for a transfer.
    pub(super) fn lend(&mut self, key: usize) -> Vec<u8> {
        let slot = &mut self.slots[key];
        assert!(!slot.lent, "one transfer at a time has the buffer");
        slot.lent = true;
        std::mem::take(&mut slot.buffer)
    }

    /// Takes it back.
    pub(super) fn give_back(&mut self, key: usize, buffer: Vec<u8>) {
        let slot = &mut self.slots[key];
        (slot.buffer, slot.lent) = (buffer, false);
        if slot.place == Place::Done {
            self.settle(key);
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn abandon(&mut self, key: usize) {
        let slot = &mut self.slots[key];
        slot.abandoned = true;
        slot.waker = None;
        match slot.place {
            Place::Done => self.settle(key),
            Place::Nowhere => drop(self.slots.remove(key)),
            Place::Queued(_) | Place::Sent(..) => {}
        }
    }

    pub(super) fn poll(&mut self, key: usize, context: &mut Context<'_>) -> Poll<Answer> {
        let slot = &mut self.slots[key];
        if slot.place == Place::Done && !slot.lent {
            return Poll::Ready(self.slots.remove(key).into_answer());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => slot.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Those without a connection for longer than they may be.
    pub(super) fn overdue(&self, now: Instant) -> Vec<usize> {
        let overdue =
            |slot: &Slot| slot.place == Place::Nowhere && slot.give_up_at.is_some_and(|at| at <= now);
        self.slots.iter().filter(|(_, slot)| overdue(slot)).map(|(key, _)| key).collect()
    }

    fn settle(&mut self, key: usize) {
        let slot = &mut self.slots[key];
        if slot.lent {
            return;
        }
        if slot.abandoned {
            self.slots.remove(key);
        } else if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

fn unflushed() -> Error {
    let what =
        "writes that were acknowledged may be lost: the connection, or the server, ended before their flush";
    Error::new(Kind::Unflushed, what).remedy("write again what was written since the last flush, and flush")
}
