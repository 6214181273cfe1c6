//! The bag of what is under way, and the order in which it comes out: by the world's time, which is chance.
//!
//! Its one rule: what is put in at the same time comes out in the order in which it was put in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something that will happen, unless what it belongs to is gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Tick {
        node: u8,
        run: u32,
    },
    /// Local I/O ends.
    Disk {
        node: u8,
        run: u32,
        slot: u32,
    },
    /// The first parcel of a direction arrives.
    Deliver {
        from: u8,
        to: u8,
    },
    Up {
        node: u8,
        peer: u8,
        session: u32,
    },
    Lost {
        node: u8,
        peer: u8,
        session: u32,
    },
    /// Nothing has come over a link for long: its end gives it up.
    Silent {
        from: u8,
        to: u8,
        session: u32,
    },
    /// Two nodes try to link.
    Connect {
        a: u8,
        b: u8,
    },
    /// A client makes its next request.
    Client,
    /// A client waits for an answer no longer.
    Impatient {
        request: u32,
    },
    /// A request reaches a node that was frozen when it was made.
    Submit {
        request: u32,
    },
    /// A proposal reaches the coordinator.
    Propose {
        proposal: u32,
    },
    /// Its answer reaches the node.
    Decide {
        proposal: u32,
    },
    /// A node hears of the coordinator's record.
    Tell {
        node: u8,
    },
    /// A fault begins.
    Fault,
    /// One that lasts is over.
    Restart {
        node: u8,
    },
    Thaw {
        node: u8,
    },
    Unblock {
        from: u8,
        to: u8,
    },
    DiskWell {
        node: u8,
    },
    /// A node reaches the coordinator again.
    Reach {
        node: u8,
    },
    CoordinatorBack,
    /// The operator wants a node to lead.
    Promote {
        node: u8,
    },
    /// The operator looks around.
    Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    number: u64,
    what: Happening,
}

impl Ord for Entry {
    #[inline]
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    #[inline]
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Bag {
    heap: BinaryHeap<Entry>,
    last: u64,
}

impl Bag {
    #[inline]
    pub(crate) fn put(&mut self, at: u64, what: Happening) {
        self.last += 1;
        self.heap.push(Entry { at, number: self.last, what });
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}
