//! A node's monotonic clock: faster or slower than the world's, and the rate changes; now and then it leaps forward.
//!
//! Its one rule: rates stay within `RATE_OFF_MAX`, which the margin of a lease covers; it never goes back.

use replication::Time;

/// Of a thousand.
pub(crate) const RATE_OFF_MAX: u64 = 70;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    world: u64,
    local: u64,
    /// Local nanoseconds for a thousand of the world's.
    rate: u64,
}

impl Clock {
    pub(crate) fn new(world: u64, local: u64, rate: u64) -> Clock {
        Clock { world, local, rate }
    }

    #[inline]
    pub(crate) fn local(&self, world: u64) -> Time {
        Time(self.local + (world - self.world) * self.rate / 1000)
    }

    /// When the world's clock is so far that this one shows at least `local`.
    #[inline]
    pub(crate) fn world(&self, local: Time) -> u64 {
        self.world
            .saturating_add((local.0.saturating_sub(self.local)).saturating_mul(1000).div_ceil(self.rate))
    }

    /// It goes forward at once.
    pub(crate) fn leap(&mut self, by: u64) {
        self.local += by;
    }

    pub(crate) fn set_rate(&mut self, world: u64, rate: u64) {
        self.local = self.local(world).0;
        self.world = world;
        self.rate = rate;
    }
}
