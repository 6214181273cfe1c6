//! What a person can do about copies that are lost, given up or forced: each state has a way out.
//!
//! Its one rule: no command stays without an answer, and what `explain` names as the next step can be done.

use replication::*;

use crate::cluster::Cluster;

fn plain(_: &mut ReplicaConfig) {}

fn by_majority(config: &mut ReplicaConfig) {
    config.on_peer_loss = OnPeerLoss::Suspend;
}

/// Two nodes that each began a volume of their own, by force, out of sight of one another.
fn two_volumes(configure: fn(&mut ReplicaConfig)) -> Cluster {
    let mut cluster = Cluster::new(2, 64, configure);
    cluster.set_cut(0, 1, true);
    for node in 0..2 {
        cluster.command(node, Command::Promote { force: true });
    }
    cluster.advance(3000);
    assert_eq!((cluster.status(0).role, cluster.status(1).role), (RoleState::Leads, RoleState::Leads));
    cluster.set_cut(0, 1, false);
    cluster.advance(1000);
    cluster
}

/// The second time nothing was written, and so nothing was answered.
#[test]
fn a_copy_can_be_given_up_twice() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.kill(0, || true);
    for _ in 0..2 {
        let command = cluster.command(1, Command::Discard);
        cluster.quiesce();
        assert_eq!(cluster.nodes[1].answers.get(&command), Some(&Ok(())));
    }
}

/// It asked for a majority for ever, and so was always busy.
#[test]
fn a_leader_that_cannot_resume_can_be_given_up() {
    let mut cluster = Cluster::in_sync(2, 64, by_majority);
    cluster.kill(0, || true);
    cluster.kill(1, || true);
    cluster.start(0);
    cluster.advance(500);
    assert_eq!(cluster.status(0).role, RoleState::Begins);
    let command = cluster.command(0, Command::Discard);
    cluster.advance(100);
    assert_eq!(cluster.nodes[0].answers.get(&command), Some(&Ok(())));
    assert_eq!(cluster.status(0).role, RoleState::New);
}

/// Copies that are new cannot say that nobody has gone on; but here nobody else could have.
#[test]
fn the_only_member_leads_on_among_new_copies() {
    let mut cluster = Cluster::new(3, 64, by_majority);
    for peer in 1..3 {
        cluster.set_cut(0, peer, true);
    }
    cluster.command(0, Command::Promote { force: true });
    cluster.advance(3000);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.kill(0, || true);
    for peer in 1..3 {
        cluster.set_cut(0, peer, false);
    }
    cluster.start(0);
    cluster.advance(5000);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(3));
    assert_eq!(cluster.nodes[2].disk.cache[5], 1);
}

/// It waited for a majority that could not be: the others hold another volume.
#[test]
fn a_leader_alone_can_be_demoted_and_given_up_without_a_majority() {
    let mut cluster = two_volumes(by_majority);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    assert_eq!(cluster.status(1).peers[0].refusal, Some(Refusal::OtherVolume));
    for what in [Command::Demote, Command::Discard] {
        let command = cluster.command(1, what);
        cluster.advance(1000);
        assert_eq!(cluster.nodes[1].answers.get(&command), Some(&Ok(())), "{what:?}");
    }
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(2));
    assert_eq!(cluster.nodes[1].disk.cache[5], 1);
}

/// Without a majority it can neither go on nor be demoted.
#[test]
fn a_suspended_leader_can_be_given_up() {
    let mut cluster = Cluster::in_sync(2, 64, by_majority);
    cluster.kill(1, || true);
    cluster.write(0, 5, &[1]);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).role, RoleState::Suspended);
    let command = cluster.command(0, Command::Discard);
    cluster.advance(100);
    assert_eq!(cluster.nodes[0].answers.get(&command), Some(&Ok(())));
    assert_eq!(cluster.status(0).role, RoleState::New);
}
