//! That simulated nodes find deliberate bugs, each within a bounded number of seeds.

use std::sync::atomic::{AtomicUsize, Ordering};

use ringsan::sabotage::Sabotage;
use simulation::{hear_panics, run};

/// A bug that none of so many seeds finds is not found.
const SEEDS_MAX: u64 = 30;

/// Whether one of the seeds fails with this bug.
fn is_found(bug: Sabotage) -> bool {
    Sabotage::set(Some(bug));
    let found = (1..=SEEDS_MAX).any(|seed| run(seed, None).failure.is_some());
    Sabotage::set(None);
    found
}

#[test]
fn each_deliberate_bug_is_found() {
    hear_panics();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let hunt = || {
            while let Some(&bug) = Sabotage::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                assert!(is_found(bug), "{bug:?} is not found by {SEEDS_MAX} seeds");
            }
        };
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(hunt);
        }
    });
}
