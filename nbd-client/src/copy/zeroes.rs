//! Zeroes in what was read.

use std::ops::Range;

/// A piece of a buffer that is all zero, or has no block that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<usize>,
    pub(super) is_zero: bool,
}

/// Whether there is nothing else in it.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const STEP: usize = 16;
    match bytes.split_at_checked(STEP) {
        // each byte equals the one a step before it, and those of the first step are zero
        Some((first, rest)) => first.iter().all(|byte| *byte == 0) && *rest == bytes[..rest.len()],
        None => bytes.iter().all(|byte| *byte == 0),
    }
}

/// `bytes` cut where blocks of zeroes begin or end, in order; the last block may be short.
pub(super) fn runs(bytes: &[u8], block: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    for piece in bytes.chunks(block) {
        let (end, is_zero) = (start + piece.len(), is_zero(piece));
        match runs.last_mut() {
            Some(last) if last.is_zero == is_zero => last.range.end = end,
            _ => runs.push(Run { range: start..end, is_zero }),
        }
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_found() {
        for len in [1, 15, 16, 17, 100, 4096] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len}");
            for place in 0..len {
                bytes[place] = 1;
                assert!(!is_zero(&bytes), "{place} of {len}");
                bytes[place] = 0;
            }
        }
        assert!(is_zero(&[]));
    }

    #[test]
    fn runs_follow_blocks_and_cover_all() {
        let mut bytes = vec![0; 10 * 512 + 7];
        bytes[512] = 1;
        bytes[1024] = 1;
        let run = |range, is_zero| Run { range, is_zero };
        assert_eq!(runs(&bytes, 512), [run(0..512, true), run(512..1536, false), run(1536..5127, true)]);
        bytes[5126] = 1;
        assert_eq!(runs(&bytes, 512)[3], run(5120..5127, false));
        assert_eq!(runs(&[], 512), []);
    }
}
