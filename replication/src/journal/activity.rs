//! The activity log: which extents are marked, and which marks are on disk.
//!
//! Its one rule: a mark counts once the log that contains it is on disk.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Version;

/// How it stands with the marks of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// On disk.
    Ready,
    /// Once `Activity::is_durable` says so of this version.
    Wait(Version),
    /// There is no room: a flush of all replicas, or a page of a bitmap, must come first.
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    /// The first log that has it.
    since: Version,
    /// When it was last written to, in writes.
    used: u64,
    /// A write waits for it to be on disk.
    awaited: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Activity {
    extents: BTreeMap<u32, Extent>,
    version: Version,
    durable: Version,
    clock: u64,
}

impl Activity {
    pub(super) fn open(stored: &[u32]) -> Activity {
        let extents =
            stored.iter().map(|&extent| (extent, Extent { since: 0, used: 0, awaited: false })).collect();
        Activity { extents, version: 0, durable: 0, clock: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.extents.len()
    }

    /// Counts a write to these extents, if all are marked. It begins at once if they are on disk.
    #[inline]
    pub(super) fn touch(&mut self, extents: RangeInclusive<u32>) -> Option<Mark> {
        self.clock += 1;
        let (mut since, mut awaited) = (0, false);
        for extent in extents.clone() {
            let entry = self.extents.get_mut(&extent)?;
            entry.used = self.clock;
            since = since.max(entry.since);
            awaited |= entry.awaited;
        }
        let is_ready = self.durable >= since;
        if awaited == is_ready {
            for extent in extents {
                self.extents.get_mut(&extent).expect("it was there above").awaited = !is_ready;
            }
        }
        Some(if is_ready { Mark::Ready } else { Mark::Wait(since) })
    }

    /// Nobody waits for anything any more.
    pub(crate) fn none_awaited(&mut self) {
        self.extents.values_mut().for_each(|entry| entry.awaited = false);
    }

    pub(super) fn missing(&self, extents: RangeInclusive<u32>) -> usize {
        extents.filter(|extent| !self.extents.contains_key(extent)).count()
    }

    pub(super) fn add(&mut self, extents: RangeInclusive<u32>) -> Mark {
        self.version += 1;
        for extent in extents {
            let fresh = Extent { since: self.version, used: 0, awaited: true };
            let entry = self.extents.entry(extent).or_insert(fresh);
            entry.used = self.clock;
            entry.awaited = true;
        }
        Mark::Wait(self.version)
    }

    /// All extents whose mark is on disk and that no write waits for, least used first.
    pub(super) fn least_used(&self) -> Vec<u32> {
        let on_disk = self.extents.iter().filter(|(_, entry)| entry.since <= self.durable && !entry.awaited);
        let mut extents: Vec<_> = on_disk.map(|(&extent, entry)| (entry.used, extent)).collect();
        extents.sort_unstable();
        extents.into_iter().map(|(_, extent)| extent).collect()
    }

    pub(super) fn drop_mark(&mut self, extent: u32) {
        self.extents.remove(&extent);
        self.version += 1;
    }

    /// The log to write next, if the one on disk is another.
    pub(super) fn to_write(&self) -> Option<(Version, Vec<u32>)> {
        (self.durable < self.version).then(|| (self.version, self.extents.keys().copied().collect()))
    }

    pub(super) fn written(&mut self, version: Version) {
        self.durable = version;
    }
}
