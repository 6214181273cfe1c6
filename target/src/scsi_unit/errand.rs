//! A command on its way through the medium: whether it was aborted, and the ranges it may still write to then.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use reactor::sync::WaitList;
use wire::scsi::NexusId;

use crate::range_lock::{RangeGuard, RangeLock};

/// One command.
pub struct Errand {
    nexus: NexusId,
    aborted: Cell<bool>,
    ended: Cell<bool>,
    writes: RefCell<Vec<Range<u64>>>,
    fences: Rc<RangeLock>,
    held: RefCell<Vec<RangeGuard>>,
    /// Woken by its abort.
    changed: WaitList,
}

impl Errand {
    pub(super) fn new(nexus: NexusId, fences: &Rc<RangeLock>) -> Rc<Errand> {
        Rc::new(Errand {
            nexus,
            aborted: Cell::new(false),
            ended: Cell::new(false),
            writes: RefCell::default(),
            fences: fences.clone(),
            held: RefCell::default(),
            changed: WaitList::default(),
        })
    }

    /// Whose it is.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }

    /// Nobody waits for it any more: it goes no step further, and what it is writing is fenced until that is over.
    pub fn abort(&self) {
        if self.aborted.replace(true) || self.ended.get() {
            return;
        }
        let ranges = self.writes.take();
        self.held.replace(ranges.into_iter().map(|range| self.fences.hold(range)).collect());
        self.changed.wake_all();
    }

    /// Whether nobody waits for it any more.
    pub fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// From now on it writes to `offset..offset + len` bytes, too.
    pub fn writes_to(&self, offset: u64, len: u64) {
        let range = offset..offset + len;
        match self.aborted.get() {
            true => self.held.borrow_mut().push(self.fences.hold(range)),
            false => self.writes.borrow_mut().push(range),
        }
    }

    /// Waits until no aborted command may still write to `offset..offset + len` bytes, or until this one is aborted
    /// itself; whether it may go on.
    pub async fn passage(&self, offset: u64, len: u64) -> bool {
        self.unless_aborted(self.fences.passed(offset..offset + len)).await.is_some()
    }

    /// `future`, or `None` once the command is aborted.
    pub(super) async fn unless_aborted<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.aborted.get() {
                return Poll::Ready(None);
            }
            self.changed.join(cx);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// `future`, whatever it takes; calls `expire` once should the command be aborted meanwhile.
    pub(super) async fn watch<T>(&self, future: impl Future<Output = T>, expire: impl FnOnce()) -> T {
        let mut future = pin!(future);
        let mut expire = Some(expire);
        poll_fn(|cx| {
            match self.aborted.get() {
                true => expire.take().into_iter().for_each(|expire| expire()),
                false => self.changed.join(cx),
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Its I/O is over.
    pub fn end(&self) {
        self.ended.set(true);
        self.writes.borrow_mut().clear();
        self.held.borrow_mut().clear();
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.end();
    }
}
