//! Whole nodes over a simulated machine: a bounded number of seeds, and that a seed says the same twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use simulation::{hear_panics, run};

/// Seeds that are run in any case.
const SEEDS_MIN: u64 = 8;
/// And as many more as fit into this time, up to a number: `simulate-nodes` runs more.
const TIME: Duration = Duration::from_secs(12);
const SEEDS_MAX: u64 = 100;

#[test]
fn clusters_keep_their_word_whatever_happens() {
    hear_panics();
    let next = AtomicU64::new(1);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS_MAX || seed > SEEDS_MIN && began.elapsed() > TIME {
                        return;
                    }
                    if let Some(failure) = run(seed, None).failure {
                        eprintln!(
                            "seed {seed}: {failure}\nagain: simulate-nodes --seeds 1 --seed {seed} --trace"
                        );
                        std::process::exit(1);
                    }
                }
            });
        }
    });
}

#[test]
fn a_seed_is_the_same_run_twice() {
    let [first, second] = [run(3, Some(2)), run(3, Some(2))];
    assert!(first.events > 100 && first.answered[0] > 0, "{first:?}");
    assert_eq!((first.digest, first.events), (second.digest, second.events));
}
