//! The checksums of both sides, put together from pieces that were read in any order.
//!
//! CRC-32C can be combined: that of a whole is computed from those of its parts and their lengths.

use std::collections::BTreeMap;

use crc32c::{crc32c, crc32c_combine};

/// Blocks of this length are counted where the sides differ.
const BLOCK_BYTES: usize = 4096;

/// What came out of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// CRC-32C of the whole source.
    pub source: u32,
    /// CRC-32C of as much of the destination.
    pub destination: u32,
    /// How many blocks of 4 KiB differ.
    pub blocks_differing: u64,
    /// The first byte that differs.
    pub first_difference: Option<u64>,
}

/// A part of both sides.
#[derive(Clone, Copy, Debug)]
struct Part {
    length: u64,
    source: u32,
    destination: u32,
}

/// Parts of both sides, joined where they meet.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    parts: BTreeMap<u64, Part>,
    blocks_differing: u64,
    first_difference: Option<u64>,
}

impl Checksums {
    /// These bytes were read on both sides from `offset` on.
    pub(super) fn compare(&mut self, offset: u64, source: &[u8], destination: &[u8]) {
        let length = source.len() as u64;
        if source == destination {
            let sum = crc32c(source);
            return self.join(offset, Part { length, source: sum, destination: sum });
        }
        self.join(offset, Part { length, source: crc32c(source), destination: crc32c(destination) });
        let pairs = source.chunks(BLOCK_BYTES).zip(destination.chunks(BLOCK_BYTES));
        self.blocks_differing += pairs.filter(|(source, destination)| source != destination).count() as u64;
        let first = source.iter().zip(destination).position(|(source, destination)| source != destination);
        let first = first.map(|place| offset + place as u64);
        self.first_difference = self.first_difference.into_iter().chain(first).min();
    }

    /// Both sides are zero here.
    pub(super) fn both_zero(&mut self, offset: u64, length: u64) {
        let sum = of_zeroes(length);
        self.join(offset, Part { length, source: sum, destination: sum });
    }

    /// What lies in `other`, which covers other places.
    pub(super) fn add(&mut self, other: Checksums) {
        other.parts.into_iter().for_each(|(offset, part)| self.join(offset, part));
        self.blocks_differing += other.blocks_differing;
        self.first_difference = self.first_difference.into_iter().chain(other.first_difference).min();
    }

    /// What came out, if everything up to `size_bytes` was compared.
    pub(super) fn finish(&self, size_bytes: u64) -> Option<Comparison> {
        let nothing = Part { length: 0, source: 0, destination: 0 };
        let whole = self.parts.get(&0).copied().unwrap_or(nothing);
        (whole.length == size_bytes).then_some(Comparison {
            source: whole.source,
            destination: whole.destination,
            blocks_differing: self.blocks_differing,
            first_difference: self.first_difference,
        })
    }

    fn join(&mut self, offset: u64, mut part: Part) {
        let mut start = offset;
        if let Some((&before, &left)) = self.parts.range(..offset).next_back()
            && before + left.length == offset
        {
            self.parts.remove(&before);
            (start, part) = (before, left.followed_by(&part));
        }
        if let Some(right) = self.parts.remove(&(start + part.length)) {
            part = part.followed_by(&right);
        }
        self.parts.insert(start, part);
    }
}

impl Part {
    fn followed_by(&self, next: &Part) -> Part {
        let combine = |left, right| crc32c_combine(left, right, next.length as usize);
        Part {
            length: self.length + next.length,
            source: combine(self.source, next.source),
            destination: combine(self.destination, next.destination),
        }
    }
}

/// CRC-32C of so many zeroes, by doubling.
fn of_zeroes(length: u64) -> u32 {
    let (mut sum, mut power) = (0, crc32c(&[0]));
    for bit in 0..u64::BITS - length.leading_zeros() {
        let bytes = 1_usize << bit;
        if length >> bit & 1 == 1 {
            sum = crc32c_combine(sum, power, bytes);
        }
        power = crc32c_combine(power, power, bytes);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_zeroes_is_that_of_zeroes() {
        for length in [0, 1, 2, 3, 4095, 4096, 65_537] {
            assert_eq!(of_zeroes(length), crc32c(&vec![0; length as usize]), "{length}");
        }
    }

    #[test]
    fn pieces_in_any_order_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| if n / 1000 % 3 == 0 { 0 } else { n as u8 }).collect();
        let mut sums = Checksums::default();
        for start in [60, 0, 90, 30, 10, 20, 40, 80, 50].map(|start| start * 1000) {
            let piece = &bytes[start..start + 10_000];
            sums.compare(start as u64, piece, piece);
        }
        assert_eq!(sums.finish(100_000), None);
        let mut others = Checksums::default();
        others.compare(70_000, &bytes[70_000..80_000], &bytes[70_000..80_000]);
        sums.add(others);
        let whole = sums.finish(100_000).expect("all was compared");
        assert_eq!((whole.source, whole.first_difference), (crc32c(&bytes), None));
        assert_eq!(whole.source, whole.destination);
    }

    #[test]
    fn zeroes_that_nobody_read_count() {
        let mut sums = Checksums::default();
        sums.both_zero(4, 1_000_000);
        sums.compare(0, b"ring", b"ring");
        let mut whole = b"ring".to_vec();
        whole.resize(1_000_004, 0);
        assert_eq!(sums.finish(1_000_004).expect("all").source, crc32c(&whole));
    }

    #[test]
    fn the_first_difference_is_named_and_blocks_are_counted() {
        let ours = vec![7; 20_000];
        let mut theirs = ours.clone();
        [9000, 9001, 5000].into_iter().for_each(|place: usize| theirs[place] = 8);
        let mut sums = Checksums::default();
        sums.compare(10_000, &ours[10_000..], &theirs[10_000..]);
        sums.compare(0, &ours[..10_000], &theirs[..10_000]);
        let found = sums.finish(20_000).expect("all");
        assert_eq!((found.blocks_differing, found.first_difference), (2, Some(5000)));
        assert_eq!((found.source, found.destination), (crc32c(&ours), crc32c(&theirs)));
    }
}
