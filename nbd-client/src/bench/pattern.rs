//! Which request comes next.

use std::fmt;
use std::str::FromStr;

/// Reads or writes, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Random or one after the other.
    pub order: Order,
    /// Of a hundred requests so many are writes.
    pub write_percent: u8,
}

/// Random or one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Anywhere.
    Random,
    /// Each task of a connection goes on where another left off, round and round.
    Sequential,
}

impl Pattern {
    /// Whether it changes the export.
    pub fn writes(self) -> bool {
        self.write_percent > 0
    }

    /// As fio calls it.
    pub fn name(self) -> &'static str {
        match (self.order, self.write_percent) {
            (Order::Random, 0) => "randread",
            (Order::Random, 100) => "randwrite",
            (Order::Random, _) => "randrw",
            (Order::Sequential, 0) => "read",
            (Order::Sequential, 100) => "write",
            (Order::Sequential, _) => "rw",
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    /// As fio calls them.
    fn from_str(text: &str) -> Result<Pattern, String> {
        let (order, write_percent) = match text {
            "randread" => (Order::Random, 0),
            "randwrite" => (Order::Random, 100),
            "randrw" => (Order::Random, 50),
            "read" => (Order::Sequential, 0),
            "write" => (Order::Sequential, 100),
            "rw" | "readwrite" => (Order::Sequential, 50),
            _ => return Err("not one of randread, randwrite, randrw, read, write, rw".into()),
        };
        Ok(Pattern { order, write_percent })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.order == Order::Random { "random" } else { "sequential" };
        match self.write_percent {
            0 => write!(f, "{order} reads"),
            100 => write!(f, "{order} writes"),
            percent => write!(f, "{order} requests, {percent} % writes"),
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) offset: u64,
    pub(super) is_write: bool,
}

/// The requests of one connection, one after the other.
#[derive(Debug)]
pub(super) struct Steps {
    pattern: Pattern,
    block_bytes: u64,
    blocks: u64,
    next: u64,
    random: Random,
}

impl Steps {
    /// Over `size_bytes`, of which a last partial block is left alone. The first sequential request lies at
    /// `share` of the whole, so that connections do not follow one another.
    pub(super) fn new(pattern: Pattern, size_bytes: u64, block_bytes: u64, share: f64, seed: u64) -> Steps {
        let blocks = (size_bytes / block_bytes).max(1);
        let next = (blocks as f64 * share) as u64;
        Steps { pattern, block_bytes, blocks, next, random: Random(seed) }
    }

    pub(super) fn step(&mut self) -> Step {
        let block = match self.pattern.order {
            Order::Random => self.random.below(self.blocks),
            Order::Sequential => {
                self.next = (self.next + 1) % self.blocks;
                self.next
            }
        };
        let is_write = match self.pattern.write_percent {
            0 => false,
            100 => true,
            percent => self.random.below(100) < u64::from(percent),
        };
        Step { offset: block * self.block_bytes, is_write }
    }
}

/// splitmix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, by multiplication: the bias of 2^-64 of the range does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(limit)) >> 64) as u64
    }

    /// So many bytes that nothing can compress.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Steps {
        Steps::new(text.parse().expect("a pattern"), 10_000, 1000, 0.5, 7)
    }

    #[test]
    fn sequential_requests_go_round() {
        let mut steps = steps("read");
        let offsets: Vec<u64> = (0..6).map(|_| steps.step().offset).collect();
        assert_eq!(offsets, [6000, 7000, 8000, 9000, 0, 1000]);
    }

    #[test]
    fn random_requests_reach_all_blocks_and_no_other() {
        let mut steps = steps("randwrite");
        let mut seen = [0; 10];
        for _ in 0..1000 {
            let step = steps.step();
            assert!(step.is_write && step.offset.is_multiple_of(1000));
            seen[step.offset as usize / 1000] += 1;
        }
        assert!(seen.iter().all(|count| (50..200).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_mix_has_both() {
        let mut steps = steps("randrw");
        let writes = (0..1000).filter(|_| steps.step().is_write).count();
        assert!((400..600).contains(&writes), "{writes}");
    }

    #[test]
    fn an_export_shorter_than_a_block_has_one() {
        let mut steps = Steps::new("randread".parse().expect("a pattern"), 5, 1000, 0.0, 1);
        assert_eq!(steps.step().offset, 0);
    }

    #[test]
    fn names_are_those_of_fio() {
        assert_eq!("randrw".parse::<Pattern>().map(|pattern| pattern.write_percent), Ok(50));
        assert!("random".parse::<Pattern>().is_err());
        for name in ["randread", "randwrite", "randrw", "read", "write", "rw"] {
            assert_eq!(name.parse().map(Pattern::name), Ok(name));
        }
    }
}
