//! Times that differ or change, clocks that jump, and rules of loss that change while a machine runs.

use replication::*;

use crate::cluster::{Cluster, MS, both, by_majority, plain};

/// A leader counted on its followers for as long as its own configuration says, which may be longer than theirs.
#[test]
fn a_lease_lasts_as_long_as_the_one_who_grants_it_says() {
    let mut cluster = Cluster::in_sync(3, 64, by_majority);
    let timing = Timing {
        peer_timeout: 10_000 * MS,
        ping: 2000 * MS,
        lease: 10_000 * MS,
        lease_margin: 2000 * MS,
        ..Timing::default()
    };
    cluster.event(0, Event::Reconfigured { on_peer_loss: OnPeerLoss::Suspend, timing });
    cluster.write(0, 5, &[1]);
    cluster.advance(5000);
    assert_eq!(cluster.status(0).in_sync, ReplicaSet::first(3), "it asks often enough for them");
    (1..3).for_each(|node| cluster.freeze(node, true));
    cluster.advance(1000);
    let read = cluster.read(0, 5, 1);
    cluster.quiesce();
    assert_eq!(cluster.result(0, read), None, "the others may have promoted one of them by now");
    (1..3).for_each(|node| cluster.freeze(node, false));
    cluster.advance(3000);
    assert_eq!(cluster.result(0, read), Some(Ok(vec![1])));
}

/// A lease was over as soon as the clock of the one who had granted it jumped.
#[test]
fn a_lease_outlasts_a_jump_of_the_clock() {
    let mut cluster = Cluster::in_sync(3, 64, by_majority);
    (1..3).for_each(|node| cluster.set_cut(0, node, true));
    (1..3).for_each(|node| cluster.nodes[node].ahead = 3600 * 1000 * MS);
    cluster.command(2, Command::Promote { force: false });
    cluster.advance(500);
    assert_ne!(cluster.status(2).role, RoleState::Leads, "the old leader may read yet");
    cluster.advance(3000);
    assert_eq!(cluster.status(2).role, RoleState::Leads);
}

#[test]
fn writes_that_wait_for_a_majority_go_on_when_they_may_by_a_new_configuration() {
    let mut cluster = Cluster::in_sync(2, 64, by_majority);
    cluster.kill(1, || false);
    let write = cluster.write(0, 5, &[1]);
    cluster.advance(5000);
    assert_eq!((cluster.status(0).role, cluster.result(0, write)), (RoleState::Suspended, None));
    let timing = Timing::default();
    cluster.event(0, Event::Reconfigured { on_peer_loss: OnPeerLoss::Continue, timing });
    cluster.advance(500);
    assert_eq!((cluster.status(0).role, cluster.result(0, write)), (RoleState::Leads, Some(Ok(vec![]))));
    cluster.event(0, Event::Reconfigured { on_peer_loss: OnPeerLoss::Suspend, timing });
    cluster.start(1);
    cluster.advance(3000);
    assert_eq!(cluster.status(0).in_sync, both());
}

/// Three need a majority, and one that still goes on alone would not know of it.
#[test]
fn of_three_none_goes_on_alone_by_its_own_new_configuration() {
    let mut cluster = Cluster::in_sync(3, 64, by_majority);
    (1..3).for_each(|node| cluster.kill(node, || false));
    let write = cluster.write(0, 5, &[1]);
    cluster.advance(3000);
    cluster.event(0, Event::Reconfigured { on_peer_loss: OnPeerLoss::Continue, timing: Timing::default() });
    cluster.advance(3000);
    assert_eq!((cluster.status(0).role, cluster.result(0, write)), (RoleState::Suspended, None));
}

#[test]
fn a_silent_peer_is_out_after_the_time_of_the_new_configuration() {
    let mut cluster = Cluster::in_sync(2, 64, plain);
    let mut timing = Timing { peer_timeout: 5000 * MS, ping: 1000 * MS, ..Timing::default() };
    let lasts = |cluster: &mut Cluster| {
        cluster.freeze(1, true);
        let (write, begun) = (cluster.write(0, 5, &[1]), cluster.now);
        while cluster.result(0, write).is_none() {
            cluster.advance(100);
        }
        cluster.freeze(1, false);
        let waited = (cluster.now - begun) / MS;
        cluster.advance(5000);
        assert_eq!(cluster.status(0).in_sync, both());
        waited
    };
    for node in 0..2 {
        cluster.event(node, Event::Reconfigured { on_peer_loss: OnPeerLoss::Continue, timing });
    }
    let waited = lasts(&mut cluster);
    assert!((4800..5500).contains(&waited), "{waited} ms");
    (timing.peer_timeout, timing.ping) = (500 * MS, 100 * MS);
    for node in 0..2 {
        cluster.event(node, Event::Reconfigured { on_peer_loss: OnPeerLoss::Continue, timing });
    }
    let waited = lasts(&mut cluster);
    assert!((400..1000).contains(&waited), "{waited} ms");
}
