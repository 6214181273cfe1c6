//! Which ranges of a stretch of an image are known to read as zeroes.
//!
//! Its one rule: what nobody knows to be zero is data.

use std::ops::Range;

/// A stretch, and the zeroes in it: in order, apart from each other, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    within: Range<u64>,
    zeroes: Vec<Range<u64>>,
}

impl Map {
    /// Nothing is known of it.
    pub(super) fn data(within: Range<u64>) -> Map {
        Map { within, zeroes: Vec::new() }
    }

    /// `zeroes` in order; what lies outside of the stretch is cut off.
    pub(super) fn with_zeroes(within: Range<u64>, zeroes: impl IntoIterator<Item = Range<u64>>) -> Map {
        let mut map = Map::data(within);
        zeroes.into_iter().for_each(|range| map.push(range));
        map
    }

    /// The stretch.
    pub(super) fn within(&self) -> Range<u64> {
        self.within.clone()
    }

    /// The zeroes, in order.
    pub(super) fn zeroes(&self) -> &[Range<u64>] {
        &self.zeroes
    }

    /// All else, in order.
    pub(super) fn data_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.data_in(&self.within)
    }

    /// Whether all of `range` is known to be zero.
    pub(super) fn is_zero(&self, range: &Range<u64>) -> bool {
        self.zeroes_in(range).next().is_some_and(|zero| zero == *range)
    }

    /// The parts of `range` that are not known to be zero.
    pub(super) fn data_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let starts = std::iter::once(range.start).chain(self.zeroes_in(range).map(|zero| zero.end));
        let ends = self.zeroes_in(range).map(|zero| zero.start).chain(std::iter::once(range.end));
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty())
    }

    /// What is zero in both.
    pub(super) fn zero_in_both(&self, other: &Map) -> Map {
        Map::with_zeroes(self.within(), self.zeroes.iter().flat_map(|ours| other.zeroes_in(ours)))
    }

    /// The zeroes in `range`.
    fn zeroes_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (start, end) = (range.start, range.end);
        let first = self.zeroes.partition_point(|zero| zero.end <= start);
        let touched = self.zeroes[first..].iter().take_while(move |zero| zero.start < end);
        touched.map(move |zero| zero.start.max(start)..zero.end.min(end))
    }

    /// The same with zeroes that begin and end at multiples of `block`: partial blocks count as data.
    pub(super) fn in_blocks(&self, block: u64) -> Map {
        let whole = self.zeroes.iter().map(|zero| {
            let start = zero.start.next_multiple_of(block);
            start..(zero.end / block * block).max(start)
        });
        Map::with_zeroes(self.within(), whole)
    }

    fn push(&mut self, range: Range<u64>) {
        let range = range.start.max(self.within.start)..range.end.min(self.within.end);
        if range.is_empty() {
            return;
        }
        match self.zeroes.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.zeroes.push(range),
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges are what these are
mod tests {
    use super::*;

    fn map() -> Map {
        Map::with_zeroes(100..1000, [0..200, 200..300, 400..500, 900..2000])
    }

    #[test]
    fn zeroes_are_clipped_and_joined() {
        assert_eq!(map().zeroes(), [100..300, 400..500, 900..1000]);
        assert_eq!(map().data_ranges().collect::<Vec<_>>(), [300..400, 500..900]);
    }

    #[test]
    fn a_range_is_zero_only_if_all_of_it_is() {
        assert!(map().is_zero(&(100..300)));
        assert!(map().is_zero(&(450..460)));
        assert!(!map().is_zero(&(299..301)));
        assert!(!map().is_zero(&(300..400)));
        assert!(!map().is_zero(&(250..450)));
    }

    #[test]
    fn data_in_a_range_is_what_is_not_zero() {
        assert_eq!(map().data_in(&(350..600)).collect::<Vec<_>>(), [350..400, 500..600]);
        assert_eq!(map().data_in(&(100..300)).count(), 0);
    }

    #[test]
    fn partial_blocks_are_data() {
        let map = Map::with_zeroes(0..10_000, [100..4096, 5000..9000, 9999..10_000]);
        assert_eq!(map.in_blocks(4096).zeroes(), []);
        assert_eq!(map.in_blocks(1000).zeroes(), [1000..4000, 5000..9000]);
    }

    #[test]
    fn zero_in_both_is_the_intersection() {
        let other = Map::with_zeroes(100..1000, [200..450, 950..960]);
        assert_eq!(map().zero_in_both(&other).zeroes(), [200..300, 400..450, 950..960]);
    }

    #[test]
    fn a_stretch_without_zeroes_is_data() {
        assert_eq!(Map::data(5..9).data_ranges().collect::<Vec<_>>(), [5..9]);
        assert_eq!(Map::data(5..5).data_ranges().count(), 0);
    }
}
