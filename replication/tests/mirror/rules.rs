//! What once went wrong, and a few of the rules on their own.

use replication::*;

use crate::cluster::{Cluster, MS, REGION, both, by_majority, plain};

/// A leader without a majority asked for a tick a nanosecond later, for ever.
#[test]
fn a_leader_that_can_do_nothing_is_not_woken_all_the_time() {
    let mut cluster = Cluster::in_sync(2, 64, by_majority);
    cluster.write(0, 5, &[1]);
    cluster.kill(1, || false);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).role, RoleState::Suspended);
    let mut ticks = 0;
    let end = cluster.now + 2000 * MS;
    while cluster.now < end {
        cluster.now = cluster.next_wake().expect("a leader pings").max(cluster.now + 1);
        cluster.ticks();
        cluster.quiesce();
        ticks += 1;
    }
    assert!(ticks < 30, "{ticks} ticks in two seconds");
}

/// It let a lost member in only after a record that needed its agreement.
#[test]
fn a_leader_that_lost_its_majority_gets_it_back_with_the_member() {
    let mut cluster = Cluster::in_sync(2, 64, by_majority);
    let request = cluster.write(0, 5, &[1]);
    cluster.kill(1, || false);
    cluster.advance(3000);
    assert_eq!(cluster.result(0, request), None, "half of two is no majority");
    cluster.start(1);
    cluster.advance(3000);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    assert_eq!(cluster.status(0).in_sync, both());
}

/// A leader that came back bid higher than the one that had been promoted by force, and led alone.
#[test]
fn a_leader_that_was_replaced_by_force_follows_when_it_comes_back() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.kill(0, || true);
    cluster.command(1, Command::Promote { force: true });
    cluster.advance(3000);
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    cluster.write(1, 5, &[2]);
    cluster.advance(500);
    cluster.start(0);
    cluster.advance(3000);
    assert_eq!((cluster.status(0).role, cluster.status(1).role), (RoleState::InSync, RoleState::Leads));
    assert_eq!(cluster.nodes[0].disk.cache[5], 2);
}

/// An empty copy under an old name was taken for one that had missed nothing.
#[test]
fn a_member_that_comes_back_with_an_empty_disk_receives_everything() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.write(0, 5, &[1]);
    cluster.submit(0, Operation::Flush, None);
    cluster.quiesce();
    cluster.replace_disk(1);
    cluster.start(1);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, both());
    assert_eq!(cluster.nodes[1].disk.cache[5], 1);
}

#[test]
fn an_empty_disk_is_not_promoted_although_others_remember_its_node_in_sync() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.kill(0, || true);
    cluster.replace_disk(0);
    cluster.start(0);
    cluster.advance(500);
    let command = cluster.command(0, Command::Promote { force: false });
    cluster.advance(3000);
    assert!(matches!(cluster.nodes[0].answers[&command], Err(Refusal::NotInSync { .. })));
}

/// What it was sent and could not read was waited for, and writes there with it.
#[test]
fn a_read_error_under_a_resync_stops_no_client() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.kill(1, || false);
    cluster.write(0, 5, &[1]);
    cluster.advance(2000);
    cluster.nodes[0].disk.bad_read = true;
    cluster.start(1);
    cluster.advance(1000);
    let request = cluster.write(0, 5, &[2]);
    cluster.advance(1000);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    cluster.nodes[0].disk.bad_read = false;
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, both());
    assert_eq!(cluster.nodes[1].disk.cache[5], 2);
}

#[test]
fn a_full_disk_of_a_follower_costs_it_its_place_and_of_the_leader_the_lead() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.nodes[1].disk.fault = Some(DiskFault::NoSpace);
    let request = cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    cluster.nodes[1].disk.fault = None;
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, both());
    cluster.nodes[0].disk.fault = Some(DiskFault::NoSpace);
    let request = cluster.write(0, 5, &[2]);
    cluster.quiesce();
    cluster.nodes[0].disk.fault = None;
    cluster.advance(3000);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    assert_eq!(cluster.nodes[1].disk.cache[5], 2);
}

#[test]
fn the_disk_fault_of_the_last_copy_is_the_clients_and_the_volume_serves_on() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.kill(1, || false);
    cluster.advance(2000);
    cluster.nodes[0].disk.fault = Some(DiskFault::NoSpace);
    let request = cluster.write(0, 5, &[1]);
    cluster.advance(100);
    assert_eq!(cluster.result(0, request), Some(Err(Fault::Disk(DiskFault::NoSpace))));
    cluster.nodes[0].disk.fault = None;
    let request = cluster.write(0, 5, &[2]);
    cluster.advance(100);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
}

#[test]
fn the_lead_is_handed_over_and_the_one_who_gave_it_stays_in_sync() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let command = cluster.command(0, Command::HandOver);
    let request = cluster.write(0, 5, &[1]);
    cluster.advance(2000);
    assert_eq!(cluster.nodes[0].answers[&command], Ok(()));
    assert_eq!((cluster.status(0).role, cluster.status(1).role), (RoleState::InSync, RoleState::Leads));
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])), "it was forwarded");
    cluster.kill(0, || true);
    cluster.advance(2000);
    let command = cluster.command(1, Command::Demote);
    cluster.advance(500);
    assert_eq!(cluster.nodes[1].answers[&command], Err(Refusal::NoSuccessor));
    assert_eq!(cluster.status(1).role, RoleState::Leads);
}

#[test]
fn a_write_that_is_sent_again_is_carried_out_once() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let first = cluster.write(1, 5, &[1]);
    while cluster.nodes[0].disk.cache[5] != 1 {
        assert!(cluster.happen(None));
    }
    cluster.disconnect(0, 1);
    let second = cluster.write(0, 5, &[2]);
    cluster.advance(3000);
    assert_eq!((cluster.result(1, first), cluster.result(0, second)), (Some(Ok(vec![])), Some(Ok(vec![]))));
    assert_eq!(cluster.nodes[0].disk.cache[5], 2, "the first was not carried out again after the second");
    assert_eq!(cluster.nodes[1].disk.cache[5], 2);
}

#[test]
fn verify_finds_what_differs_and_mends_it_if_asked() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.nodes[1].disk.cache[9] = 77;
    for (repair, differing) in [(false, REGION * 2), (true, REGION * 2), (false, 0)] {
        let command = cluster.command(0, Command::Verify { repair });
        cluster.advance(1000);
        assert_eq!(cluster.nodes[0].answers[&command], Ok(()));
        let last = cluster.nodes[0].notices.iter().rev().find_map(|notice| match notice {
            Notice::Verified { differing_bytes, .. } => Some(*differing_bytes),
            _ => None,
        });
        assert_eq!(last, Some(differing));
    }
    cluster.kill(1, || true);
    cluster.advance(2000);
    let command = cluster.command(0, Command::Verify { repair: false });
    assert_eq!(cluster.nodes[0].answers[&command], Err(Refusal::NoSuccessor));
}

#[test]
fn an_era_ends_with_a_forced_promotion_and_not_with_an_ordinary_one() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let era = cluster.status(0).era;
    assert!(era != 0 && era == cluster.status(1).era);
    cluster.command(0, Command::HandOver);
    cluster.advance(1000);
    assert_eq!((cluster.status(1).role, cluster.status(1).era), (RoleState::Leads, era));
    cluster.kill(1, || true);
    cluster.command(0, Command::Promote { force: true });
    cluster.advance(3000);
    assert_eq!(cluster.status(0).role, RoleState::Leads);
    assert_ne!(cluster.status(0).era, era);
}

#[test]
fn more_requests_than_the_limit_are_refused_and_forwarded_ones_wait() {
    let mut cluster = Cluster::in_sync(2, 64, |config| config.limits.requests_max = 4);
    let own: Vec<_> = (0..6).map(|block| cluster.write(0, block, &[1])).collect();
    let busy = |request: &&RequestId| cluster.result(0, **request) == Some(Err(Fault::Busy));
    assert_eq!(own.iter().filter(busy).count(), 2);
    let others: Vec<_> = (0..4).map(|block| cluster.write(1, block, &[2])).collect();
    cluster.advance(1000);
    assert!(others.iter().all(|&request| cluster.result(1, request) == Some(Ok(vec![]))));
}

/// The second of two has lost with its power what the first, which leads again, still has: in one region of many.
pub fn one_has_lost_its_power() -> Cluster {
    let mut cluster = Cluster::in_sync(2, 1024, plain);
    cluster.write(0, 250, &[1]);
    cluster.quiesce();
    cluster.kill(0, || true);
    cluster.power_off(1, || false);
    assert_eq!((cluster.nodes[0].disk.cache[250], cluster.nodes[1].disk.cache[250]), (1, 0));
    cluster.start(0);
    cluster.start(1);
    while !cluster.nodes[0].replica.as_ref().is_some_and(Replica::leads) {
        assert!(cluster.happen(None));
    }
    assert_eq!(cluster.nodes[1].disk.cache[250], 0, "it is not mended yet");
    cluster
}

/// It was answered while a member still lacked what it had lost with its power.
#[test]
fn a_flush_waits_until_members_hold_the_same() {
    let mut cluster = one_has_lost_its_power();
    let request = cluster.submit(0, Operation::Flush, None);
    while cluster.result(0, request).is_none() {
        assert!(cluster.happen(None));
    }
    assert_eq!(cluster.nodes[1].disk.durable[250], 1);
}

/// The lead went to a member that still lacked what it had lost with its power.
#[test]
fn a_leader_whose_disk_fails_first_sends_what_its_successor_lacks() {
    let mut cluster = one_has_lost_its_power();
    cluster.nodes[0].disk.fault = Some(DiskFault::NoSpace);
    let write = cluster.write(0, 1000, &[2]);
    while cluster.result(0, write).is_none() {
        assert!(cluster.happen(None));
    }
    cluster.nodes[0].disk.fault = None;
    cluster.advance(1000);
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    let read = cluster.read(1, 250, 1);
    cluster.quiesce();
    assert_eq!(cluster.result(1, read), Some(Ok(vec![1])));
}

/// It went on alone by a record that nobody leads, from which it could be promoted beside the others' new leader.
#[test]
fn a_leader_that_loses_the_others_while_it_is_demoted_cannot_lead_beside_them() {
    let mut cluster = Cluster::in_sync(3, 64, plain);
    cluster.command(0, Command::Demote);
    let record = |cluster: &Cluster, node: usize| {
        cluster.nodes[node].disk.stored.superblock.as_ref().and_then(|superblock| superblock.record)
    };
    while record(&cluster, 0).is_none_or(|record| record.leader.is_some()) {
        if !cluster.happen(None) {
            cluster.now = cluster.next_wake().expect("a leader pings");
            cluster.ticks();
        }
    }
    cluster.set_cut(0, 1, true);
    while record(&cluster, 2).is_none_or(|record| record.leader.is_some()) {
        assert!(cluster.happen(None));
    }
    cluster.set_cut(0, 2, true);
    cluster.advance(1000);
    cluster.command(1, Command::Promote { force: false });
    cluster.advance(1000);
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    let command = cluster.command(0, Command::Promote { force: false });
    cluster.advance(1000);
    assert!(cluster.nodes[0].answers[&command].is_err());
    cluster.set_cut(0, 1, false);
    cluster.set_cut(0, 2, false);
    cluster.advance(3000);
    assert_eq!(cluster.status(1).in_sync, ReplicaSet::first(3));
}

/// A record that the coordinator took, and nobody heard of, was counted as a term: split brain with the next leader.
#[test]
fn a_record_that_nobody_adopted_is_in_nobodys_history() {
    let mut cluster = Cluster::in_sync(3, 64, |config| {
        config.coordination = Coordination::External;
        config.cache_kept = false;
    });
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.kill(1, || true);
    cluster.kill(0, || false);
    let record = cluster.record.expect("there is a leader");
    let adopted = cluster.nodes[0].disk.stored.superblock.as_ref().and_then(|superblock| superblock.record);
    assert!(adopted.is_some_and(|adopted| adopted.epoch < record.epoch));
    cluster.start(0);
    cluster.start(1);
    cluster.advance(10_000);
    assert_eq!(cluster.status(2).role, RoleState::Leads);
    assert_eq!(cluster.status(2).in_sync, ReplicaSet::first(3));
}

/// It needed a majority for ever, which the other, still new, was no part of.
#[test]
fn the_only_copy_leads_again_without_a_majority() {
    let mut cluster = Cluster::new(2, 64, by_majority);
    cluster.set_cut(0, 1, true);
    cluster.command(0, Command::Promote { force: true });
    cluster.advance(1000);
    let request = cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    cluster.kill(0, || true);
    cluster.start(0);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).role, RoleState::Leads);
    cluster.set_cut(0, 1, false);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, both());
    cluster.kill(0, || true);
    cluster.start(0);
    cluster.set_cut(0, 1, true);
    cluster.advance(3000);
    assert_ne!(cluster.status(0).role, RoleState::Leads, "one of two copies may be behind");
}

/// The term after it went on in the old era: clients were not told that writes are gone.
#[test]
fn a_loss_is_told_although_the_first_term_after_it_never_comes_into_force() {
    let mut cluster = Cluster::in_sync(2, 64, |config| config.cache_kept = false);
    let era = cluster.status(0).era;
    let request = cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
    cluster.power_off(0, || false);
    cluster.power_off(1, || false);
    cluster.start(0);
    cluster.start(1);
    while cluster.status(0).role != RoleState::Begins {
        if !cluster.happen(None) {
            cluster.now = cluster.next_wake().expect("it waits for the other");
            cluster.ticks();
        }
    }
    cluster.set_cut(0, 1, true);
    assert_eq!(cluster.status(0).era, era);
    cluster.set_cut(0, 1, false);
    cluster.advance(10_000);
    assert_eq!(cluster.status(0).role, RoleState::Leads);
    assert_ne!(cluster.status(0).era, era);
}
