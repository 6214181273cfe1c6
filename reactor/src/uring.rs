//! The driver over io_uring: one ring for sockets and everything else, and beside it rings of large entries
//! for polled and NVMe I/O, made when first needed.
//!
//! The table of flights owns what the kernel may touch. An entry leaves it with its last completion,
//! and the rings are dropped before the table, the table before the arenas.

mod batch;
mod big_ring;
mod doorbell;
mod entry;
mod helpers;
mod immediate;
mod provided;
mod setup;

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use nix::time::{ClockId, clock_gettime};

use crate::buffer::Arena;
use crate::driver::{Counters, Driver, Harvest, Moment, Wait};
use crate::handle::{Handle, Keeper, Path};
use crate::op::{Completion, NvmeData, Op, Output, Token};

use batch::Batch;
use big_ring::BigRing;
pub use doorbell::Doorbell;
use helpers::Helpers;
use provided::Provided;
use setup::Setup;
pub use setup::{FEATURES, UringSettings};

/// `user_data` of the doorbell's read; tokens are 32 bits.
const DOORBELL: u64 = u64::MAX;

/// Operations on the machine itself.
pub struct UringDriver {
    ring: IoUring,
    polled: Option<BigRing>,
    passthrough: Option<BigRing>,
    flights: Vec<Option<Flight>>,
    in_flight: usize,
    provided: Option<Provided>,
    /// Made with the first file in memory.
    batch: Option<Batch>,
    /// The ring was passed over in favour of the batch; once at a time.
    ring_waits: bool,
    helpers: Helpers,
    doorbell: Doorbell,
    doorbell_value: Box<u64>,
    closing: bool,
    files: FileTable,
    arena: Rc<Arena>,
    receive_arena: Rc<Arena>,
    receive_buffer_bytes: usize,
    setup: Setup,
    counters: Counters,
    /// By the clock of `uptime`.
    started: Duration,
}

struct Flight {
    op: Op,
    /// Of a zero-copy send whose notification is still to come.
    sent: Option<i32>,
}

struct FileTable {
    free: Vec<u32>,
    returned: Rc<ReturnedSlots>,
}

/// Slots whose descriptors are closed; they can be used again once the ring knows.
#[derive(Default)]
struct ReturnedSlots(RefCell<Vec<u32>>);

impl Keeper for ReturnedSlots {
    fn shutdown(&self, fd: BorrowedFd<'_>, _: Option<u32>, how: Shutdown) {
        let how = match how {
            Shutdown::Read => socket::Shutdown::Read,
            Shutdown::Write => socket::Shutdown::Write,
            Shutdown::Both => socket::Shutdown::Both,
        };
        let _ = socket::shutdown(fd.as_raw_fd(), how);
    }

    fn returned(&self, slot: u32) {
        self.0.borrow_mut().push(slot);
    }
}

impl UringDriver {
    /// Makes the rings, on the thread that will use them, and the arena for payloads.
    pub fn new(settings: &UringSettings, doorbell: Doorbell) -> io::Result<(UringDriver, Rc<Arena>)> {
        let (ring, mut setup) = Setup::network_ring(settings)?;
        let arena = setup.register_arena(&ring, settings)?;
        let receive_arena = Arena::new(settings.receive_arena_bytes)?;
        let provided = setup.provided(&ring, settings)?;
        let slots = setup.register_files(&ring, settings);
        let files = FileTable { free: (0..slots).rev().collect(), returned: Rc::default() };
        let mut driver = UringDriver {
            ring,
            polled: None,
            passthrough: None,
            flights: Vec::new(),
            in_flight: 0,
            provided,
            batch: None,
            ring_waits: false,
            helpers: Helpers::new(doorbell.clone()),
            doorbell,
            doorbell_value: Box::new(0),
            closing: false,
            files,
            arena: arena.clone(),
            receive_arena,
            receive_buffer_bytes: settings.receive_buffer_bytes,
            setup,
            counters: Counters::default(),
            started: uptime(),
        };
        driver.arm_doorbell();
        Ok((driver, arena))
    }

    fn arm_doorbell(&mut self) {
        let entry = entry::doorbell(self.doorbell.as_raw_fd(), &mut self.doorbell_value).user_data(DOORBELL);
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to is owned by the flight, or by `self` for the doorbell, until its completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter(0, None);
        }
    }

    fn enter(&mut self, want: usize, until: Option<Moment>) {
        self.counters.system_calls += 1;
        let queued = self.ring.submission().len() as u32;
        let timeout = until.map(|until| Timespec::from(until - self.now()));
        let submitter = self.ring.submitter();
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        const GETEVENTS: u32 = 1;
        let result = match want {
            0 => {
                // SAFETY: no argument is passed; entries own what they point to (`push`).
                unsafe { submitter.enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }
            }
            _ => submitter.submit_with_args(want, &args),
        };
        match result {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(error) => panic!("io_uring_enter refuses what it accepted before: {error}"),
        }
    }

    fn take_off(&mut self, token: Token, op: Op) -> &mut Flight {
        let index = token.0 as usize;
        if self.flights.len() <= index {
            self.flights.resize_with(index + 1, || None);
        }
        assert!(self.flights[index].is_none(), "a token names one operation at a time");
        self.in_flight += 1;
        self.flights[index].insert(Flight { op, sent: None })
    }

    fn launch(&mut self, token: Token, op: Op) {
        let buffer_ring = self.provided.is_some();
        match &mut self.take_off(token, op).op {
            // Without data there is no bio to poll: such a command ends by interrupt on either ring, and on the polled
            // one Linux 6.1 takes the pointer to its completion function for that bio, and dies.
            Op::Nvme { data: NvmeData::None, .. } => self.launch_big(token, false),
            Op::Nvme { file, .. } => {
                let polled = file.path() == Path::Polled;
                self.launch_big(token, polled);
            }
            Op::Read { file, .. } | Op::Write { file, .. } if file.path() == Path::Polled => {
                self.launch_big(token, true)
            }
            Op::Blocking(call) => {
                let call = call.take().expect("a call is run once");
                self.helpers.run(token, call);
            }
            op => {
                let entry = entry::of(op, buffer_ring).user_data(token.0.into());
                self.push(entry);
            }
        }
    }

    fn start_immediate(&mut self, token: Token, op: Op) -> Option<Completion> {
        let batch = self.batch.get_or_insert_with(Batch::new);
        if !batch::takes(&op) || !batch.is_offered() {
            self.counters.system_calls += 1;
            return Some(immediate::perform(op));
        }
        batch.push(token);
        self.take_off(token, op);
        None
    }

    /// Carries out what waits in the batch. `false`: nothing did.
    fn run_batch(&mut self, out: &mut Vec<(Token, Completion)>) -> bool {
        let Some(batch) = &mut self.batch else { return false };
        let tokens = batch.take();
        let mut done = Vec::new();
        if tokens.len() > 1 {
            // Two mutable looks into the table at once: the flights are taken out and put back.
            let mut flights: Vec<(Token, Flight)> = tokens
                .iter()
                .map(|&token| (token, self.flights[token.0 as usize].take().expect("waits in the batch")))
                .collect();
            let mut operations: Vec<_> =
                flights.iter_mut().map(|(token, flight)| (*token, &mut flight.op)).collect();
            self.counters.system_calls += 2;
            done = batch.submit(&mut operations).unwrap_or_default();
            for (token, flight) in flights {
                self.flights[token.0 as usize] = Some(flight);
            }
        }
        for (token, value) in done {
            out.push((token, self.take_flight(token, value, 0)));
        }
        for &token in &tokens {
            if let Some(flight) = self.flights[token.0 as usize].take() {
                self.counters.system_calls += 1;
                self.in_flight -= 1;
                out.push((token, immediate::perform(flight.op)));
            }
        }
        !tokens.is_empty()
    }

    fn launch_big(&mut self, token: Token, polled: bool) {
        let slot = if polled { &mut self.polled } else { &mut self.passthrough };
        if slot.is_none() {
            match BigRing::new(polled, &self.arena, &self.doorbell, &self.setup) {
                Ok(ring) => *slot = Some(ring),
                // A namespace can do without polling; a file goes by the ordinary ring when it hears of it.
                Err(_) if polled && self.is_nvme(token) => return self.launch_big(token, false),
                Err(error) => return self.helpers.fail(token, error),
            }
        }
        let ring = slot.as_mut().expect("made above");
        let flight = self.flights[token.0 as usize].as_mut().expect("launched above");
        ring.push(&mut flight.op, token, &mut self.counters);
    }

    fn is_nvme(&self, token: Token) -> bool {
        matches!(&self.flights[token.0 as usize], Some(Flight { op: Op::Nvme { .. }, .. }))
    }

    /// Without a buffer ring, a receive holds a buffer while it waits.
    fn with_own_buffer(&self, op: Op) -> Result<Op, Completion> {
        match op {
            Op::Receive { socket, len_max } if self.provided.is_none() => {
                let len = match len_max {
                    0 => self.receive_buffer_bytes,
                    max => self.receive_buffer_bytes.min(max as usize),
                };
                match self.receive_arena.try_take(len) {
                    Some(buffer) => Ok(Op::ReceiveInto { socket, buffer, start: 0, wait_all: false }),
                    None => Err(Completion::of_count(Op::Receive { socket, len_max }, -libc::ENOBUFS)),
                }
            }
            op => Ok(op),
        }
    }

    fn land(&mut self, token: Token, value: i32, flags: u32) -> Option<Completion> {
        let slot = &mut self.flights[token.0 as usize];
        let flight = slot.as_mut().expect("the kernel completes what was started");
        if cqueue::notif(flags) {
            let sent = flight.sent.expect("a notification follows its send");
            return Some(self.take_flight(token, sent, 0));
        }
        if cqueue::more(flags) {
            flight.sent = Some(value);
            return None;
        }
        Some(self.take_flight(token, value, flags))
    }

    fn take_flight(&mut self, token: Token, value: i32, flags: u32) -> Completion {
        let flight = self.flights[token.0 as usize].take().expect("looked at by the caller");
        self.in_flight -= 1;
        match flight.op {
            Op::Accept { .. } if value >= 0 => {
                Completion { result: Ok(Output::Descriptor(entry::descriptor(value))), op: flight.op }
            }
            Op::Receive { .. } => self.received(flight.op, value, flags),
            op => Completion::of_count(op, value),
        }
    }

    fn received(&mut self, op: Op, value: i32, flags: u32) -> Completion {
        let provided = self.provided.as_mut().expect("receives choose buffers only with a buffer ring");
        let buffer = cqueue::buffer_select(flags).map(|id| provided.take(id));
        if value < 0 {
            return Completion::of_count(op, value);
        }
        // The end of the stream comes without a buffer.
        let mut buffer = buffer.unwrap_or_else(|| self.receive_arena.spill(0));
        buffer.resize(value as usize);
        Completion { result: Ok(Output::Buffer(buffer)), op }
    }

    fn reap(&mut self, out: &mut Vec<(Token, Completion)>) -> Harvest {
        let mut harvest = Harvest::default();
        loop {
            let next = self.ring.completion().next();
            let Some(entry) = next else { break };
            if entry.user_data() == DOORBELL {
                harvest.rung = true;
                self.doorbell.heard();
                if !self.closing {
                    self.arm_doorbell();
                }
                continue;
            }
            if entry.user_data() > u64::from(u32::MAX) {
                continue;
            }
            let token = Token(entry.user_data() as u32);
            if let Some(completion) = self.land(token, entry.result(), entry.flags()) {
                out.push((token, completion));
            }
        }
        harvest
    }

    fn reap_big(&mut self, out: &mut Vec<(Token, Completion)>) {
        let mut landed = Vec::new();
        for ring in [&mut self.polled, &mut self.passthrough].into_iter().flatten() {
            ring.reap(&mut landed, &mut self.counters);
        }
        for (token, value) in landed {
            let completion = self.take_flight(token, value, 0);
            out.push((token, completion));
        }
    }

    fn reap_helpers(&mut self, out: &mut Vec<(Token, Completion)>) {
        for (token, result) in self.helpers.finished() {
            let flight = self.flights[token.0 as usize].take().expect("helpers finish what was started");
            self.in_flight -= 1;
            out.push((token, Completion { result: result.map(Output::Count), op: flight.op }));
        }
    }

    fn recycle_file_slots(&mut self) {
        if self.files.returned.0.borrow().is_empty() {
            return;
        }
        for slot in self.files.returned.0.take() {
            let _ = self.ring.submitter().register_files_update(slot, &[-1]);
            if let Some(polled) = &self.polled {
                polled.forget_file(slot);
            }
            self.counters.system_calls += 1;
            self.files.free.push(slot);
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // The kernel takes a ring apart after the process has gone on: files, sockets and memory are to be free now.
        let _ = self.ring.submitter().unregister_files();
        let _ = self.ring.submitter().unregister_buffers();
        // The doorbell is always being read; and what else the kernel was not made to let go of stays its own.
        std::mem::forget(std::mem::take(&mut self.doorbell_value));
        if self.in_flight > 0 {
            std::mem::forget(std::mem::take(&mut self.flights));
            std::mem::forget(self.provided.take());
        }
    }
}

impl Driver for UringDriver {
    fn start(&mut self, token: Token, op: Op) -> Option<Completion> {
        self.counters.operations += 1;
        match self.with_own_buffer(op) {
            Ok(op) if immediate::applies(&op) => self.start_immediate(token, op),
            Ok(mut op) => {
                if let Op::Send { zero_copy, .. } = &mut op {
                    *zero_copy &= self.setup.has_zero_copy_send();
                }
                self.launch(token, op);
                None
            }
            Err(completion) => Some(completion),
        }
    }

    fn harvest(&mut self, wait: Wait, out: &mut Vec<(Token, Completion)>) -> Harvest {
        self.recycle_file_slots();
        if let Some(provided) = &mut self.provided {
            provided.replenish(&self.receive_arena);
        }
        if let Some(polled) = &mut self.polled {
            polled.submit(&mut self.counters);
        }
        if let Some(passthrough) = &mut self.passthrough {
            passthrough.submit(&mut self.counters);
        }
        let batched = self.run_batch(out);
        if batched && !std::mem::replace(&mut self.ring_waits, true) {
            // What the batch makes ready has its own entries; the ring takes all of them in the next turn.
            return Harvest::default();
        }
        self.ring_waits = false;
        let polled_in_flight = self.polled.as_ref().is_some_and(|ring| ring.in_flight() > 0);
        let may_sleep = !batched && !polled_in_flight && !self.helpers.has_failed();
        match wait {
            Wait::Until(at) if may_sleep => {
                self.counters.sleeps += 1;
                self.enter(1, Some(at));
            }
            Wait::Forever if may_sleep => {
                self.counters.sleeps += 1;
                self.enter(1, None);
            }
            _ => {
                let submission = self.ring.submission();
                let must_enter = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
                drop(submission);
                match must_enter {
                    true => self.enter(0, None),
                    false => self.counters.polls += 1,
                }
            }
        }
        let harvest = self.reap(out);
        self.reap_big(out);
        if harvest.rung || self.helpers.has_failed() {
            self.reap_helpers(out);
        }
        harvest
    }

    fn now(&self) -> Moment {
        Moment(uptime().saturating_sub(self.started).as_nanos() as u64)
    }

    fn adopt(&mut self, fd: OwnedFd, path: Path) -> Handle {
        let slot = self.files.free.pop().filter(|&slot| {
            self.counters.system_calls += 1;
            self.ring.submitter().register_files_update(slot, &[fd.as_raw_fd()]).is_ok()
        });
        Handle::new(fd, path, slot, self.files.returned.clone())
    }

    fn socket(&mut self, address: SocketAddr) -> io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        Ok(socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
    }

    fn peer(&self, of: BorrowedFd<'_>) -> Option<SocketAddr> {
        let address: SockaddrStorage = socket::getpeername(of.as_raw_fd()).ok()?;
        let of_four = || address.as_sockaddr_in().map(|four| SocketAddr::V4((*four).into()));
        of_four().or_else(|| address.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into())))
    }

    fn random(&mut self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::other)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn cancel_all(&mut self) {
        self.closing = true;
        let any = io_uring::types::CancelBuilder::any();
        let _ = self.ring.submitter().register_sync_cancel(Some(Timespec::new()), any);
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn features(&self) -> Vec<String> {
        self.setup.features(self.polled.is_some(), self.passthrough.is_some())
    }
}

/// Since the boot, also while the machine is suspended: others' clocks run on meanwhile, and a lease must not outlast it.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel with io_uring has this clock").into()
}
