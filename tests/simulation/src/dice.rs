//! Where all chance comes from: the same numbers for the same seed.
//!
//! Its one rule: nothing else in this crate is random.

/// A small generator.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A generator of its own, so that what one draws does not change what another does.
    pub fn child(&mut self) -> Dice {
        Dice(self.roll())
    }

    /// Any number (SplitMix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(limit.max(1))) >> 64) as u64
    }

    /// The same, for places in lists.
    pub fn index(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// As often short as long: each doubling from `low` to `high` is equally likely.
    pub fn scale(&mut self, low: u64, high: u64) -> u64 {
        let octave = low << self.below(u64::from((high / low).max(1).ilog2()) + 1);
        self.between(octave, octave * 2 - 1).min(high)
    }

    /// True so often in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// True so often in ten thousand.
    pub fn permyriad(&mut self, chance: u64) -> bool {
        self.below(10_000) < chance
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
