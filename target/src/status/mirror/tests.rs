//! A mirror made by hand, for all that renders one; and what becomes of it as JSON.

use hdrhistogram::Histogram;
use replication::{
    Epoch, History, Incarnation, NodeId, PeerState, PeerStatus, Refusal, Replica, ReplicaConfig, ReplicaId,
    ReplicaSet, RoleState, Status, Stored, Term, Time,
};

use super::*;

fn history(terms: &[(u8, u64, u64)]) -> History {
    let term = |&(leader, first, last): &(u8, u64, u64)| Term {
        leader: ReplicaId(leader),
        incarnation: Incarnation(first),
        first: Epoch(first),
        last: Epoch(last),
    };
    History::from_terms(terms.iter().map(term).collect())
}

/// What a new replica a of a, b and c says of itself.
fn new_replica() -> Status {
    let names = vec!["a".into(), "b".into(), "c".into()];
    let config = ReplicaConfig::new(ReplicaId(0), names, NodeId([1; 16]), 64 << 20);
    Replica::open(config, Stored::default(), Time(0)).expect("nothing is stored").status()
}

pub(crate) fn peer(peer: u8, state: PeerState, in_sync: bool) -> PeerStatus {
    let new = new_replica().peers.remove(0);
    PeerStatus { peer: ReplicaId(peer), state, in_sync, ..new }
}

pub(crate) fn link(peer: &str, is_up: bool, trouble: &str) -> LinkSnapshot {
    LinkSnapshot {
        peer: peer.into(),
        is_up,
        links: 2,
        corrupt: 1,
        sent_bytes: 1 << 20,
        received_bytes: 4096,
        trouble: trouble.into(),
        is_advised: false,
    }
}

/// Node a leads a, b and c; b is in sync, c receives what it lacks.
pub(crate) fn leading() -> MirrorSnapshot {
    let mut order = Histogram::new(3).expect("three digits");
    order.record(9_000).expect("in range");
    let none = Histogram::new(3).expect("three digits");
    let resyncing =
        PeerStatus { resync_bytes: 3 << 20, resynced_bytes: 1 << 20, ..peer(2, PeerState::Resyncing, false) };
    let status = Status {
        role: RoleState::Leads,
        leader: Some(ReplicaId(0)),
        epoch: Epoch(5),
        promised: Epoch(6),
        in_sync: ReplicaSet::first(2),
        history: history(&[(1, 2, 2), (0, 3, 5)]),
        peers: vec![PeerStatus { lag_bytes: 8192, ..peer(1, PeerState::InSync, true) }, resyncing],
        ..new_replica()
    };
    MirrorSnapshot {
        explanation: vec!["c: is being brought up to date: 3145728 bytes left, 1048576 sent".into()],
        status,
        stages: vec![order, none.clone(), none.clone(), none],
        links: vec![link("b", true, ""), link("c", true, "")],
        verification: None,
    }
}

/// The same in full health, with two replicas.
pub(crate) fn healthy() -> MirrorSnapshot {
    let mut mirror = leading();
    mirror.status.names.truncate(2);
    mirror.status.peers.truncate(1);
    mirror.links.truncate(1);
    mirror.explanation.clear();
    mirror
}

#[test]
fn replicas_have_names_states_and_progress() {
    let mirror = MirrorStatus::new("db", &leading(), None);
    assert_eq!(
        (mirror.own.as_str(), mirror.role.as_str(), mirror.leader.as_deref()),
        ("a", "leader", Some("a"))
    );
    assert_eq!(mirror.in_sync, ["a", "b"]);
    let states: Vec<_> = mirror.replicas.iter().map(|replica| replica.state.as_str()).collect();
    assert_eq!(states, ["leader", "in_sync", "resync"]);
    let c = mirror.replica("c").expect("it is listed");
    assert_eq!((c.resync_bytes, c.progress, c.in_sync), (Some(3 << 20), Some(0.25), false));
    assert_eq!(mirror.replica("b").expect("it is listed").lag_bytes, 8192);
    let terms: Vec<_> =
        mirror.history.iter().map(|term| (term.leader.as_str(), term.first_epoch, term.last_epoch)).collect();
    assert_eq!(terms, [("b", 2, 2), ("a", 3, 5)]);
    assert_eq!(mirror.stages.keys().collect::<Vec<_>>(), ["order"]);
}

#[test]
fn a_window_tells_how_fast_a_resync_goes() {
    let (before, mut now) = (leading(), leading());
    now.status.peers[1].resynced_bytes = 3 << 20;
    let mirror = MirrorStatus::new("db", &now, Some((Some(&before), 2.0)));
    let c = mirror.replica("c").expect("it is listed");
    assert_eq!(c.resynced_bytes_per_second, Some(f64::from(1 << 20)));
    assert!(mirror.stages.is_empty(), "no write in the window");
}

#[test]
fn a_follower_shows_its_leader_and_never_calls_unknown_lack_nothing() {
    let mut mirror = leading();
    mirror.status.own = ReplicaId(1);
    mirror.status.role = RoleState::Joining;
    mirror.status.peers = vec![peer(0, PeerState::Connected, true), peer(2, PeerState::Connected, false)];
    mirror.explanation = vec!["this copy lacks writes".into()];
    let status = MirrorStatus::new("db", &mirror, None);
    let states: Vec<_> = status.replicas.iter().map(|replica| replica.state.as_str()).collect();
    assert_eq!(states, ["leader", "resync", "connected"]);
    assert_eq!(status.replicas[1].resync_bytes, None);
}

#[test]
fn nothing_out_of_sync_goes_without_a_word() {
    assert_eq!(MirrorStatus::new("db", &healthy(), None).explanation, [""; 0]);
    let mut mirror = leading();
    mirror.explanation.clear();
    let lines = MirrorStatus::new("db", &mirror, None).explanation;
    assert_eq!(lines, ["c: not in sync; `ringsan explain db` on a says why"]);
    mirror.links[1] = link("c", false, "connection refused");
    let lines = MirrorStatus::new("db", &mirror, None).explanation;
    assert_eq!(lines, ["c: no link: connection refused"]);
    mirror.explanation = vec!["c: not linked; it will lack 65536 bytes.".into()];
    let lines = MirrorStatus::new("db", &mirror, None).explanation;
    assert_eq!(lines, ["c: not linked (connection refused); it will lack 64 KiB."]);
}

#[test]
fn commands_in_explanations_name_the_volume_and_refusals_name_nodes() {
    let mut mirror = healthy();
    mirror.explanation = vec!["gone: `ringsan promote` here, or `ringsan discard` there".into()];
    let lines = MirrorStatus::new("db", &mirror, None).explanation;
    assert_eq!(lines, ["gone: `ringsan promote db` here, or `ringsan discard db@NODE` there"]);
    let refusal = Refusal::OtherName(ReplicaId(1));
    mirror.status.peers[0].refusal = Some(refusal.clone());
    mirror.explanation = vec![format!("b: refused: {refusal}")];
    let lines = MirrorStatus::new("db", &mirror, None).explanation;
    assert!(lines.len() == 1 && lines[0].starts_with("b: refused: it says that it is b"), "{lines:?}");
}

#[test]
fn what_is_remembered_is_not_taken_for_what_is() {
    let mut mirror = healthy();
    assert!(MirrorStatus::new("db", &mirror, None).current);
    for role in [RoleState::Consistent, RoleState::Outdated, RoleState::SplitBrain, RoleState::Begins] {
        mirror.status.role = role;
        assert!(!MirrorStatus::new("db", &mirror, None).current, "{role:?}");
    }
}

#[test]
fn differences_that_were_left_are_told_until_they_are_mended() {
    let mut mirror = healthy();
    let differences = vec![("b".to_owned(), 65536, 65536)];
    let found =
        VerificationSnapshot { differing_bytes: 65536, differences, ..VerificationSnapshot::default() };
    mirror.verification = Some(found.clone());
    let status = MirrorStatus::new("db", &mirror, None);
    assert!(status.explanation[0].contains("ringsan verify db --repair"), "{:?}", status.explanation);
    let verification = status.verification.expect("one was asked for");
    assert_eq!(verification.differences[0].replica, "b");
    mirror.verification = Some(VerificationSnapshot { repairs: true, ..found.clone() });
    assert!(MirrorStatus::new("db", &mirror, None).explanation.is_empty());
    mirror.verification = Some(found);
    mirror.status.role = RoleState::InSync;
    assert!(
        MirrorStatus::new("db", &mirror, None).explanation.is_empty(),
        "another leads and may have mended it"
    );
}

#[test]
fn it_reads_back_from_its_json() {
    let mirror = MirrorStatus::new("db", &leading(), None);
    let json = serde_json::to_string(&mirror).expect("it has no value that JSON lacks");
    assert_eq!(serde_json::from_str::<MirrorStatus>(&json).expect("as written"), mirror);
}
