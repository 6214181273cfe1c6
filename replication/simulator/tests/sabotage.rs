//! The simulator can fail: each deliberate bug is found, within so many seeds, and by the check that is meant for it.
//!
//! Its one rule: what finds a bug finds nothing in the same seed without it.

use Arrangement::{External, Suspend};
use Checker::{Divergence, Identity, Leadership, Linearizability, Marks, Promises};
use replication::Sabotage;
use simulator::{Arrangement, Checker, Options, run};

/// Runs seeds with the bug until one of these checks speaks.
fn finds(bug: Sabotage, kind: Option<(usize, Arrangement)>, seeds: u64, checkers: &[Checker]) {
    let (nodes, arrangement) = kind.unzip();
    let clean = Options { nodes, arrangement, ..Options::default() };
    let sabotaged = Options { sabotage: Some(bug), ..clean.clone() };
    let found = (1..=seeds).find(|&seed| {
        let failure = run(seed, &sabotaged).failure;
        let checker = failure.map(|failure| failure.checker);
        checker.is_some_and(|checker| checkers.contains(&checker)) && run(seed, &clean).failure.is_none()
    });
    assert!(found.is_some(), "{bug:?} was not found by {checkers:?} in {seeds} seeds");
}

#[test]
fn a_write_acknowledged_before_the_peer_has_it_is_found() {
    finds(Sabotage::AcknowledgeBeforePeer, None, 100, &[Identity, Linearizability]);
}

#[test]
fn a_flush_acknowledged_before_the_peer_has_done_it_is_found() {
    finds(Sabotage::UnflushedIsDurable, Some((2, External)), 1000, &[Linearizability]);
}

#[test]
fn the_promotion_of_a_stale_replica_is_found() {
    finds(Sabotage::PromoteStale, None, 300, &[Leadership, Linearizability, Identity]);
}

#[test]
fn obeying_an_older_epoch_is_found() {
    finds(Sabotage::ForgetEpochCheck, Some((3, External)), 3000, &[Promises, Divergence]);
}

#[test]
fn a_promise_that_is_not_on_disk_is_found() {
    finds(Sabotage::PromiseInMemory, None, 20, &[Promises]);
}

#[test]
fn overlapping_writes_at_once_are_found() {
    finds(Sabotage::SkipRangeOrder, None, 20, &[Identity]);
}

#[test]
fn a_write_completed_before_the_lost_peer_is_out_is_found() {
    finds(Sabotage::CompleteBeforeRemoval, Some((3, External)), 500, &[Linearizability]);
}

#[test]
fn forgetting_what_a_peer_never_confirmed_is_found() {
    finds(Sabotage::ForgetUnconfirmed, None, 200, &[Identity]);
}

#[test]
fn joining_too_early_is_found() {
    finds(Sabotage::JoinTooEarly, None, 50, &[Identity]);
}

#[test]
fn writing_without_a_mark_is_found() {
    finds(Sabotage::DropActivityLog, None, 10, &[Marks]);
}

#[test]
fn not_asking_for_the_marks_of_others_is_found() {
    finds(Sabotage::IgnorePeersActivity, Some((3, Suspend)), 2000, &[Identity]);
}

#[test]
fn reading_without_a_lease_is_found() {
    finds(Sabotage::IgnoreLease, Some((3, External)), 1000, &[Linearizability]);
}

#[test]
fn believing_a_clock_that_leaps_is_found() {
    finds(Sabotage::BelieveLeapingClock, Some((2, External)), 1000, &[Linearizability]);
}

#[test]
fn overwriting_a_copy_that_has_diverged_is_found() {
    finds(Sabotage::OverwriteDiverged, Some((3, External)), 1000, &[Divergence]);
}

#[test]
fn reading_what_is_not_yet_written_everywhere_is_found() {
    finds(Sabotage::ReadUnfinishedWrite, Some((3, External)), 1000, &[Linearizability]);
}

#[test]
fn a_resync_from_the_stale_side_is_found() {
    finds(Sabotage::ResyncFromStale, None, 20, &[Identity]);
}
