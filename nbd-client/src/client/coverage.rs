//! Which parts of a read have been answered. A server may answer in any order, but no byte twice.

use super::violation::Violation;

/// More separate pieces than this are no answer, but an attack.
const PIECES_MAX: usize = 8192;

/// Disjoint pieces, none touching another, by their beginning.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    pieces: Vec<(u64, u64)>,
}

impl Coverage {
    /// Adds `length` bytes from `start` on.
    pub(super) fn add(&mut self, start: u64, length: u64) -> Result<(), Violation> {
        let end = start + length;
        let after = self.pieces.partition_point(|piece| piece.0 < start);
        let overlaps_next = self.pieces.get(after).is_some_and(|next| next.0 < end);
        let overlaps_last = after > 0 && self.pieces[after - 1].1 > start;
        if overlaps_next || overlaps_last {
            return Err(Violation::DataTwice);
        }
        let joins_last = after > 0 && self.pieces[after - 1].1 == start;
        let joins_next = self.pieces.get(after).is_some_and(|next| next.0 == end);
        match (joins_last, joins_next) {
            (true, true) => self.pieces[after - 1].1 = self.pieces.remove(after).1,
            (true, false) => self.pieces[after - 1].1 = end,
            (false, true) => self.pieces[after].0 = start,
            (false, false) => self.pieces.insert(after, (start, end)),
        }
        if self.pieces.len() > PIECES_MAX { Err(Violation::TooManyPieces) } else { Ok(()) }
    }

    /// Whether nothing of `length` bytes is missing.
    pub(super) fn is_whole(&self, length: u64) -> bool {
        self.pieces == [(0, length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_make_a_whole() {
        let mut coverage = Coverage::default();
        for start in [3, 0, 2, 4, 1] {
            assert!(!coverage.is_whole(5));
            assert_eq!(coverage.add(start, 1), Ok(()));
        }
        assert!(coverage.is_whole(5));
    }

    #[test]
    fn no_byte_is_taken_twice() {
        for again in [(0, 1), (4, 3), (8, 1), (9, 10), (0, 20)] {
            let mut coverage = Coverage::default();
            coverage.add(0, 5).and_then(|()| coverage.add(6, 4)).expect("they are disjoint");
            assert_eq!(coverage.add(again.0, again.1), Err(Violation::DataTwice), "{again:?}");
        }
    }

    #[test]
    fn crumbs_are_refused() {
        let mut coverage = Coverage::default();
        let result = (0..).map(|at| coverage.add(at * 2, 1)).find(Result::is_err);
        assert_eq!(result, Some(Err(Violation::TooManyPieces)));
    }
}
