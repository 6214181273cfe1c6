//! What the tasks of one client share: its stream, its volume, its replies, its limits.

use std::cell::Cell;
use std::rc::Rc;

use reactor::driver::Moment;
use wire::nbd::handshake::{Agreed, NegotiatedContext};
use wire::nbd::transmission::{self, Errno, Limits, ReplyStyle, Request, put_done};

use crate::budget::Budget;
use crate::channel::Channel;
use crate::clients::{Client, DropReason};
use crate::fault::{Fault, Kind};
use crate::outbox::{Outbox, Receipt};
use crate::sabotage::Sabotage;
use crate::serve_core::ServingCore;
use crate::snapshot::Operation;
use crate::volume::Volume;

/// Payload longer than the maximum is received and forgotten up to here, so that the client gets its error.
const DRAIN_BYTES_MAX: u64 = 64 << 20;
/// One client in transmission.
pub struct Connection {
    pub here: Rc<ServingCore>,
    pub client: Rc<Client>,
    pub channel: Channel,
    pub volume: Rc<Volume>,
    pub style: ReplyStyle,
    pub contexts: Vec<NegotiatedContext>,
    pub outbox: Rc<Outbox>,
    pub budget: Budget,
    limits: Limits,
    /// In which its writes have been acknowledged, of a mirrored volume; 0 for none yet.
    era: Cell<u64>,
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
        client.serves(vec![volume.settings().uuid], &outbox);
        volume.attach_client();
        Rc::new(Connection {
            limits: agreed.limits(DRAIN_BYTES_MAX),
            era: Cell::new(volume.era()),
            style: agreed.style,
            contexts: agreed.contexts,
            budget: Budget::new(here.clone(), client.clone(), |here| {
                here.directory_nbd(|nbd| nbd.inflight_bytes_max)
            }),
            here,
            client,
            channel,
            volume,
            outbox,
        })
    }

    /// What `check` holds the client to: the size is the volume's of this moment.
    pub fn limits(&self) -> Limits {
        Limits { size_bytes: self.volume.size_bytes(), ..self.limits }
    }

    /// Counts a request in, when the client has room for it.
    pub async fn admit(&self, bytes: usize) {
        self.budget.admit(bytes, || self.here.directory_nbd(|nbd| nbd.requests_max)).await;
    }

    /// Whether what the client has sent may still be carried out: not if it has been given up, or will be as soon as
    /// this core notices that it stood still.
    pub fn may_go_on(&self) -> Result<(), Fault> {
        let is_late = || self.here.heartbeat().is_late(self.here.core().turn_started());
        if self.volume.mirror().is_some() && (self.client.reason().is_some() || is_late()) {
            self.client.disconnect(DropReason::StoodStill);
            return Err(Fault::new(Kind::Disconnected, "the client had been given up"));
        }
        Ok(())
    }

    /// Fails when writes that this client has the acknowledgement of may be lost: no flush may say otherwise. It
    /// learns that when it connects anew.
    pub fn same_era(&self) -> Result<(), Fault> {
        let (before, now) = (self.era.get(), self.volume.era());
        self.era.set(now);
        if before == 0 || before == now {
            return Ok(());
        }
        let name = &self.volume.settings().name;
        let context = format!("volume {name}: writes that were acknowledged and not flushed may be lost");
        Err(Fault::new(Kind::Indeterminate, context))
    }

    /// Answers anything but a successful READ or BLOCK_STATUS.
    ///
    /// A request whose outcome nobody knows gets no answer: the client sends it again over its next connection, as
    /// it would had this whole node been lost, where an error would make a file system give up.
    pub fn done(&self, job: &Job, result: Result<(), Fault>, held_bytes: usize) {
        if result.as_ref().is_err_and(|fault| fault.kind() == Kind::Indeterminate) {
            self.client.disconnect(DropReason::LeaderLost);
        }
        if self.era.get() == 0 {
            self.era.set(self.volume.era());
        }
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
        Receipt {
            operation: job.operation,
            bytes,
            ok,
            arrived: job.arrived,
            held_bytes,
            ends_request,
            unit: None,
        }
    }

    /// Books what has been sent.
    pub fn settle(&self, receipt: &Receipt, sent_at: Moment) {
        self.budget.release(receipt.held_bytes);
        if receipt.ends_request {
            if Sabotage::KeepPlace.is_on() {
                return;
            }
            self.budget.answered();
            self.volume.record(receipt.operation, receipt.bytes, receipt.ok, sent_at - receipt.arrived);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
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
