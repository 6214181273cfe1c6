//! Which requests wait for which: rule 5, and reads that wait for writes.
//!
//! Exclusive (a write): waits for every earlier one that overlaps. Shared (a read, a resync): for every earlier
//! exclusive one that overlaps.
//! Its one rule: whoever comes later waits for whoever came earlier, also for those that still wait themselves.

use std::collections::BTreeMap;

use crate::id::Seq;
use crate::region::ByteRange;

#[derive(Clone, Debug)]
struct Holder {
    range: ByteRange,
    shared: bool,
    /// How many it waits for.
    blockers: usize,
    /// Who wait for it.
    waiters: Vec<Seq>,
}

/// Ranges held or waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    holders: BTreeMap<Seq, Holder>,
    by_start: BTreeMap<(u64, Seq), ()>,
    /// No range that is held is longer.
    bytes_max: u64,
}

impl Order {
    /// Wants a range; whether it has it at once. Else `remove` of the last one in the way says so.
    #[inline]
    pub(crate) fn add(&mut self, seq: Seq, range: ByteRange, shared: bool) -> bool {
        let mut blockers = 0;
        if !self.holders.is_empty() {
            let from = range.start.saturating_sub(self.bytes_max);
            for (&(_, other), ()) in self.by_start.range((from, Seq(0))..(range.end(), Seq(0))) {
                let holder = self.holders.get_mut(&other).expect("both maps hold the same");
                if holder.range.overlaps(range) && !(shared && holder.shared) {
                    holder.waiters.push(seq);
                    blockers += 1;
                }
            }
        }
        self.bytes_max = if self.holders.is_empty() { range.bytes } else { self.bytes_max.max(range.bytes) };
        self.by_start.insert((range.start, seq), ());
        self.holders.insert(seq, Holder { range, shared, blockers, waiters: Vec::new() });
        blockers == 0
    }

    /// Gives a range back; who has theirs now is appended.
    #[inline]
    pub(crate) fn remove(&mut self, seq: Seq, ready: &mut Vec<Seq>) {
        let Some(holder) = self.holders.remove(&seq) else { return };
        self.by_start.remove(&(holder.range.start, seq));
        for waiter in holder.waiters {
            // One that has given up is no longer here.
            let Some(waiting) = self.holders.get_mut(&waiter) else { continue };
            waiting.blockers -= 1;
            if waiting.blockers == 0 {
                ready.push(waiter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, bytes: u64) -> ByteRange {
        ByteRange::new(start, bytes)
    }

    #[test]
    fn a_later_write_waits_for_every_earlier_one_that_overlaps() {
        let mut order = Order::default();
        let mut ready = Vec::new();
        assert!(order.add(Seq(1), range(0, 10), false));
        assert!(order.add(Seq(2), range(20, 10), false));
        assert!(!order.add(Seq(3), range(5, 20), false));
        order.remove(Seq(1), &mut ready);
        assert!(ready.is_empty());
        order.remove(Seq(2), &mut ready);
        assert_eq!(ready, [Seq(3)]);
    }

    #[test]
    fn reads_share_and_a_write_between_them_keeps_its_place() {
        let mut order = Order::default();
        let mut ready = Vec::new();
        assert!(order.add(Seq(1), range(0, 10), true));
        assert!(!order.add(Seq(2), range(0, 10), false));
        assert!(!order.add(Seq(3), range(0, 10), true));
        order.remove(Seq(1), &mut ready);
        assert_eq!(ready, [Seq(2)]);
        order.remove(Seq(2), &mut ready);
        assert_eq!(ready, [Seq(2), Seq(3)]);
    }

    #[test]
    fn a_long_range_is_found_from_its_far_end() {
        let mut order = Order::default();
        assert!(order.add(Seq(1), range(0, 1000), false));
        assert!(order.add(Seq(2), range(2000, 1), false));
        assert!(!order.add(Seq(3), range(999, 1), true));
    }
}
