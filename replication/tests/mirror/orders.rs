//! Small cases in every order: two nodes, one block, two writes, and one mishap at any moment.
//!
//! Whatever may happen next is tried, from every state that has not been seen, up to a bound.
//! Its one rule: from each end the volume becomes whole, with nothing lost that was answered.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use replication::*;

use crate::cluster::Cluster;

/// What may happen once, at any moment.
type Mishap = fn(&mut Cluster);

const STATES_MAX: usize = 3000;
/// Of so many ends it is looked what becomes of them.
const ENDS_MAX: usize = 120;

struct Search {
    seen: BTreeSet<u64>,
    ends: BTreeSet<u64>,
    requests: [(usize, RequestId, u64); 2],
}

impl Search {
    fn visit(&mut self, cluster: &Cluster, mishap: Option<Mishap>) {
        let mut hasher = DefaultHasher::new();
        (cluster.fingerprint(), mishap.is_some()).hash(&mut hasher);
        if self.seen.len() >= STATES_MAX || !self.seen.insert(hasher.finish()) {
            return;
        }
        if let Some(happens) = mishap {
            let mut next = cluster.clone();
            happens(&mut next);
            self.visit(&next, None);
        }
        for number in 0..cluster.choice_count() {
            let mut next = cluster.clone();
            next.choose(number);
            self.visit(&next, mishap);
        }
        if cluster.choice_count() == 0 && self.ends.len() < ENDS_MAX && self.ends.insert(hasher.finish()) {
            self.end(cluster.clone());
        }
    }

    fn end(&self, mut cluster: Cluster) {
        let was_down: Vec<usize> = (0..2).filter(|&node| cluster.nodes[node].replica.is_none()).collect();
        let answered: Vec<u64> = self
            .requests
            .iter()
            .filter(|&&(node, request, _)| matches!(cluster.result(node, request), Some(Ok(_))))
            .map(|&(_, _, value)| value)
            .collect();
        for node in was_down {
            cluster.start(node);
        }
        cluster.set_cut(0, 1, false);
        cluster.advance(4000);
        let found = cluster.nodes[0].disk.cache[5];
        assert_eq!(found, cluster.nodes[1].disk.cache[5], "copies differ");
        assert!(cluster.holds_nothing(), "payload is left");
        let status = cluster.status(0);
        assert_eq!(status.in_sync, ReplicaSet::first(2), "{status:#?}");
        assert!(answered.is_empty() || found != 0, "{answered:?} were answered, and the block holds {found}");
        // Both were asked for at once, so either may be the last; but one that was answered alone is there, or the
        // other that nobody heard of.
        assert!([0, 1, 2].contains(&found));
    }
}

fn try_all(configure: fn(&mut ReplicaConfig), mishap: Mishap) {
    let mut cluster = Cluster::in_sync(2, 8, configure);
    let first = cluster.write(0, 5, &[1]);
    let second = cluster.write(1, 5, &[2]);
    let requests = [(0, first, 1), (1, second, 2)];
    let mut search = Search { seen: BTreeSet::new(), ends: BTreeSet::new(), requests };
    search.visit(&cluster, Some(mishap));
    assert!(!search.ends.is_empty(), "no end was reached");
}

#[test]
fn a_link_may_break_at_any_moment() {
    try_all(|_| {}, |cluster| cluster.disconnect(0, 1));
}

#[test]
fn the_follower_may_die_at_any_moment() {
    try_all(|_| {}, |cluster| cluster.kill(1, || false));
}

#[test]
fn the_leader_may_die_at_any_moment() {
    try_all(|_| {}, |cluster| cluster.kill(0, || true));
}

#[test]
fn the_lead_may_be_handed_over_at_any_moment() {
    try_all(|_| {}, |cluster| _ = cluster.command(0, Command::HandOver));
}

#[test]
fn a_link_may_break_at_any_moment_where_a_majority_decides() {
    try_all(|config| config.on_peer_loss = OnPeerLoss::Suspend, |cluster| cluster.disconnect(0, 1));
}
