//! Rules 1, 2, 5, 6: when a write or a flush is answered.

use replication::*;

use crate::cluster::{Cluster, plain};

#[test]
fn a_new_volume_is_promoted_and_every_copy_joins_without_a_resync_of_zeros() {
    let cluster = Cluster::in_sync(3, 64, plain);
    assert_eq!(cluster.resynced_bytes, 0);
    assert_eq!(cluster.status(0).role, RoleState::Leads);
    assert_eq!(cluster.status(1).role, RoleState::InSync);
}

#[test]
fn an_answered_write_is_on_every_member() {
    let mut cluster = Cluster::in_sync(3, 64, plain);
    let request = cluster.write(0, 5, &[1, 2]);
    while cluster.result(0, request).is_none() {
        assert!(cluster.happen(None), "it is answered in the end");
    }
    for node in &cluster.nodes {
        assert_eq!(node.disk.cache[5..7], [1, 2]);
    }
    cluster.quiesce();
    assert!(cluster.holds_nothing());
}

#[test]
fn an_answered_flush_is_durable_on_every_member() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.nodes[1].disk.durable[5], 0);
    let request = cluster.submit(0, Operation::Flush, None);
    while cluster.result(0, request).is_none() {
        assert!(cluster.happen(None), "it is answered in the end");
    }
    assert!(cluster.nodes.iter().all(|node| node.disk.durable[5] == 1));
}

#[test]
fn a_client_of_a_follower_is_served_by_the_leader() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let write = cluster.write(1, 3, &[9]);
    cluster.quiesce();
    let read = cluster.read(1, 3, 1);
    cluster.quiesce();
    assert_eq!(cluster.result(1, write), Some(Ok(vec![])));
    assert_eq!(cluster.result(1, read), Some(Ok(vec![9])));
    assert!(cluster.holds_nothing());
}

#[test]
fn a_write_waits_for_a_frozen_peer_until_it_is_out_and_no_longer() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.freeze(1, true);
    let request = cluster.write(0, 5, &[1]);
    cluster.advance(700);
    assert_eq!(cluster.result(0, request), None);
    cluster.advance(500);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    let stored = cluster.nodes[0].disk.stored.superblock.as_ref().expect("it is written");
    assert_eq!(stored.record.expect("there is one").in_sync, ReplicaSet::only(ReplicaId(0)));
}

#[test]
fn a_peer_that_was_away_receives_what_was_written_and_what_it_never_confirmed() {
    let mut cluster = Cluster::in_sync(2, 256, plain);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.power_off(1, || false);
    cluster.write(0, 100, &[2]);
    cluster.advance(2000);
    cluster.start(1);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(2));
    assert_eq!(cluster.nodes[0].disk.cache, cluster.nodes[1].disk.cache);
    assert_eq!(cluster.resynced_bytes, 2 * crate::cluster::REGION);
    assert_eq!((cluster.nodes[1].disk.durable[5], cluster.nodes[1].disk.durable[100]), (1, 2));
}
