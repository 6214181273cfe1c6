//! Copies that are lost while others are asked about them, and copies that yield.

use replication::*;

use crate::cluster::{Cluster, plain};

/// Both went on without the other.
fn split() -> Cluster {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.set_cut(0, 1, true);
    cluster.write(0, 5, &[1]);
    cluster.advance(2000);
    cluster.command(1, Command::Promote { force: true });
    cluster.advance(2000);
    cluster.write(1, 5, &[2]);
    cluster.quiesce();
    cluster.set_cut(0, 1, false);
    cluster.advance(2000);
    assert_eq!((cluster.status(0).role, cluster.status(1).role), (RoleState::Leads, RoleState::Leads));
    cluster
}

/// It was refused: who led had to be demoted first, with nobody to take over.
#[test]
fn a_leader_yields_in_a_split_brain() {
    for yields in 0..2 {
        let mut cluster = split();
        let era = cluster.status(1 - yields).era;
        let (before, discard) = (cluster.status(yields).era, cluster.command(yields, Command::Discard));
        cluster.advance(3000);
        assert_eq!(cluster.nodes[yields].answers[&discard], Ok(()));
        assert_eq!(cluster.status(1 - yields).in_sync, ReplicaSet::first(2));
        assert_eq!(cluster.nodes[yields].disk.cache, cluster.nodes[1 - yields].disk.cache);
        assert_ne!(before, era, "clients can tell");
        assert_eq!(cluster.status(yields).era, era);
    }
}

#[test]
fn what_waits_on_a_leader_that_yields_is_carried_out_where_the_other_copy_is() {
    let mut cluster = split();
    let write = cluster.write(1, 7, &[3]);
    cluster.command(1, Command::Discard);
    cluster.advance(3000);
    assert_eq!(cluster.result(1, write), Some(Ok(vec![])));
    let read = cluster.read(0, 5, 1);
    cluster.quiesce();
    assert_eq!(cluster.result(0, read), Some(Ok(vec![1])));
    assert!(cluster.holds_nothing());
}

#[test]
fn the_only_copy_that_leads_does_not_yield() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let discard = cluster.command(0, Command::Discard);
    cluster.quiesce();
    assert_eq!(cluster.nodes[0].answers[&discard], Err(Refusal::Leads));
    cluster.set_cut(0, 1, true);
    cluster.advance(2000);
    let discard = cluster.command(0, Command::Discard);
    cluster.quiesce();
    assert_eq!(cluster.nodes[0].answers[&discard], Err(Refusal::Leads));
}

/// It was said to be out of reach, although it was back.
#[test]
fn a_leader_that_is_back_without_its_copy_is_gone_past_by_force_only() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.set_cut(0, 1, true);
    cluster.advance(2000);
    let write = cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.result(0, write), Some(Ok(vec![])));
    cluster.replace_disk(0);
    cluster.set_cut(0, 1, false);
    cluster.start(0);
    for _ in 0..2 {
        cluster.advance(1000);
        let promote = cluster.command(1, Command::Promote { force: false });
        cluster.advance(5000);
        let by = ReplicaSet::only(ReplicaId(0));
        assert_eq!(cluster.nodes[1].answers[&promote], Err(Refusal::CopyLost { by }));
    }
    let forced = cluster.command(1, Command::Promote { force: true });
    cluster.advance(5000);
    assert_eq!(cluster.nodes[1].answers[&forced], Ok(()));
    assert_eq!(cluster.status(1).in_sync, ReplicaSet::first(2));
}
