//! From which record a leader may go on, and what it leaves to the next one.

use replication::*;

use crate::cluster::{BLOCK, Cluster, REGION, plain};
use crate::rules::one_has_lost_its_power;
use crate::seeds::Dice;

/// The next thing happens; if there is none, the next tick comes.
fn go_on(cluster: &mut Cluster) {
    if !cluster.happen(None) {
        cluster.now = cluster.next_wake().expect("somebody waits for something");
        cluster.ticks();
    }
}

fn stored_record(cluster: &Cluster, node: usize) -> Option<Record> {
    cluster.nodes[node].disk.stored.superblock.as_ref().and_then(|superblock| superblock.record)
}

/// A flush of all ended the doubt about what the leader's disk had failed, and it was never sent there. (In one order of
/// many: that flush has to end just when the lead may be handed over.)
#[test]
fn what_a_leaders_disk_has_failed_is_sent_to_it_although_members_were_mended_since() {
    for seed in 1..200 {
        let mut dice = Dice::new(seed);
        let mut cluster = one_has_lost_its_power();
        cluster.nodes[0].disk.fault = Some(DiskFault::NoSpace);
        cluster.write(0, 1000, &[2]);
        while !cluster.nodes[0].notices.iter().any(|notice| matches!(notice, Notice::DiskFailed(_))) {
            assert!(cluster.happen(None));
        }
        cluster.nodes[0].disk.fault = None;
        while cluster.happen(Some(dice.roll())) {}
        cluster.advance(3000);
        assert_eq!(
            (cluster.status(1).role, cluster.status(1).in_sync),
            (RoleState::Leads, ReplicaSet::first(2))
        );
        assert_eq!(cluster.nodes[0].disk.cache[1000], 2, "seed {seed}");
    }
}

/// It flushed all members again and again while a peer's own flush was waited for.
#[test]
fn a_leader_without_space_in_its_log_rests_while_it_waits_for_a_peers_flush() {
    let extent = 64 * REGION / BLOCK;
    let mut cluster = Cluster::in_sync(2, 6 * extent, |config| config.limits.resync_window = REGION);
    cluster.kill(1, || false);
    cluster.advance(2000);
    for number in 0..4 {
        cluster.write(0, number * extent, &[1]);
        cluster.write(0, number * extent + 100, &[1]);
    }
    cluster.quiesce();
    cluster.start(1);
    let last_is_left = |cluster: &Cluster| cluster.status(0).peers[0].resync_bytes == REGION;
    while cluster.nodes[1].disk.cache[0] == 0 || !last_is_left(&cluster) {
        go_on(&mut cluster);
    }
    cluster.nodes[1].disk.stuck = true;
    let request = cluster.write(0, 4 * extent, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.result(0, request), None, "the peer's flush is waited for");
    cluster.nodes[1].disk.stuck = false;
    cluster.advance(1000);
    assert_eq!(cluster.result(0, request), Some(Ok(vec![])));
}

/// A record that only added a member was counted by one that had acknowledged a write, and was never in force.
#[test]
fn a_member_that_adopted_a_larger_set_is_not_split_from_one_that_did_not() {
    let mut cluster = Cluster::in_sync(3, 64, |config| config.coordination = Coordination::External);
    let all = ReplicaSet::first(3);
    cluster.kill(2, || false);
    cluster.advance(2000);
    cluster.start(2);
    while cluster.record.is_some_and(|record| record.in_sync != all) {
        go_on(&mut cluster);
    }
    cluster.freeze(2, true);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(stored_record(&cluster, 1), cluster.record);
    assert_ne!(stored_record(&cluster, 2), cluster.record);
    cluster.kill(0, || true);
    cluster.set_cut(1, 2, true);
    cluster.kill(2, || true);
    cluster.start(2);
    cluster.advance(3000);
    cluster.command(2, Command::Promote { force: false });
    cluster.advance(3000);
    assert_eq!(cluster.status(2).role, RoleState::Leads);
    cluster.set_cut(1, 2, false);
    cluster.advance(3000);
    assert_eq!(cluster.status(1).role, RoleState::InSync);
    assert!(cluster.nodes[1].disk.cache == cluster.nodes[2].disk.cache, "copies differ");
}

/// It took another's term that had never begun for the latest, and led beside the last leader, who had gone on.
#[test]
fn nobody_leads_on_from_a_term_that_was_given_up_unless_the_leader_before_it_consents() {
    let mut cluster = Cluster::in_sync(3, 64, plain);
    cluster.kill(0, || true);
    cluster.set_cut(0, 2, true);
    cluster.start(0);
    cluster.quiesce();
    let command = cluster.command(1, Command::Promote { force: false });
    let has_promised = |cluster: &Cluster| {
        let stored = cluster.nodes[0].disk.stored.superblock.as_ref().expect("it was in sync");
        stored.record.is_some_and(|record| stored.promised > record.epoch)
    };
    while !has_promised(&cluster) {
        assert!(cluster.happen(None));
    }
    // What the new leader says of its term does not reach the last one.
    cluster.freeze(0, true);
    cluster.quiesce();
    assert_eq!(stored_record(&cluster, 2).and_then(|record| record.leader), Some(ReplicaId(1)));
    cluster.set_cut(0, 1, true);
    cluster.freeze(0, false);
    cluster.advance(8000);
    assert!(matches!(cluster.nodes[1].answers[&command], Err(Refusal::Unanswered(_))));
    let leaders = |cluster: &Cluster| {
        (0..3).filter(|&node| cluster.status(node).role == RoleState::Leads).collect::<Vec<_>>()
    };
    assert_eq!(leaders(&cluster), [0]);
    cluster.set_cut(0, 1, false);
    cluster.set_cut(0, 2, false);
    cluster.advance(5000);
    assert_eq!((leaders(&cluster), cluster.status(0).in_sync), (vec![0], ReplicaSet::first(3)));
}

/// A copy that had lost its power gave way to one that had not, and that was no member any more.
#[test]
fn nobody_gives_way_to_a_copy_that_is_out_of_the_latest_set() {
    let mut cluster = Cluster::in_sync(3, 64, |config| config.cache_kept = false);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.freeze(1, true);
    cluster.freeze(2, true);
    cluster.nodes[0].disk.bad_read = true;
    cluster.read(0, 5, 1);
    cluster.quiesce();
    cluster.set_cut(0, 2, true);
    cluster.quiesce();
    let named = stored_record(&cluster, 0).expect("it has led");
    assert_eq!((named.leader, named.in_sync), (Some(ReplicaId(1)), ReplicaSet::only(ReplicaId(1))));
    cluster.power_off(1, || false);
    cluster.freeze(2, false);
    cluster.start(1);
    cluster.advance(8000);
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    cluster.set_cut(0, 2, false);
    cluster.nodes[0].disk.bad_read = false;
    cluster.advance(3000);
    assert_eq!(cluster.status(1).in_sync, ReplicaSet::first(3));
}

/// Its log was given free for new writes, so after a crash it did not tell of those that the others had never had.
#[test]
fn a_leader_without_a_majority_remembers_what_it_wrote_alone() {
    let extent = 64 * REGION / BLOCK;
    let mut cluster = Cluster::in_sync(3, 6 * extent, |config| config.on_peer_loss = OnPeerLoss::Suspend);
    for number in 0..4 {
        cluster.write(0, number * extent + 9, &[1]);
    }
    while cluster.nodes[0].disk.cache[3 * extent as usize + 9] == 0 {
        cluster.set_cut(0, 1, true);
        cluster.set_cut(0, 2, true);
        go_on(&mut cluster);
    }
    cluster.write(0, 5 * extent, &[1]);
    cluster.advance(3000);
    cluster.command(1, Command::Promote { force: false });
    cluster.advance(3000);
    assert_eq!(cluster.status(1).role, RoleState::Leads);
    cluster.kill(0, || false);
    cluster.set_cut(0, 1, false);
    cluster.set_cut(0, 2, false);
    cluster.start(0);
    cluster.advance(5000);
    assert_eq!(cluster.status(1).in_sync, ReplicaSet::first(3));
    assert!(cluster.nodes[0].disk.cache == cluster.nodes[1].disk.cache, "copies differ");
}

/// The epoch in which it was sent was only proposed, and became another leader's: it was carried out twice.
#[test]
fn a_write_of_a_leader_whose_proposal_was_not_taken_is_not_carried_out_again() {
    let mut cluster = Cluster::in_sync(3, 64, |config| config.coordination = Coordination::External);
    cluster.coordinator_away = true;
    cluster.set_cut(0, 2, true);
    let first = cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!((cluster.result(0, first), cluster.nodes[1].disk.cache[5]), (None, 1));
    cluster.freeze(0, true);
    cluster.set_cut(0, 1, true);
    cluster.coordinator_away = false;
    cluster.advance(3000);
    cluster.command(1, Command::Promote { force: false });
    cluster.advance(3000);
    let second = cluster.write(1, 5, &[2]);
    cluster.advance(100);
    assert_eq!(cluster.result(1, second), Some(Ok(vec![])));
    cluster.freeze(0, false);
    cluster.set_cut(0, 1, false);
    cluster.set_cut(0, 2, false);
    cluster.advance(5000);
    assert_eq!(cluster.result(0, first), Some(Ok(vec![])));
    assert!(cluster.nodes.iter().all(|node| node.disk.cache[5] == 2));
}

/// Its history, which it gave to the follower, told of a term that it had given up before: split brain when it led again.
#[test]
fn a_term_that_was_given_up_is_in_nobodys_history() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    for _ in 0..2 {
        let before = stored_record(&cluster, 1);
        cluster.kill(0, || false);
        cluster.start(0);
        while stored_record(&cluster, 1) == before {
            assert!(cluster.happen(None));
        }
    }
    cluster.kill(0, || false);
    cluster.kill(1, || true);
    cluster.start(0);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).role, RoleState::Leads);
    cluster.start(1);
    cluster.advance(3000);
    assert_eq!(
        (cluster.status(1).role, cluster.status(0).in_sync),
        (RoleState::InSync, ReplicaSet::first(2))
    );
}
