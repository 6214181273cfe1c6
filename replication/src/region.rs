//! Parts of a volume: byte ranges, and sets of regions.
//!
//! ```text
//! volume   0 ────────────────────────────────────────────── size
//! extent   │ 64 regions │ 64 regions │ …    what the activity log marks (4 MiB)
//! region   │││││││…                         what a resync sends (64 KiB)
//! ```
//! Its one rule: an extent is 64 regions, so that what is known of an extent is one word.

use std::collections::BTreeMap;

/// So many regions make an extent.
pub const REGIONS_PER_EXTENT: u64 = 64;

/// Bytes `start..start + bytes` of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// How many.
    pub bytes: u64,
}

impl ByteRange {
    /// So many bytes from there.
    pub fn new(start: u64, bytes: u64) -> ByteRange {
        ByteRange { start, bytes }
    }

    /// Behind the last byte.
    #[inline]
    pub fn end(self) -> u64 {
        self.start + self.bytes
    }

    /// Whether some byte is in both.
    #[inline]
    pub fn overlaps(self, other: ByteRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// How a volume is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The volume's size.
    pub size_bytes: u64,
    /// A region's size: a power of two. The last region may be cut short.
    pub region_bytes: u64,
}

impl Geometry {
    /// How many regions there are.
    pub fn regions(&self) -> u64 {
        self.size_bytes.div_ceil(self.region_bytes)
    }

    /// How many extents there are.
    pub fn extents(&self) -> u32 {
        self.regions().div_ceil(REGIONS_PER_EXTENT) as u32
    }

    /// The bytes of regions `first..first + count`.
    pub fn range_of(&self, first: u64, count: u64) -> ByteRange {
        let start = first * self.region_bytes;
        let end = ((first + count) * self.region_bytes).min(self.size_bytes);
        ByteRange::new(start, end - start)
    }

    /// The first and the last region that a range touches. The range is not empty.
    #[inline]
    pub fn regions_of(&self, range: ByteRange) -> (u64, u64) {
        let shift = self.region_bytes.trailing_zeros();
        (range.start >> shift, (range.end() - 1) >> shift)
    }

    /// The extents that a range touches. It is not empty.
    #[inline]
    pub fn extents_of(&self, range: ByteRange) -> std::ops::RangeInclusive<u32> {
        let (first, last) = self.regions_of(range);
        (first / REGIONS_PER_EXTENT) as u32..=(last / REGIONS_PER_EXTENT) as u32
    }

    /// The regions of an extent that exist.
    pub fn extent_mask(&self, extent: u32) -> u64 {
        let left = self.regions() - u64::from(extent) * REGIONS_PER_EXTENT;
        if left >= REGIONS_PER_EXTENT { u64::MAX } else { (1 << left) - 1 }
    }

    /// The parts of each extent that a range touches.
    #[inline]
    pub fn masks_of(&self, range: ByteRange) -> impl Iterator<Item = (u32, u64)> {
        let (first, last) = self.regions_of(range);
        (first / REGIONS_PER_EXTENT..=last / REGIONS_PER_EXTENT).map(move |extent| {
            let base = extent * REGIONS_PER_EXTENT;
            let low = first.max(base) - base;
            let high = last.min(base + REGIONS_PER_EXTENT - 1) - base;
            (extent as u32, (u64::MAX >> (63 - high)) & (u64::MAX << low))
        })
    }
}

/// A set of regions: for each extent that has some, a word with a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionSet {
    /// No word is 0.
    words: BTreeMap<u32, u64>,
}

impl RegionSet {
    /// None.
    pub const fn new() -> RegionSet {
        RegionSet { words: BTreeMap::new() }
    }

    /// Every region of the volume.
    pub fn full(geometry: &Geometry) -> RegionSet {
        (0..geometry.extents()).map(|extent| (extent, geometry.extent_mask(extent))).collect()
    }

    /// Adds some of an extent's regions.
    #[inline]
    pub fn insert_mask(&mut self, extent: u32, mask: u64) {
        if mask != 0 {
            *self.words.entry(extent).or_default() |= mask;
        }
    }

    /// Takes some of an extent's regions away.
    pub fn remove_mask(&mut self, extent: u32, mask: u64) {
        if let Some(word) = self.words.get_mut(&extent) {
            *word &= !mask;
            if *word == 0 {
                self.words.remove(&extent);
            }
        }
    }

    /// Adds all regions that a range touches.
    #[inline]
    pub fn insert(&mut self, geometry: &Geometry, range: ByteRange) {
        for (extent, mask) in geometry.masks_of(range) {
            self.insert_mask(extent, mask);
        }
    }

    /// Takes all regions away that a range touches.
    pub fn remove(&mut self, geometry: &Geometry, range: ByteRange) {
        for (extent, mask) in geometry.masks_of(range) {
            self.remove_mask(extent, mask);
        }
    }

    /// Whether a range touches any.
    #[inline]
    pub fn touches(&self, geometry: &Geometry, range: ByteRange) -> bool {
        !self.words.is_empty() && geometry.masks_of(range).any(|(extent, mask)| self.mask(extent) & mask != 0)
    }

    /// What it has of an extent.
    #[inline]
    pub fn mask(&self, extent: u32) -> u64 {
        self.words.get(&extent).copied().unwrap_or(0)
    }

    /// Adds all of another.
    pub fn union(&mut self, other: &RegionSet) {
        for (extent, mask) in other.masks() {
            self.insert_mask(extent, mask);
        }
    }

    /// Takes all of another away.
    pub fn subtract(&mut self, other: &RegionSet) {
        for (extent, mask) in other.masks() {
            self.remove_mask(extent, mask);
        }
    }

    /// The extents that have some, in order, and which.
    pub fn masks(&self) -> impl Iterator<Item = (u32, u64)> {
        self.words.iter().map(|(&extent, &mask)| (extent, mask))
    }

    /// The same, of these extents only.
    pub fn masks_in(&self, extents: std::ops::Range<u32>) -> impl Iterator<Item = (u32, u64)> {
        self.words.range(extents).map(|(&extent, &mask)| (extent, mask))
    }

    /// The first region from `from` on.
    pub fn next_from(&self, from: u64) -> Option<u64> {
        let extent = (from / REGIONS_PER_EXTENT) as u32;
        let rest = self.mask(extent) & (u64::MAX << (from % REGIONS_PER_EXTENT));
        if rest != 0 {
            return Some(u64::from(extent) * REGIONS_PER_EXTENT + u64::from(rest.trailing_zeros()));
        }
        let (&extent, &mask) = self.words.range(extent.checked_add(1)?..).next()?;
        Some(u64::from(extent) * REGIONS_PER_EXTENT + u64::from(mask.trailing_zeros()))
    }

    /// Whether it has this region.
    pub fn contains(&self, region: u64) -> bool {
        self.mask((region / REGIONS_PER_EXTENT) as u32) >> (region % REGIONS_PER_EXTENT) & 1 == 1
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.words.values().map(|mask| u64::from(mask.count_ones())).sum()
    }

    /// How many extents have some.
    pub fn extents(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

impl FromIterator<(u32, u64)> for RegionSet {
    fn from_iter<T: IntoIterator<Item = (u32, u64)>>(masks: T) -> RegionSet {
        let mut set = RegionSet::new();
        for (extent, mask) in masks {
            set.insert_mask(extent, mask);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { size_bytes: 100 * 1024 + 512, region_bytes: 1024 };

    #[test]
    fn a_range_touches_every_region_from_its_first_to_its_last_byte() {
        let mut set = RegionSet::new();
        set.insert(&GEOMETRY, ByteRange::new(63 * 1024 + 512, 1024));
        assert_eq!(set.masks().collect::<Vec<_>>(), [(0, 1 << 63), (1, 1)]);
        assert!(set.touches(&GEOMETRY, ByteRange::new(64 * 1024, 512)));
        assert!(!set.touches(&GEOMETRY, ByteRange::new(65 * 1024, 512)));
    }

    #[test]
    fn the_last_extent_has_only_the_regions_that_exist() {
        assert_eq!((GEOMETRY.regions(), GEOMETRY.extents()), (101, 2));
        assert_eq!(RegionSet::full(&GEOMETRY).count(), 101);
        assert_eq!(GEOMETRY.range_of(100, 1), ByteRange::new(100 * 1024, 512));
    }

    #[test]
    fn next_from_walks_every_region_once() {
        let set: RegionSet = [(0, 1 << 63), (1, 0b101), (7, 1)].into_iter().collect();
        let mut walked = Vec::new();
        let mut from = 0;
        while let Some(region) = set.next_from(from) {
            walked.push(region);
            from = region + 1;
        }
        assert_eq!(walked, [63, 64, 66, 448]);
    }
}
