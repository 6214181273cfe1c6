//! What a person can do about copies that are lost, given up or forced: each state has a way out.
//!
//! Its one rule: no command stays without an answer, and what `explain` names as the next step can be done.

use replication::*;

use crate::cluster::{Cluster, both, by_majority, plain};

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

/// The copy of the first node, whose command is answered.
fn give_up(cluster: &mut Cluster) {
    let command = cluster.command(0, Command::Discard);
    cluster.advance(100);
    assert_eq!(cluster.nodes[0].answers.get(&command), Some(&Ok(())));
    assert_eq!(cluster.status(0).role, RoleState::New);
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
    give_up(&mut cluster);
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
    assert_eq!(cluster.status(0).in_sync, both());
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
    give_up(&mut cluster);
}

/// The next leader knew only what the copy had missed since it was lost, and took the rest for filled.
#[test]
fn a_new_disk_that_one_leader_was_filling_receives_everything_from_the_next() {
    let mut cluster = Cluster::in_sync(3, 64, by_majority);
    cluster.write(0, 5, &[1]);
    cluster.submit(0, Operation::Flush, None);
    cluster.advance(500);
    cluster.replace_disk(1);
    cluster.start(1);
    while cluster.status(0).peers[0].state != PeerState::Resyncing {
        cluster.happen(None);
    }
    cluster.kill(0, || true);
    cluster.advance(2000);
    cluster.command(2, Command::Promote { force: false });
    cluster.advance(5000);
    assert_eq!(cluster.status(2).in_sync, ReplicaSet(0b110));
    assert_eq!(cluster.nodes[1].disk.cache[5], 1);
}

/// What a node's `explain` names, done where it says.
fn take_next_step(cluster: &mut Cluster, node: usize) -> Step {
    let step = cluster.status(node).next_step().expect("somebody has to do something");
    let command = cluster.command(step.at.index(), step.command);
    cluster.advance(3000);
    assert_eq!(cluster.nodes[step.at.index()].answers.get(&command), Some(&Ok(())), "{step:?}");
    step
}

fn says(cluster: &Cluster, node: usize, words: &str) {
    let lines = cluster.nodes[node].replica.as_ref().expect("it runs").explain();
    assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is not in {lines:#?}");
}

#[test]
fn force_is_named_only_once_nobody_is_left_to_bring_back() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    cluster.write(0, 5, &[1]);
    cluster.quiesce();
    cluster.kill(0, || true);
    cluster.advance(1000);
    assert_eq!(cluster.status(1).next_step(), None, "n0 may have gone on");
    says(&cluster, 1, "`ringsan promote` here would be refused");
    cluster.replace_disk(0);
    cluster.start(0);
    cluster.advance(1000);
    says(&cluster, 0, "`ringsan promote` on n1");
    says(&cluster, 1, "`ringsan promote --force` on n1");
    let step = take_next_step(&mut cluster, 1);
    assert_eq!(step, Step { at: ReplicaId(1), command: Command::Promote { force: true } });
    assert_eq!(cluster.status(1).in_sync, both());
    assert_eq!(cluster.nodes[0].disk.cache[5], 1);
}

#[test]
fn who_is_out_of_date_points_to_who_is_not() {
    let mut cluster = Cluster::in_sync(3, 64, plain);
    cluster.kill(2, || true);
    cluster.write(0, 5, &[1]);
    cluster.advance(2000);
    let command = cluster.command(0, Command::Demote);
    cluster.advance(1000);
    assert_eq!(cluster.nodes[0].answers.get(&command), Some(&Ok(())));
    cluster.start(2);
    cluster.advance(1000);
    says(&cluster, 2, "`ringsan promote` on n0");
    take_next_step(&mut cluster, 2);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(3));
}

#[test]
fn copies_that_have_parted_are_named_with_what_to_do() {
    let cluster = two_volumes(plain);
    // Whoever hears the other first ends the link.
    let node = (0..2).find(|&node| cluster.status(node).parted().next().is_some()).expect("one has heard");
    assert_eq!(cluster.status(node).parted().collect::<Vec<_>>(), [ReplicaId(1 - node as u8)]);
    says(&cluster, node, "discard its copy");
}
