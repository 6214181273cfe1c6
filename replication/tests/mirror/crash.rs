//! Power is lost after every single operation of a disk, at every node, in each of a few stories; what was under way
//! is carried out, or not. Afterwards the copies are the same again, and what was flushed is there.

use std::collections::BTreeMap;

use replication::*;

use crate::cluster::Cluster;

/// What has been asked of the volume: for each block, the value that was flushed last, and those written since.
#[derive(Default)]
struct Story {
    flushed: BTreeMap<u64, u64>,
    later: BTreeMap<u64, Vec<u64>>,
    /// Somebody's writes were given up on purpose.
    forks: bool,
}

impl Story {
    fn write(&mut self, cluster: &mut Cluster, node: usize, block: u64, value: u64) {
        self.later.entry(block).or_default().push(value);
        let write = cluster.write(node, block, &[value]);
        cluster.advance(1);
        let flush = cluster.submit(node, Operation::Flush, None);
        cluster.advance(1300);
        let is_flushed =
            matches!((cluster.result(node, write), cluster.result(node, flush)), (Some(Ok(_)), Some(Ok(_))));
        if is_flushed && !self.forks {
            self.flushed.insert(block, value);
            self.later.remove(&block);
        }
    }
}

fn begins(cluster: &mut Cluster, story: &mut Story) {
    cluster.advance(300);
    story.write(cluster, 0, 5, 1);
}

fn resyncs(cluster: &mut Cluster, story: &mut Story) {
    begins(cluster, story);
    cluster.set_cut(0, 1, true);
    story.write(cluster, 0, 100, 2);
    story.write(cluster, 0, 5, 3);
    cluster.set_cut(0, 1, false);
    cluster.advance(500);
    story.write(cluster, 1, 6, 4);
}

fn moves(cluster: &mut Cluster, story: &mut Story) {
    begins(cluster, story);
    cluster.command(0, Command::HandOver);
    cluster.advance(500);
    story.write(cluster, 1, 5, 2);
    cluster.command(1, Command::Demote);
    cluster.advance(500);
    cluster.command(0, Command::Promote { force: false });
    cluster.advance(500);
    story.write(cluster, 1, 5, 3);
}

fn splits(cluster: &mut Cluster, story: &mut Story) {
    begins(cluster, story);
    story.forks = true;
    cluster.set_cut(0, 1, true);
    story.write(cluster, 0, 5, 2);
    cluster.command(1, Command::Promote { force: true });
    cluster.advance(2500);
    story.write(cluster, 1, 5, 3);
    cluster.set_cut(0, 1, false);
    cluster.advance(500);
    yields(cluster, 0);
    cluster.advance(500);
}

/// An operator gives a copy up.
fn yields(cluster: &mut Cluster, node: usize) {
    cluster.command(node, Command::Demote);
    cluster.advance(200);
    cluster.command(node, Command::Discard);
}

fn is_whole(cluster: &Cluster) -> bool {
    let status: Vec<Status> = (0..2).map(|node| cluster.status(node)).collect();
    status.iter().any(|status| status.role == RoleState::Leads)
        && status.iter().all(|status| status.in_sync == ReplicaSet::first(2))
}

/// What operators do until the volume is whole again.
fn recover(cluster: &mut Cluster) {
    cluster.cut_power = None;
    (0..2)
        .filter(|&node| cluster.nodes[node].replica.is_none())
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|node| cluster.start(node));
    cluster.set_cut(0, 1, false);
    for round in 0..8 {
        cluster.advance(1500);
        if is_whole(cluster) {
            return;
        }
        let splits = |&node: &usize| {
            let peer = &cluster.status(node).peers[0];
            peer.state == PeerState::SplitBrain || peer.refusal == Some(Refusal::OtherVolume)
        };
        if let Some(node) = (0..2).find(splits) {
            yields(cluster, node);
        } else if !(0..2).any(|node| cluster.status(node).role == RoleState::Leads) {
            cluster.command(round % 2, Command::Promote { force: round > 3 });
        }
    }
    panic!("not whole: {:#?}", [cluster.status(0), cluster.status(1)]);
}

fn check(cluster: &mut Cluster, story: &Story, place: &str) {
    assert_eq!(cluster.nodes[0].disk.cache, cluster.nodes[1].disk.cache, "{place}: copies differ");
    for (&block, &value) in story.flushed.iter().filter(|_| !story.forks) {
        let found = cluster.nodes[0].disk.cache[block as usize];
        let later = story.later.get(&block).is_some_and(|later| later.contains(&found));
        assert!(found == value || later, "{place}: block {block} holds {found}, and {value} was flushed");
    }
    assert!(cluster.is_idle() && cluster.holds_nothing(), "{place}: something is left");
}

fn at_every_point(name: &str, tell: fn(&mut Cluster, &mut Story)) {
    for (node, lands) in [(0, false), (0, true), (1, false), (1, true)] {
        for point in 0.. {
            let mut cluster = Cluster::new(2, 256, |_| {});
            let mut story = Story::default();
            cluster.cut_power = Some((node, point));
            cluster.lands = lands;
            tell(&mut cluster, &mut story);
            let is_over = cluster.cut_power.is_some();
            recover(&mut cluster);
            check(&mut cluster, &story, &format!("{name}, node {node}, operation {point}, lands: {lands}"));
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn power_may_go_at_any_point_of_the_first_term() {
    at_every_point("begins", begins);
}

#[test]
fn power_may_go_at_any_point_of_a_resync() {
    at_every_point("resyncs", resyncs);
}

#[test]
fn power_may_go_at_any_point_of_a_change_of_leader() {
    at_every_point("moves", moves);
}

#[test]
fn power_may_go_at_any_point_of_a_split_and_its_end() {
    at_every_point("splits", splits);
}
