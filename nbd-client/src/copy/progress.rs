//! How far a copy is, for whoever watches it from another thread, and the wish to end it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that only grow within a phase.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    passed: AtomicU64,
    written: AtomicU64,
    verifies: AtomicBool,
    stops: AtomicBool,
}

impl Progress {
    /// How many bytes the image has; 0 until that is known.
    pub fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many of them are as they are to be, or compared.
    pub fn passed_bytes(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// How many bytes of data were written.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the copy is done and both sides are compared now.
    pub fn verifies(&self) -> bool {
        self.verifies.load(Ordering::Relaxed)
    }

    /// Ends the copy soon, in a state from which it can go on.
    pub fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, total: u64, passed: u64, verifies: bool) {
        self.verifies.store(verifies, Ordering::Relaxed);
        self.passed.store(passed, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn pass(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn write(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
}
