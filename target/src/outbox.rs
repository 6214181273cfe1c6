//! Replies on their way out: what is ready leaves in one send.
//!
//! One reply may claim the stream for itself while its data comes in pieces; the others wait behind it.

use std::cell::{Cell, RefCell};

use reactor::driver::Moment;
use reactor::sync::WaitList;
use reactor::{Core, Gather};

use crate::channel::Channel;
use crate::snapshot::Operation;

/// Of what answers no command, a peer may leave so much untaken before no more of its requests are heard.
const LOOSE_BYTES_MAX: usize = 1 << 20;

/// What to book when a reply has been handed to the socket.
pub struct Receipt {
    /// The command.
    pub operation: Operation,
    /// Payload or range bytes.
    pub bytes: u64,
    /// Answered without an error.
    pub ok: bool,
    /// When the request came.
    pub arrived: Moment,
    /// Of the client's budget, to give back.
    pub held_bytes: usize,
    /// The request is answered; more pieces follow otherwise.
    pub ends_request: bool,
    /// The LUN whose volume counts it; `None` where it has been counted, or belongs to none.
    pub unit: Option<u16>,
}

impl Receipt {
    /// Of what answers no request.
    pub fn none() -> Receipt {
        Receipt {
            operation: Operation::Read,
            bytes: 0,
            ok: true,
            arrived: Moment(0),
            held_bytes: 0,
            ends_request: false,
            unit: None,
        }
    }
}

/// The replies of one client.
#[derive(Default)]
pub struct Outbox {
    next: RefCell<Batch>,
    behind: RefCell<Batch>,
    claimed: Cell<bool>,
    closed: Cell<bool>,
    changed: WaitList,
    /// Of what answers no command, until it has been sent.
    loose_bytes: Cell<usize>,
    loosened: WaitList,
    sending_since: Cell<Option<Moment>>,
}

#[derive(Default)]
struct Batch {
    gather: Box<Gather>,
    receipts: Vec<Receipt>,
    loose_bytes: usize,
}

/// The stream, for one reply alone.
pub struct Claim<'a>(&'a Outbox);

impl Outbox {
    /// Adds a reply, or a chunk of one that may stand between others.
    pub fn push(&self, receipt: Receipt, write: impl FnOnce(&mut Gather)) {
        let batch = if self.claimed.get() { &self.behind } else { &self.next };
        batch.borrow_mut().add(receipt, write);
        self.changed.wake_all();
    }

    /// Adds what no limit of requests bounds; `room` does.
    pub fn push_loose(&self, bytes: usize, write: impl FnOnce(&mut Gather)) {
        self.loose_bytes.set(self.loose_bytes.get() + bytes);
        let batch = if self.claimed.get() { &self.behind } else { &self.next };
        batch.borrow_mut().loose_bytes += bytes;
        self.push(Receipt::none(), write);
    }

    /// Waits until the peer has taken enough of what was pushed by `push_loose`.
    pub async fn room(&self) {
        while self.loose_bytes.get() > LOOSE_BYTES_MAX {
            self.loosened.wait().await;
        }
    }

    /// Claims the stream, after what is in it already.
    pub async fn claim(&self) -> Claim<'_> {
        while self.claimed.get() {
            self.changed.wait().await;
        }
        self.claimed.set(true);
        Claim(self)
    }

    /// No more replies will come.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.wake_all();
    }

    /// Since when the peer has taken nothing of the send in progress, if there is one.
    pub fn sending_since(&self) -> Option<Moment> {
        self.sending_since.get()
    }

    /// Sends until closed and empty. `settle` books what has been sent, or lost with the connection: then `broken`
    /// is called, once, and later replies are dropped.
    pub async fn drain(
        &self,
        core: &Core,
        channel: &Channel,
        settle: impl Fn(&Receipt, Moment),
        broken: impl Fn(),
    ) {
        let mut spare = Batch::default();
        let mut alive = true;
        loop {
            while self.next.borrow().gather.len() == 0 {
                if self.closed.get() {
                    return;
                }
                self.changed.wait().await;
            }
            let Batch { mut gather, mut receipts, loose_bytes } = self.next.replace(spare);
            let sent_at = core.now();
            if alive {
                self.sending_since.set(Some(sent_at));
                let result;
                let progress = || self.sending_since.set(Some(core.now()));
                (result, gather) = channel.send(gather, progress).await;
                self.sending_since.set(None);
                alive = result.is_ok();
                if !alive {
                    broken();
                }
            }
            gather.clear();
            for receipt in receipts.drain(..) {
                settle(&receipt, sent_at);
            }
            if loose_bytes > 0 {
                self.loose_bytes.set(self.loose_bytes.get() - loose_bytes);
                self.loosened.wake_all();
            }
            spare = Batch { gather, receipts, loose_bytes: 0 };
        }
    }
}

impl Claim<'_> {
    /// Whether the socket has all that was pushed.
    pub fn is_drained(&self) -> bool {
        self.0.sending_since.get().is_none() && self.0.next.borrow().gather.len() == 0
    }

    /// Adds the next piece of the reply that owns the stream.
    pub fn push(&self, receipt: Receipt, write: impl FnOnce(&mut Gather)) {
        self.0.next.borrow_mut().add(receipt, write);
        self.0.changed.wake_all();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.claimed.set(false);
        let behind = &mut *self.0.behind.borrow_mut();
        let next = &mut *self.0.next.borrow_mut();
        next.gather.append(&mut behind.gather);
        next.receipts.append(&mut behind.receipts);
        next.loose_bytes += std::mem::take(&mut behind.loose_bytes);
        self.0.changed.wake_all();
    }
}

impl Batch {
    fn add(&mut self, receipt: Receipt, write: impl FnOnce(&mut Gather)) {
        write(&mut self.gather);
        self.receipts.push(receipt);
    }
}
