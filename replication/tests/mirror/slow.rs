//! Lines that carry little, and leaders that stand still for a moment: nobody is lost or left out for it.

use replication::*;

use crate::cluster::{BLOCK, Cluster, REGION, plain};

const BLOCKS: u64 = 512;
const BYTES: u64 = BLOCKS * BLOCK;
/// A region takes a fifth of `peer_timeout`.
const SLOW: u64 = 5 * REGION;

fn four_regions_a_second(config: &mut ReplicaConfig) {
    config.limits.resync_min_rate = 4 * REGION;
}

/// Two copies, of which one has nothing yet of what fills the other; the line between them is slow.
fn one_lacks_all(configure: fn(&mut ReplicaConfig)) -> Cluster {
    let mut cluster = Cluster::in_sync(2, BLOCKS, configure);
    cluster.set_cut(0, 1, true);
    for block in (0..BLOCKS).step_by(64) {
        cluster.write(0, block, &[block + 1; 64]);
    }
    cluster.quiesce();
    cluster.line_rate = Some(SLOW);
    cluster.set_cut(0, 1, false);
    cluster
}

fn assert_whole(cluster: &Cluster) {
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(2), "{:#?}", cluster.status(0));
    assert_eq!(cluster.nodes[0].disk.cache, cluster.nodes[1].disk.cache);
}

/// Both sides took the other for dead behind what was queued, and it began anew for ever.
#[test]
fn a_resync_over_a_slow_line_ends_over_one_link() {
    let mut cluster = one_lacks_all(plain);
    let links = cluster.sessions();
    cluster.advance(BYTES * 1000 / SLOW * 5 / 4);
    assert_whole(&cluster);
    assert_eq!((cluster.sessions(), cluster.resynced_bytes), (links, BYTES));
}

/// All of it was sent again.
#[test]
fn what_was_resynced_before_a_link_broke_is_not_sent_again() {
    let mut cluster = one_lacks_all(plain);
    for _ in 0..3 {
        cluster.advance(BYTES * 1000 / SLOW / 4);
        cluster.disconnect(0, 1);
        cluster.connect_all();
    }
    cluster.advance(BYTES * 1000 / SLOW);
    assert_whole(&cluster);
    // At each break, what came since the last flush, a second ago or two, and what was under way.
    let again = cluster.resynced_bytes - BYTES;
    assert!(again <= 3 * 2 * SLOW, "{again} bytes were sent twice");
}

#[test]
fn a_resync_ends_at_its_least_rate_under_a_load_without_end() {
    let mut cluster = one_lacks_all(four_regions_a_second);
    let links = cluster.sessions();
    let bound = cluster.now + BYTES / REGION * 250_000_000 * 5 / 4;
    let mut number = 0;
    while cluster.status(0).in_sync != ReplicaSet::first(2) {
        assert!(cluster.now < bound, "{:#?}", cluster.status(0));
        number += 1;
        cluster.read(0, number % BLOCKS, 1);
        if number.is_multiple_of(50) {
            cluster.write(0, number * 7 % BLOCKS, &[number]);
        }
        cluster.advance(5);
    }
    cluster.advance(3000);
    assert_whole(&cluster);
    assert_eq!(cluster.sessions(), links);
}

/// A large frame over a slow line was taken for silence.
#[test]
fn a_part_of_a_message_is_a_sign_of_life() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.freeze(0, true);
    for _ in 0..10 {
        cluster.advance(500);
        cluster.hear(0, 1);
    }
    assert_eq!(cluster.status(1).role, RoleState::InSync);
    cluster.advance(2000);
    assert_ne!(cluster.status(1).role, RoleState::InSync);
}

/// The follower gave the link up, and the leader went on without it.
#[test]
fn a_leader_that_stood_still_for_less_than_the_timeout_keeps_its_follower() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let links = cluster.sessions();
    for still in [700, 850, 990] {
        cluster.advance(190);
        cluster.freeze(0, true);
        cluster.advance(still);
        cluster.freeze(0, false);
        cluster.advance(1000);
    }
    assert_eq!(cluster.sessions(), links);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(2));
}
