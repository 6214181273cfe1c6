//! What one replica may lack: regions it has missed, and regions it has never confirmed durable.
//!
//! Its one rule: a region leaves by a flush that its replica has confirmed, and only if nothing was written to it
//! since that flush began.

use std::collections::{BTreeMap, BTreeSet};

use crate::region::{ByteRange, Geometry, RegionSet};
use crate::superblock::BitmapPage;

/// Regions written and not confirmed durable, in two generations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unconfirmed {
    /// Since the last flush began.
    current: RegionSet,
    /// Before it, while it runs.
    flushing: RegionSet,
}

impl Unconfirmed {
    #[inline]
    pub(crate) fn insert(&mut self, geometry: &Geometry, range: ByteRange) {
        self.current.insert(geometry, range);
    }

    /// A flush begins that covers all so far.
    pub(crate) fn begin_flush(&mut self) {
        let current = std::mem::take(&mut self.current);
        if self.flushing.is_empty() {
            self.flushing = current;
        } else {
            self.flushing.union(&current);
        }
    }

    /// That flush is confirmed.
    pub(crate) fn end_flush(&mut self) {
        self.flushing.clear();
    }

    pub(crate) fn mask(&self, extent: u32) -> u64 {
        self.current.mask(extent) | self.flushing.mask(extent)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.flushing.is_empty()
    }

    pub(crate) fn add_to(&self, set: &mut RegionSet) {
        set.union(&self.current);
        set.union(&self.flushing);
    }

    pub(crate) fn clear(&mut self) {
        self.current.clear();
        self.flushing.clear();
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lack {
    dirty: RegionSet,
    pub(crate) unconfirmed: Unconfirmed,
    /// Extents with regions that neither the bitmap on disk has nor a page that is being written.
    unsaved: BTreeSet<u32>,
    /// Pages to be written: somebody waits for them, or they say too much.
    wanted: BTreeSet<u32>,
    /// Pages that are being written, and the extents that were unsaved until then.
    writing: BTreeMap<u32, BTreeSet<u32>>,
}

impl Lack {
    pub(crate) fn new(dirty: RegionSet) -> Lack {
        Lack { dirty, ..Lack::default() }
    }

    /// What it has missed.
    pub(crate) fn dirty(&self) -> &RegionSet {
        &self.dirty
    }

    #[inline]
    pub(crate) fn insert_dirty(&mut self, geometry: &Geometry, range: ByteRange) {
        for (extent, mask) in geometry.masks_of(range) {
            self.insert_mask(extent, mask);
        }
    }

    pub(crate) fn add_dirty(&mut self, regions: &RegionSet) {
        for (extent, mask) in regions.masks() {
            self.insert_mask(extent, mask);
        }
    }

    fn insert_mask(&mut self, extent: u32, mask: u64) {
        if self.dirty.mask(extent) & mask != mask {
            self.dirty.insert_mask(extent, mask);
            self.unsaved.insert(extent);
        }
    }

    /// It has received these bytes, and not confirmed them durable.
    pub(crate) fn received(&mut self, geometry: &Geometry, range: ByteRange) {
        for (extent, mask) in geometry.masks_of(range) {
            self.dirty.remove_mask(extent, mask);
            self.unconfirmed.current.insert_mask(extent, mask);
            let page = page_of(extent);
            if self.dirty.masks_in(extents_of(page)).next().is_none() {
                self.wanted.insert(page);
            }
        }
    }

    /// What it has not confirmed, it may have lost.
    pub(crate) fn forget_confirmation(&mut self) {
        let mut lost = RegionSet::new();
        self.unconfirmed.add_to(&mut lost);
        self.unconfirmed.clear();
        // What it received of a resync is on disk already; asking for it again costs a page.
        self.add_dirty(&lost);
    }

    /// It has missed nothing.
    pub(crate) fn clear_dirty(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let extents = self.dirty.masks().map(|(extent, _)| extent).chain(unsaved);
        self.wanted.extend(extents.map(page_of));
        self.dirty.clear();
    }

    /// Whether the bitmap on disk has all of the extent; if not, it is written.
    pub(super) fn is_saved(&mut self, extent: u32) -> bool {
        let page = page_of(extent);
        if self.unsaved.contains(&extent) {
            self.wanted.insert(page);
            return false;
        }
        self.writing.get(&page).is_none_or(|extents| !extents.contains(&extent))
    }

    pub(super) fn want_saved(&mut self) {
        self.wanted.extend(self.unsaved.iter().copied().map(page_of));
    }

    pub(super) fn all_saved(&self) -> bool {
        self.unsaved.is_empty() && self.writing.values().all(BTreeSet::is_empty)
    }

    /// A page to write that is not being written.
    pub(super) fn next_page(&self) -> Option<u32> {
        self.wanted.iter().copied().find(|page| !self.writing.contains_key(page))
    }

    /// How many pages are being written.
    pub(super) fn pages_writing(&self) -> usize {
        self.writing.len()
    }

    /// The page's words as of now, for its write that begins.
    pub(super) fn page_words(&mut self, page: u32) -> Vec<u64> {
        let extents = extents_of(page);
        let captured: BTreeSet<u32> = self.unsaved.range(extents.clone()).copied().collect();
        self.unsaved.retain(|extent| !captured.contains(extent));
        self.wanted.remove(&page);
        self.writing.insert(page, captured);
        let mut words = vec![0; BitmapPage::PAGE_EXTENTS as usize];
        let sets = [&self.dirty, &self.unconfirmed.current, &self.unconfirmed.flushing];
        for (extent, mask) in sets.into_iter().flat_map(|set| set.masks_in(extents.clone())) {
            words[(extent - extents.start) as usize] |= mask;
        }
        words
    }

    /// The page's write has ended.
    pub(super) fn page_written(&mut self, page: u32) {
        self.writing.remove(&page);
    }
}

fn page_of(extent: u32) -> u32 {
    extent / BitmapPage::PAGE_EXTENTS
}

fn extents_of(page: u32) -> std::ops::Range<u32> {
    let first = page * BitmapPage::PAGE_EXTENTS;
    first..first.saturating_add(BitmapPage::PAGE_EXTENTS)
}
