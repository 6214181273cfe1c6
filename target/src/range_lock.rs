//! Keeps a read-modify-write of a block from any other write to it.
//!
//! Plain writes may overlap one another, as on any disk; an exclusive range overlaps nothing. Core-local.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use reactor::sync::WaitList;
use slab::Slab;

/// The writes in flight of one volume.
#[derive(Default)]
pub struct RangeLock {
    held: RefCell<Slab<Held>>,
    exclusive: RefCell<usize>,
    waiting: WaitList,
}

struct Held {
    range: Range<u64>,
    exclusive: bool,
}

/// A range in use; dropping it ends the use.
pub struct RangeGuard {
    lock: Rc<RangeLock>,
    key: usize,
}

impl RangeLock {
    /// Waits until nothing exclusive overlaps `range`.
    pub async fn shared(self: &Rc<Self>, range: Range<u64>) -> RangeGuard {
        while *self.exclusive.borrow() > 0 && self.overlaps(&range, true) {
            self.waiting.wait().await;
        }
        self.insert(range, false)
    }

    /// Waits until nothing at all overlaps `range`.
    pub async fn exclusive(self: &Rc<Self>, range: Range<u64>) -> RangeGuard {
        while self.overlaps(&range, false) {
            self.waiting.wait().await;
        }
        self.insert(range, true)
    }

    fn overlaps(&self, range: &Range<u64>, exclusive_only: bool) -> bool {
        let held = self.held.borrow();
        held.iter().any(|(_, held)| {
            (held.exclusive || !exclusive_only)
                && held.range.start < range.end
                && range.start < held.range.end
        })
    }

    fn insert(self: &Rc<Self>, range: Range<u64>, exclusive: bool) -> RangeGuard {
        *self.exclusive.borrow_mut() += usize::from(exclusive);
        let key = self.held.borrow_mut().insert(Held { range, exclusive });
        RangeGuard { lock: self.clone(), key }
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let held = self.lock.held.borrow_mut().remove(self.key);
        *self.lock.exclusive.borrow_mut() -= usize::from(held.exclusive);
        self.lock.waiting.wake_all();
    }
}
