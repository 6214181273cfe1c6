//! What the tasks of one client share: its stream, its volume, its replies, its limits.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use reactor::Buffer;
use reactor::driver::Moment;
use reactor::sync::WaitList;
use wire::nbd::handshake::{Agreed, NegotiatedContext};
use wire::nbd::transmission::{self, Errno, Limits, ReplyStyle, Request, put_done};

use crate::channel::Channel;
use crate::clients::Client;
use crate::fault::Fault;
use crate::outbox::{Claim, Outbox, Receipt};
use crate::serve_core::ServingCore;
use crate::snapshot::Operation;
use crate::volume::Volume;

/// Payload longer than the maximum is received and forgotten up to here, so that the client gets its error.
const DRAIN_BYTES_MAX: u64 = 64 << 20;
/// What each client may hold however many there are; beyond the arena it comes from the heap.
const GUARANTEED_BYTES: usize = 64 << 10;
/// Transfers are cut into pieces of this size, or of `GUARANTEED_BYTES` when buffers are short.
const PIECE_BYTES: usize = 256 << 10;

/// One client in transmission.
pub struct Connection {
    pub here: Rc<ServingCore>,
    pub client: Rc<Client>,
    pub channel: Channel,
    pub volume: Rc<Volume>,
    pub style: ReplyStyle,
    pub contexts: Vec<NegotiatedContext>,
    pub outbox: Rc<Outbox>,
    limits: Limits,
    held_bytes: Cell<usize>,
    /// Of those, what waits for buffers.
    waiting_bytes: Cell<usize>,
    settled: WaitList,
}

/// A request and when it came.
#[derive(Clone, Copy)]
pub struct Job {
    pub request: Request,
    pub operation: Operation,
    pub arrived: Moment,
}

impl Connection {
    pub fn new(
        here: Rc<ServingCore>,
        client: Rc<Client>,
        channel: Channel,
        volume: Rc<Volume>,
        agreed: Agreed,
    ) -> Rc<Connection> {
        let outbox = Rc::<Outbox>::default();
        client.serves(volume.settings().uuid, &outbox);
        volume.attach_client();
        Rc::new(Connection {
            limits: agreed.limits(DRAIN_BYTES_MAX),
            style: agreed.style,
            contexts: agreed.contexts,
            here,
            client,
            channel,
            volume,
            outbox,
            held_bytes: Cell::new(0),
            waiting_bytes: Cell::new(0),
            settled: WaitList::default(),
        })
    }

    /// What `check` holds the client to: the size is the volume's of this moment.
    pub fn limits(&self) -> Limits {
        Limits { size_bytes: self.volume.size_bytes(), ..self.limits }
    }

    /// Counts a request in, when the client has room for it.
    pub async fn admit(&self, bytes: usize) {
        let requests_max = self.here.directory_nbd(|nbd| nbd.requests_max);
        while self.client.requests_inflight.get() >= requests_max {
            self.settled.wait().await;
        }
        self.hold(bytes).await;
        self.client.requests_inflight.set(self.client.requests_inflight.get() + 1);
    }

    /// Counts payload bytes in, when there is room for them.
    pub async fn hold(&self, bytes: usize) {
        while self.held_bytes.get() > 0 && self.held_bytes.get() + bytes > self.quota() {
            self.settled.wait().await;
        }
        self.count_in(bytes);
    }

    /// The same for the reply that owns the stream: it waits for what it has sent itself and for nothing else, because
    /// the others may hold all there is until it is done.
    pub async fn hold_next(&self, claim: &Claim<'_>, bytes: usize) {
        while self.held_bytes.get() + bytes > self.quota() && !claim.is_drained() {
            self.settled.wait().await;
        }
        self.count_in(bytes);
    }

    /// How long a piece of a transfer may be now.
    pub fn piece_bytes(&self) -> usize {
        let arena = self.here.core().arena();
        if arena.used_bytes() > arena.bytes() / 2 { GUARANTEED_BYTES } else { PIECE_BYTES }
    }

    /// A buffer for a piece that has been counted in.
    pub async fn buffer(&self, len: usize) -> Buffer {
        let arena = self.here.core().arena();
        loop {
            if let Some(buffer) = arena.try_take(len) {
                return buffer;
            }
            // What other pieces of this client wait for here moves nothing.
            let moving = self.held_bytes.get().saturating_sub(self.waiting_bytes.get());
            if moving <= GUARANTEED_BYTES.max(len) {
                return arena.spill(len);
            }
            self.waiting_bytes.set(self.waiting_bytes.get() + len);
            self.something_returned().await;
            self.waiting_bytes.set(self.waiting_bytes.get() - len);
        }
    }

    /// The same for the reply that owns the stream, which waits for nothing but what it has sent itself.
    pub async fn buffer_next(&self, claim: &Claim<'_>, len: usize) -> Buffer {
        let arena = self.here.core().arena();
        loop {
            match arena.try_take(len) {
                Some(buffer) => return buffer,
                None if claim.is_drained() => return arena.spill(len),
                None => self.settled.wait().await,
            }
        }
    }

    /// Answers anything but a successful READ or BLOCK_STATUS.
    pub fn done(&self, job: &Job, result: Result<(), Fault>, held_bytes: usize) {
        let result = result.map_err(|fault| self.errno(&fault));
        self.done_with(job, result, held_bytes);
    }

    /// The same with the wire's error.
    pub fn done_with(&self, job: &Job, result: Result<(), Errno>, held_bytes: usize) {
        let request = &job.request;
        self.outbox.push(self.receipt(job, result.is_ok(), held_bytes, true), |gather| {
            gather.head(|out| put_done(out, self.style, request.cookie, request.offset, result));
        });
    }

    /// An error's number; the rest of it goes into the log.
    pub fn errno(&self, fault: &Fault) -> Errno {
        if self.here.clients().may_log() {
            tracing::warn!(volume = self.volume.settings().name, "{fault}");
        }
        fault.nbd_errno()
    }

    pub fn receipt(&self, job: &Job, ok: bool, held_bytes: usize, ends_request: bool) -> Receipt {
        let bytes = if ends_request { job.request.length } else { 0 };
        Receipt { operation: job.operation, bytes, ok, arrived: job.arrived, held_bytes, ends_request }
    }

    /// Books what has been sent.
    pub fn settle(&self, receipt: &Receipt, sent_at: Moment) {
        self.release(receipt.held_bytes);
        if receipt.ends_request {
            self.client.requests_inflight.set(self.client.requests_inflight.get() - 1);
            self.client.requests.set(self.client.requests.get() + 1);
            self.volume.record(receipt.operation, receipt.bytes, receipt.ok, sent_at - receipt.arrived);
        }
        self.settled.wake_all();
    }

    /// Gives back held bytes that no reply carries.
    pub fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.held_bytes.set(self.held_bytes.get() - bytes);
            if self.held_bytes.get() == 0 {
                self.here.holder_went();
            }
            self.settled.wake_all();
        }
    }

    /// Waits until every request has been answered.
    pub async fn idle(&self) {
        while self.client.requests_inflight.get() > 0 {
            self.settled.wait().await;
        }
    }

    fn count_in(&self, bytes: usize) {
        if self.held_bytes.get() == 0 && bytes > 0 {
            self.here.holder_came();
        }
        self.held_bytes.set(self.held_bytes.get() + bytes);
    }

    /// Waits until a buffer, or a part of this client's budget, has come back.
    async fn something_returned(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.here.core().arena().returned().join(cx);
            self.settled.join(cx);
            Poll::Pending
        })
        .await;
    }

    /// A fair part of the arena, within what the configuration allows one client.
    fn quota(&self) -> usize {
        let fair = self.here.core().arena().bytes() * 3 / 4 / self.here.holders().max(1);
        fair.min(self.here.directory_nbd(|nbd| nbd.inflight_bytes_max)).max(GUARANTEED_BYTES)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.held_bytes.get() > 0 {
            self.here.holder_went();
        }
        self.volume.detach_client();
    }
}

/// Counts the command as.
pub fn operation_of(command: transmission::Command) -> Operation {
    use transmission::Command;
    match command {
        Command::Write => Operation::Write,
        Command::Flush => Operation::Flush,
        Command::Trim => Operation::Trim,
        Command::WriteZeroes => Operation::WriteZeroes,
        Command::Cache => Operation::Cache,
        Command::BlockStatus => Operation::BlockStatus,
        Command::Read | Command::Disconnect | Command::Unknown(_) => Operation::Read,
    }
}
