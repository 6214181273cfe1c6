//! Which requests wait for which: rule 5, and reads that wait for writes.
//!
//! Exclusive (a write): waits for every earlier one that overlaps. Shared (a read, a resync): for every earlier
//! exclusive one that overlaps.
//! Its one rule: whoever comes later waits for whoever came earlier, also for those that still wait themselves.

use std::ops::Range;

use crate::id::Seq;
use crate::numbered::Numbered;
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
    holders: Numbered<Seq, Holder>,
    /// In order.
    by_start: Vec<(u64, Seq)>,
    /// No range that is held is longer.
    bytes_max: u64,
}

impl Order {
    /// Wants a range; whether it has it at once. Else `remove` of the last one in the way says so.
    #[inline]
    pub(crate) fn add(&mut self, seq: Seq, range: ByteRange, shared: bool) -> bool {
        let mut blockers = 0;
        if !self.holders.is_empty() {
            let near = self.near(range);
            for (_, other) in &self.by_start[near] {
                let holder = self.holders.get_mut(other).expect("both hold the same");
                if holder.range.overlaps(range) && !(shared && holder.shared) {
                    holder.waiters.push(seq);
                    blockers += 1;
                }
            }
        }
        self.bytes_max = if self.holders.is_empty() { range.bytes } else { self.bytes_max.max(range.bytes) };
        let entry = (range.start, seq);
        self.by_start.insert(self.by_start.partition_point(|before| *before < entry), entry);
        self.holders.insert(seq, Holder { range, shared, blockers, waiters: Vec::new() });
        blockers == 0
    }

    /// Whether no exclusive holder, or one that waits to be, overlaps a range.
    pub(crate) fn is_unwritten(&self, range: ByteRange) -> bool {
        if self.holders.is_empty() {
            return true;
        }
        self.by_start[self.near(range)].iter().all(|(_, seq)| {
            let holder = &self.holders[seq];
            holder.shared || !holder.range.overlaps(range)
        })
    }

    /// Where in `by_start` all are that may overlap a range.
    fn near(&self, range: ByteRange) -> Range<usize> {
        let from = range.start.saturating_sub(self.bytes_max);
        let first = self.by_start.partition_point(|&(start, _)| start < from);
        let behind = self.by_start[first..].partition_point(|&(start, _)| start < range.end());
        first..first + behind
    }

    /// Gives a range back; who has theirs now is appended.
    #[inline]
    pub(crate) fn remove(&mut self, seq: Seq, ready: &mut Vec<Seq>) {
        let Some(holder) = self.holders.remove(&seq) else { return };
        let at = self.by_start.binary_search(&(holder.range.start, seq));
        self.by_start.remove(at.expect("both hold the same"));
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
    fn a_range_is_written_while_a_write_holds_or_awaits_a_part_of_it() {
        let mut order = Order::default();
        assert!(order.add(Seq(1), range(0, 10), true));
        assert!(order.is_unwritten(range(0, 10)));
        assert!(!order.add(Seq(2), range(5, 10), false));
        assert!(!order.is_unwritten(range(14, 10)));
        assert!(order.is_unwritten(range(15, 10)));
        order.remove(Seq(1), &mut Vec::new());
        order.remove(Seq(2), &mut Vec::new());
        assert!(order.is_unwritten(range(0, 100)));
    }

    #[test]
    fn a_long_range_is_found_from_its_far_end() {
        let mut order = Order::default();
        assert!(order.add(Seq(1), range(0, 1000), false));
        assert!(order.add(Seq(2), range(2000, 1), false));
        assert!(!order.add(Seq(3), range(999, 1), true));
    }
}
