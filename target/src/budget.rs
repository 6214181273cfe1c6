//! How much one client may have in flight: requests, payload bytes, and the buffers for them.
//!
//! Its one rule: who waits here waits for something that moves by itself. What is stuck until the client sends
//! more, or waits here too, is not waited for.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use reactor::Buffer;
use reactor::driver::Moment;
use reactor::executor::Sleep;
use reactor::sync::WaitList;

use crate::clients::Client;
use crate::outbox::Claim;
use crate::serve_core::ServingCore;

/// What each client may hold however many there are; beyond the arena it comes from the heap.
pub const GUARANTEED_BYTES: usize = 64 << 10;
/// Transfers are cut into pieces of this size, or of `GUARANTEED_BYTES` when buffers are short.
const PIECE_BYTES: usize = 256 << 10;
/// How long the stream waits for something to move.
const PATIENCE: Duration = Duration::from_millis(100);

/// One client's part of its core.
pub struct Budget {
    here: Rc<ServingCore>,
    client: Rc<Client>,
    bytes_max: fn(&ServingCore) -> usize,
    held_bytes: Cell<usize>,
    /// Of those, what waits for buffers, for the client to send it, or for its command to take it.
    waiting_bytes: Cell<usize>,
    settled: WaitList,
    /// When held bytes last came back, or began to be held.
    moved: Cell<Moment>,
}

impl Budget {
    /// Nothing held yet; `bytes_max` looks up what the configuration allows one client now.
    pub fn new(here: Rc<ServingCore>, client: Rc<Client>, bytes_max: fn(&ServingCore) -> usize) -> Budget {
        Budget {
            here,
            client,
            bytes_max,
            held_bytes: Cell::new(0),
            waiting_bytes: Cell::new(0),
            settled: WaitList::default(),
            moved: Cell::new(Moment(0)),
        }
    }

    /// Counts a request in, when the client has room for it among `requests_max`.
    pub async fn admit(&self, bytes: usize, requests_max: impl Fn() -> usize) {
        while self.client.requests_inflight.get() >= requests_max() {
            self.settled.wait().await;
        }
        self.hold(bytes).await;
        self.begin();
    }

    /// Counts a request in at once.
    pub fn begin(&self) {
        self.client.requests_inflight.set(self.client.requests_inflight.get() + 1);
    }

    /// Counts a request out that has been answered.
    pub fn answered(&self) {
        self.client.requests.set(self.client.requests.get() + 1);
        self.ended();
    }

    /// Counts a request out that nobody waits for.
    pub fn ended(&self) {
        self.client.requests_inflight.set(self.client.requests_inflight.get() - 1);
        self.settled.wake_all();
    }

    /// Counts payload bytes in, when there is room for them.
    pub async fn hold(&self, bytes: usize) {
        while self.held_bytes.get() > 0 && self.held_bytes.get() + bytes > self.quota() {
            self.settled.wait().await;
        }
        self.hold_now(bytes);
    }

    /// Whether there is room for so many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.held_bytes.get() + bytes <= self.quota()
    }

    /// The same, without waiting for what is stuck itself.
    pub async fn hold_beside_stuck(&self, bytes: usize) {
        while self.held_bytes.get() > self.waiting_bytes.get() && self.held_bytes.get() + bytes > self.quota()
        {
            self.settled.wait().await;
        }
        self.hold_now(bytes);
    }

    /// The same for the stream, which brings other things, too: not for what moves no more, as on a disk that hangs.
    /// What is taken beyond the quota then, the protocol has to limit.
    pub async fn hold_while_moving(&self, bytes: usize) {
        while self.held_bytes.get() > self.waiting_bytes.get() && self.held_bytes.get() + bytes > self.quota()
        {
            let deadline = self.moved.get() + PATIENCE;
            if self.here.core().now() >= deadline {
                break;
            }
            self.settled_or(deadline).await;
        }
        self.hold_now(bytes);
    }

    /// The same for the reply that owns the stream: it waits for what it has sent itself and for nothing else, because
    /// the others may hold all there is until it is done.
    pub async fn hold_next(&self, claim: &Claim<'_>, bytes: usize) {
        while self.held_bytes.get() + bytes > self.quota() && !claim.is_drained() {
            self.settled.wait().await;
        }
        self.hold_now(bytes);
    }

    /// Says that held bytes wait for the client to send them.
    pub fn stuck(&self, bytes: usize) {
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        self.settled.wake_all();
    }

    /// They have come, or never will.
    pub fn unstuck(&self, bytes: usize) {
        self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
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
            // Nobody is woken for this: two that wait here would wake each other for ever.
            self.waiting_bytes.set(self.waiting_bytes.get() + len);
            self.something_returned().await;
            self.unstuck(len);
        }
    }

    /// A buffer for what has been counted in, at once.
    pub fn buffer_now(&self, len: usize) -> Buffer {
        self.here.core().arena().take_now(len)
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

    /// Gives back held bytes.
    pub fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.held_bytes.set(self.held_bytes.get() - bytes);
            self.moved.set(self.here.core().turn_started());
            if self.held_bytes.get() == 0 {
                self.here.holder_went();
            }
            self.settled.wake_all();
        }
    }

    /// Waits until every request has ended.
    pub async fn idle(&self) {
        while self.client.requests_inflight.get() > 0 {
            self.settled.wait().await;
        }
    }

    /// Counts payload bytes in, whatever there is.
    pub fn hold_now(&self, bytes: usize) {
        if self.held_bytes.get() == 0 && bytes > 0 {
            self.here.holder_came();
            self.moved.set(self.here.core().turn_started());
        }
        self.held_bytes.set(self.held_bytes.get() + bytes);
    }

    /// Waits until something of this client's has moved.
    pub async fn changed(&self) {
        self.settled.wait().await;
    }

    /// Says that something of this client's has moved.
    pub fn wake(&self) {
        self.settled.wake_all();
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

    /// Waits until something of this client's has moved, at most to `deadline`.
    async fn settled_or(&self, deadline: Moment) {
        let mut sleep = pin!(Sleep::until(deadline));
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.settled.join(cx);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// A fair part of the arena, within what the configuration allows one client.
    fn quota(&self) -> usize {
        let fair = self.here.core().arena().bytes() * 3 / 4 / self.here.holders().max(1);
        fair.min((self.bytes_max)(&self.here)).max(GUARANTEED_BYTES)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if self.held_bytes.get() > 0 {
            self.here.holder_went();
        }
    }
}

/// Payload bytes that have been counted in; dropping it counts them out.
pub struct Held {
    budget: Rc<Budget>,
    bytes: usize,
    stuck: bool,
}

impl Held {
    /// Takes over `bytes` that were counted in, and that wait for the client to send them.
    pub fn stuck(budget: &Rc<Budget>, bytes: usize) -> Held {
        budget.stuck(bytes);
        Held { budget: budget.clone(), bytes, stuck: true }
    }

    /// They wait for more of their kind.
    pub fn waits(&mut self) {
        if !std::mem::replace(&mut self.stuck, true) {
            self.budget.stuck(self.bytes);
        }
    }

    /// They have come, and will be used by something that ends by itself.
    pub fn moves(&mut self) {
        if std::mem::replace(&mut self.stuck, false) {
            self.budget.unstuck(self.bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.moves();
        self.budget.release(self.bytes);
    }
}
