//! Every reason to refuse, with its words.

use replication::id::{NodeId, ReplicaId};
use replication::wire::handshake::{Auth, DialStep, HandshakeError, Key, KeyTooShort, Reason, Versions};

use super::{SIZE, key, local, pair, wanted};

#[test]
fn versions_too_far_apart_are_refused() {
    let mut pair = pair();
    pair.accepts.versions = Versions { lowest: 2, highest: 3 };
    let (speaks, its) = (pair.accepts.versions, pair.dials.versions);
    pair.must_refuse(
        &Reason::NoCommonVersion { one: "a".to_owned(), speaks, other: "b".to_owned(), its },
        "node `a` speaks versions 2 to 3 of the protocol between nodes and node `b` 1 to 1: update the older one",
    );
}

#[test]
fn other_ways_to_authenticate_are_refused() {
    let mut pair = pair();
    pair.dials.auth = Auth::None;
    let (error, _) = pair.meet(usize::MAX);
    let text = "node `a` is configured to authenticate peers by a shared key, node `b` by nothing: configure both \
                alike";
    assert_eq!(error, Err(HandshakeError::Refused { code: 3, text: text.to_owned() }));
}

#[test]
fn another_key_is_refused() {
    let mut pair = pair();
    pair.dials.auth = key(2);
    pair.must_refuse(
        &Reason::OtherKey { one: "a".to_owned(), other: "b".to_owned() },
        "nodes `a` and `b` have different shared keys: give both the same `key_file` in [mirror]",
    );
    assert_eq!(Key::new(vec![1; 31]), Err(KeyTooShort(31)));
}

#[test]
fn another_node_at_the_address_is_refused() {
    let mut pair = pair();
    pair.accepts = local("c", key(1));
    pair.must_refuse(
        &Reason::WrongName { expected: "a".to_owned(), found: "c".to_owned() },
        "at the address of node `a` node `c` answers: correct [peers], or the node's name",
    );
}

#[test]
fn a_node_that_dials_itself_is_told() {
    let mut pair = pair();
    pair.accepts = pair.dials.clone();
    pair.must_refuse(
        &Reason::Itself { node: "b".to_owned() },
        "node `b` has dialed itself: under [peers], give each node its own address",
    );
}

#[test]
fn a_copied_state_directory_is_refused() {
    let mut pair = pair();
    pair.accepts.node = pair.dials.node;
    pair.must_refuse(
        &Reason::SameUuid { one: "a".to_owned(), other: "b".to_owned() },
        "nodes `a` and `b` have the same UUID: the state directory of one was copied from the other's; start that \
         one with an empty state directory",
    );
}

#[test]
fn two_nodes_with_one_name_are_refused() {
    let mut ends = pair();
    ends.accepts.name = "b".to_owned();
    ends.must_refuse(
        &Reason::SameName { name: "b".to_owned() },
        "two nodes are named `b`: give one of them another name",
    );
    let mut third = pair();
    third.known = Some(NodeId([9; 16]));
    third.must_refuse(
        &Reason::NameTaken { name: "b".to_owned() },
        "two nodes are named `b`, and one of them is connected already: give one of them another name, or wait \
         until that one is gone if it was installed anew",
    );
    let mut again = pair();
    again.known = Some(again.dials.node);
    assert!(again.meet(usize::MAX).1.is_ok(), "the same node may come again");
}

#[test]
fn a_node_without_a_copy_is_refused() {
    let mut stranger = pair();
    stranger.dials = local("c", key(1));
    stranger.its.replicas = vec!["a".to_owned(), "c".to_owned()];
    stranger.must_refuse(
        &Reason::NotAReplica { node: "c".to_owned(), volume: "db".to_owned() },
        "node `c` is not in `replicas` of volume `db`: add it there on all nodes, or take the volume from that node",
    );
}

#[test]
fn a_claim_to_be_another_replica_is_refused() {
    let mut pair = pair();
    pair.its.replicas.push("c".to_owned());
    pair.facts.replicas.push("c".to_owned());
    pair.its.own = ReplicaId(2);
    let (_, error) = pair.meet(usize::MAX);
    let reason = Reason::NotAReplica { node: "b".to_owned(), volume: "db".to_owned() };
    assert_eq!(error, Err(HandshakeError::Refuses(reason)));
}

#[test]
fn another_list_of_replicas_is_refused() {
    let mut pair = pair();
    pair.facts.replicas = vec!["b".to_owned(), "a".to_owned()];
    pair.facts.own = ReplicaId(1);
    let (one, other) = (pair.facts.replicas.clone(), pair.its.replicas.clone());
    pair.must_refuse(
        &Reason::OtherReplicas { volume: "db".to_owned(), one, other },
        "volume `db` has replicas [\"b\", \"a\"] on one node and [\"a\", \"b\"] on the other: give all nodes the \
         same `replicas`, in the same order",
    );
}

#[test]
fn another_size_is_refused() {
    let mut pair = pair();
    pair.its.size_bytes = SIZE + 512;
    let (volume, one, other) = ("db".to_owned(), "a".to_owned(), "b".to_owned());
    pair.must_refuse(
        &Reason::OtherSize { volume, one, size: SIZE, other, its: SIZE + 512 },
        "volume `db` has 21474836480 bytes on node `a` and 21474836992 on node `b`: give both the same `size`",
    );
}

#[test]
fn other_regions_are_refused() {
    let mut pair = pair();
    pair.its.region_bytes = 4096;
    let (volume, one, other) = ("db".to_owned(), "a".to_owned(), "b".to_owned());
    pair.must_refuse(
        &Reason::OtherRegions { volume, one, size: 65536, other, its: 4096 },
        "volume `db` has regions of 65536 bytes on node `a` and of 4096 on node `b`: give both the same",
    );
}

#[test]
fn the_caller_refuses_in_its_own_words() {
    let volume = "db".to_owned();
    let reasons = [
        (
            Reason::UnknownVolume { node: "a".to_owned(), volume: volume.clone() },
            "node `a` has no mirrored volume `db`: declare it there as well",
        ),
        (
            Reason::NotNow { node: "a".to_owned(), volume },
            "node `a` does not serve volume `db` at the moment: it is tried again",
        ),
    ];
    for (reason, text) in reasons {
        let (mut dialer, acceptor, wanted, _) = wanted(1);
        assert_eq!((wanted.volume.as_str(), wanted.replica), ("db", ReplicaId(1)));
        let mut out = Vec::new();
        let code = reason.code();
        assert_eq!(acceptor.refuse(reason.clone(), &mut out), HandshakeError::Refuses(reason));
        let refused = HandshakeError::Refused { code, text: text.to_owned() };
        assert_eq!(dialer.step(&out, &mut Vec::new()).1, DialStep::Failed(refused));
    }
}
