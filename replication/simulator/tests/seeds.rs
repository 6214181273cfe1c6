//! Seeds in numbers: every size, every arrangement.
//!
//! Its one rule: a failure says which seed, and the line that runs it again.

use std::sync::atomic::{AtomicU64, Ordering};

use simulator::{Arrangement, Options, Report, run};

const JOBS: usize = 2;

/// Runs seeds of one kind, some at once.
fn run_seeds(seeds: std::ops::Range<u64>, options: &Options) {
    let next = AtomicU64::new(seeds.start);
    let job = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = std::panic::catch_unwind(|| run(seed, options));
            let again = options.command_line(seed);
            let report = report.unwrap_or_else(|_| panic!("an assertion; again: {again} --trace"));
            check(&report, &again);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(job);
        }
    });
}

fn check(report: &Report, again: &str) {
    if let Some(failure) = &report.failure {
        panic!("{}: {}\nagain: {again}", failure.checker, failure.text);
    }
}

/// With every kind of fault: copies given up, forced promotions and leaping clocks included.
fn of(nodes: usize, arrangement: Arrangement) -> Options {
    Options { nodes: Some(nodes), arrangement: Some(arrangement), ..Options::default() }
}

#[test]
fn two_nodes_go_on_without_each_other() {
    run_seeds(0..300, &of(2, Arrangement::Continue));
}

#[test]
fn two_nodes_wait_for_each_other() {
    run_seeds(1000..1250, &of(2, Arrangement::Suspend));
}

#[test]
fn two_nodes_obey_a_coordinator() {
    run_seeds(2000..2250, &of(2, Arrangement::External));
}

#[test]
fn three_nodes_go_on_without_each_other() {
    run_seeds(3000..3250, &of(3, Arrangement::Continue));
}

#[test]
fn three_nodes_go_on_by_majority() {
    run_seeds(4000..4300, &of(3, Arrangement::Suspend));
}

#[test]
fn three_nodes_obey_a_coordinator() {
    run_seeds(5000..5300, &of(3, Arrangement::External));
}

#[test]
fn five_nodes_go_on_without_each_other() {
    run_seeds(6000..6120, &of(5, Arrangement::Continue));
}

#[test]
fn five_nodes_go_on_by_majority() {
    run_seeds(7000..7120, &of(5, Arrangement::Suspend));
}

#[test]
fn five_nodes_obey_a_coordinator() {
    run_seeds(8000..8120, &of(5, Arrangement::External));
}
