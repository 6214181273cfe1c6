//! From an initiator task tag to its task: open addressing with linear probing.
//!
//! Its one rule: at most half full, so that a search ends soon; whoever chooses tags that collide slows down
//! only their own session, which has few tasks.

use super::TaskId;

const SLOTS_MIN: usize = 32;

/// The tasks that an initiator may name.
#[derive(Debug)]
pub(super) struct TagIndex {
    /// A tag and its task; as many as a power of two.
    slots: Vec<Option<(u32, TaskId)>>,
    count: usize,
}

impl TagIndex {
    pub(super) fn new() -> TagIndex {
        TagIndex { slots: vec![None; SLOTS_MIN], count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(super) fn find(&self, tag: u32) -> Option<TaskId> {
        self.slots[self.search(tag)].map(|(_, task)| task)
    }

    /// The tag must be new.
    #[inline]
    pub(super) fn insert(&mut self, tag: u32, task: TaskId) {
        if self.count * 2 >= self.slots.len() {
            self.grow();
        }
        let at = self.search(tag);
        assert!(self.slots[at].is_none(), "a tag names one task");
        self.slots[at] = Some((tag, task));
        self.count += 1;
    }

    /// Takes a tag out that is in, and closes the gap: what was pushed past it moves back.
    #[inline]
    pub(super) fn remove(&mut self, tag: u32) {
        let mut gap = self.search(tag);
        assert!(self.slots[gap].take().is_some(), "the tag names a task");
        self.count -= 1;
        let mut at = self.after(gap);
        while let Some((tag, _)) = self.slots[at] {
            let home = self.home(tag);
            let mask = self.slots.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[at].take();
                gap = at;
            }
            at = self.after(at);
        }
    }

    /// Where the tag is, or would be.
    #[inline]
    fn search(&self, tag: u32) -> usize {
        let mut at = self.home(tag);
        while self.slots[at].is_some_and(|(other, _)| other != tag) {
            at = self.after(at);
        }
        at
    }

    /// Multiplication spreads tags that count up as well as tags with a pattern in their high bits.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        let spread = tag.wrapping_mul(0x9e37_79b1);
        (spread >> (32 - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    #[cold]
    fn grow(&mut self) {
        let bigger = vec![None; self.slots.len() * 2];
        for (tag, task) in std::mem::replace(&mut self.slots, bigger).into_iter().flatten() {
            let at = self.search(tag);
            self.slots[at] = Some((tag, task));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_map_finds(steps in prop::collection::vec((any::<bool>(), 0..60_u32), 0..400)) {
            let (mut index, mut map) = (TagIndex::new(), BTreeMap::new());
            for (at, (insert, small)) in steps.into_iter().enumerate() {
                let (tag, task) = (small << 26 ^ small, TaskId(at as u32));
                match (insert, map.contains_key(&tag)) {
                    (true, false) => {
                        map.insert(tag, task);
                        index.insert(tag, task);
                    }
                    (false, true) => {
                        map.remove(&tag);
                        index.remove(tag);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), map.len());
                for small in 0..60_u32 {
                    let tag = small << 26 ^ small;
                    prop_assert_eq!(index.find(tag), map.get(&tag).copied());
                }
            }
        }
    }
}
