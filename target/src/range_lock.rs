//! Keeps a read-modify-write of a block from any other write to it.
//!
//! Plain writes may overlap one another, as on any disk; an exclusive range overlaps nothing. Who comes later
//! waits for who came earlier, so nobody waits for ever. Core-local.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use reactor::sync::WaitList;
use slab::Slab;

/// The writes in flight of one volume.
#[derive(Default)]
pub struct RangeLock {
    /// Those that have their range, and those that wait for it.
    entries: RefCell<Slab<Entry>>,
    exclusive: Cell<usize>,
    arrivals: Cell<u64>,
    waiting: WaitList,
}

struct Entry {
    range: Range<u64>,
    exclusive: bool,
    arrival: u64,
}

/// A range in use; dropping it ends the use.
pub struct RangeGuard {
    lock: Rc<RangeLock>,
    key: usize,
}

impl RangeLock {
    /// Waits until nothing exclusive overlaps `range`.
    pub async fn shared(self: &Rc<Self>, range: Range<u64>) -> RangeGuard {
        let (guard, arrival) = self.insert(range.clone(), false);
        while self.exclusive.get() > 0 && self.overlaps(&range, arrival, true) {
            self.waiting.wait().await;
        }
        guard
    }

    /// Waits until nothing at all overlaps `range`.
    pub async fn exclusive(self: &Rc<Self>, range: Range<u64>) -> RangeGuard {
        let (guard, arrival) = self.insert(range.clone(), true);
        while self.overlaps(&range, arrival, false) {
            self.waiting.wait().await;
        }
        guard
    }

    /// Holds `range` from now on, whoever is in it already.
    pub fn hold(self: &Rc<Self>, range: Range<u64>) -> RangeGuard {
        self.insert(range, true).0
    }

    /// Waits until nothing exclusive overlaps `range` that does so now, and takes nothing.
    pub async fn passed(&self, range: Range<u64>) {
        let arrival = self.arrivals.get();
        while self.exclusive.get() > 0 && self.overlaps(&range, arrival, true) {
            self.waiting.wait().await;
        }
    }

    /// Whether anything is held or wanted exclusively.
    pub fn is_contended(&self) -> bool {
        self.exclusive.get() > 0
    }

    /// Whether somebody overlaps `range` who came before `arrival`.
    fn overlaps(&self, range: &Range<u64>, arrival: u64, exclusive_only: bool) -> bool {
        self.entries.borrow().iter().any(|(_, entry)| {
            entry.arrival < arrival
                && (entry.exclusive || !exclusive_only)
                && entry.range.start < range.end
                && range.start < entry.range.end
        })
    }

    fn insert(self: &Rc<Self>, range: Range<u64>, exclusive: bool) -> (RangeGuard, u64) {
        let arrival = self.arrivals.get();
        self.arrivals.set(arrival + 1);
        self.exclusive.set(self.exclusive.get() + usize::from(exclusive));
        let key = self.entries.borrow_mut().insert(Entry { range, exclusive, arrival });
        (RangeGuard { lock: self.clone(), key }, arrival)
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let entry = self.lock.entries.borrow_mut().remove(self.key);
        self.lock.exclusive.set(self.lock.exclusive.get() - usize::from(entry.exclusive));
        self.lock.waiting.wake_all();
    }
}
