//! Lines that carry little: a peer behind one is neither lost nor left out.

use replication::*;

use crate::cluster::Cluster;

fn plain(_: &mut ReplicaConfig) {}

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
