//! A ring of large entries: polled disk I/O (`IORING_SETUP_IOPOLL`), or NVMe commands that complete by interrupt.
//!
//! A polled ring is looked at in every turn while it has I/O in flight, and the core does not sleep. The other
//! one rings the core's doorbell.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, types};

use crate::buffer::Arena;
use crate::driver::Counters;
use crate::op::{Op, Token};
use crate::uring::setup::Setup;
use crate::uring::{Doorbell, entry};

pub(super) struct BigRing {
    ring: IoUring<Entry128, cqueue::Entry32>,
    polled: bool,
    /// Whether NVMe commands may use registered buffers.
    registered_commands: bool,
    in_flight: usize,
}

impl BigRing {
    pub(super) fn new(
        polled: bool,
        arena: &Arena,
        doorbell: &Doorbell,
        setup: &Setup,
    ) -> io::Result<BigRing> {
        let ring = setup.big_ring(polled)?;
        setup.register_same_arena(&ring, arena)?;
        if !polled {
            ring.submitter().register_eventfd(doorbell.as_raw_fd())?;
        }
        Ok(BigRing { ring, polled, registered_commands: setup.has_registered_commands(), in_flight: 0 })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn push(&mut self, op: &mut Op, token: Token, counters: &mut Counters) {
        let entry = entry_of(op, self.registered_commands).user_data(token.0.into());
        // SAFETY: what the entry points to is owned by the driver's flight until its completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit(counters);
        }
        self.in_flight += 1;
    }

    pub(super) fn submit(&mut self, counters: &mut Counters) {
        if !self.ring.submission().is_empty() {
            self.enter(counters);
        }
    }

    /// Appends what has completed: a count, a status, or a negative error number.
    pub(super) fn reap(&mut self, landed: &mut Vec<(Token, i32)>, counters: &mut Counters) {
        if self.in_flight == 0 {
            return;
        }
        if self.polled || self.ring.submission().taskrun() {
            self.enter(counters);
        }
        for entry in self.ring.completion() {
            self.in_flight -= 1;
            landed.push((Token(entry.user_data() as u32), entry.result()));
        }
    }

    pub(super) fn forget_file(&self, slot: u32) {
        let _ = self.ring.submitter().register_files_update(slot, &[-1]);
    }

    fn enter(&mut self, counters: &mut Counters) {
        counters.system_calls += 1;
        let queued = self.ring.submission().len() as u32;
        const GETEVENTS: u32 = 1;
        // SAFETY: no argument is passed; entries own what they point to (`push`).
        let result = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) };
        if let Err(error) = result {
            let passing = matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN));
            assert!(passing, "io_uring_enter refuses what it accepted before: {error}");
        }
    }
}

fn entry_of(op: &mut Op, registered_commands: bool) -> Entry128 {
    let plain = |fd: i32| (types::Fd(fd), io_uring::squeue::Flags::empty());
    match op {
        Op::Read { file, buffer, start, len, offset } => {
            entry::read(plain(file.as_raw_fd()), buffer, *start, *len, *offset).into()
        }
        Op::Write { file, data, offset, durable } => {
            entry::write(plain(file.as_raw_fd()), data, *offset, *durable).into()
        }
        Op::Nvme { file, command, data } => entry::nvme(file, command, data, registered_commands),
        other => unreachable!("{other:?} is not for a disk ring"),
    }
}
