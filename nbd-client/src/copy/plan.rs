//! What is to be done with a segment of the image: pieces, each for one mover.
//!
//! Its one rule: the pieces lie in order and apart, and what no piece covers is right already.

use std::ops::Range;

use super::map::Map;

/// A piece of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) task: Task,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Read it and write it; zeroes in it need no writing if the destination is zero there.
    Copy { onto_zeroes: bool },
    /// The source is zero, and the destination may not be.
    Zero,
    /// Both are to be read.
    Compare,
    /// Both are known to be zero.
    BothZero,
}

/// How the destination becomes the source; data is cut at multiples of `piece_bytes`.
pub(super) fn copy(source: &Map, destination: &Map, piece_bytes: u64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = cut(source.data_ranges(), piece_bytes)
        .map(|range| Piece { task: Task::Copy { onto_zeroes: destination.is_zero(&range) }, range })
        .collect();
    let stale = source.zeroes().iter().flat_map(|zero| destination.data_in(zero));
    pieces.extend(stale.map(|range| Piece { range, task: Task::Zero }));
    pieces.sort_by_key(|piece| piece.range.start);
    pieces
}

/// How both are compared; here the pieces cover the whole segment.
pub(super) fn compare(source: &Map, destination: &Map, piece_bytes: u64) -> Vec<Piece> {
    let zero = source.zero_in_both(destination);
    let both_zero = zero.zeroes().iter().map(|range| Piece { range: range.clone(), task: Task::BothZero });
    let data = cut(zero.data_ranges(), piece_bytes).map(|range| Piece { range, task: Task::Compare });
    let mut pieces: Vec<Piece> = both_zero.chain(data).collect();
    pieces.sort_by_key(|piece| piece.range.start);
    pieces
}

fn cut(ranges: impl Iterator<Item = Range<u64>>, piece_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    ranges.flat_map(move |range| {
        let first = range.start / piece_bytes;
        let last = range.end.div_ceil(piece_bytes);
        (first..last).map(move |n| (n * piece_bytes).max(range.start)..((n + 1) * piece_bytes).min(range.end))
    })
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges are what these are
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_is_cut_on_a_grid() {
        let pieces = copy(&Map::data(50..250), &Map::data(50..250), 100);
        let ranges: Vec<_> = pieces.into_iter().map(|piece| piece.range).collect();
        assert_eq!(ranges, [50..100, 100..200, 200..250]);
    }

    #[test]
    fn zeroes_are_written_only_where_the_destination_is_not_zero() {
        let source = Map::with_zeroes(0..100, [20..100]);
        let destination = Map::with_zeroes(0..100, [0..60]);
        let pieces = copy(&source, &destination, 1000);
        let copied = Piece { range: 0..20, task: Task::Copy { onto_zeroes: true } };
        assert_eq!(pieces, [copied, Piece { range: 60..100, task: Task::Zero }]);
    }

    /// A map of ten-byte blocks from bits.
    fn map(bits: u32) -> Map {
        Map::with_zeroes(0..300, (0..30).filter(|n| bits >> n & 1 == 1).map(|n| n * 10..n * 10 + 10))
    }

    proptest! {
        #[test]
        fn what_no_piece_covers_is_zero_on_both_sides(source: u32, destination: u32, piece in 1_u64..200) {
            let (source, destination) = (map(source), map(destination));
            let pieces = copy(&source, &destination, piece);
            prop_assert!(pieces.is_sorted_by(|a, b| a.range.end <= b.range.start));
            for at in 0..300 {
                let byte = at..at + 1;
                let piece = pieces.iter().find(|piece| piece.range.contains(&at));
                match piece.map(|piece| piece.task) {
                    None => prop_assert!(source.is_zero(&byte) && destination.is_zero(&byte)),
                    Some(Task::Zero) => prop_assert!(source.is_zero(&byte) && !destination.is_zero(&byte)),
                    Some(Task::Copy { onto_zeroes }) => {
                        prop_assert!(!source.is_zero(&byte));
                        prop_assert!(!onto_zeroes || destination.is_zero(&byte));
                    }
                    Some(other) => prop_assert!(false, "{other:?}"),
                }
            }
        }

        #[test]
        fn a_comparison_covers_everything_once(source: u32, destination: u32, piece in 1_u64..200) {
            let pieces = compare(&map(source), &map(destination), piece);
            let mut end = 0;
            for piece in pieces {
                prop_assert_eq!(piece.range.start, end);
                end = piece.range.end;
            }
            prop_assert_eq!(end, 300);
        }
    }
}
