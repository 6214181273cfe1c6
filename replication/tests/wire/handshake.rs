//! Handshakes: who gets in, who is refused and with which words, and what an attacker can do with what it heard.

use replication::id::{NodeId, ReplicaId};
use replication::wire::handshake::{
    AcceptStep, Acceptor, Auth, DialStep, Dialer, Features, HandshakeError, Key, KeyTooShort, Linked, Local,
    PACKET_BYTES_MAX, Reason, Versions, VolumeFacts, Wanted,
};

const SIZE: u64 = 20 << 30;

fn key(byte: u8) -> Auth {
    Auth::Key(Key::new(vec![byte; 32]).expect("long enough"))
}

fn local(name: &str, auth: Auth) -> Local {
    Local {
        name: name.to_owned(),
        node: NodeId([name.as_bytes()[0]; 16]),
        versions: Versions::OURS,
        features: Features::default(),
        auth,
    }
}

fn facts(own: u8) -> VolumeFacts {
    VolumeFacts {
        volume: "db".to_owned(),
        replicas: vec!["a".to_owned(), "b".to_owned()],
        own: ReplicaId(own),
        size_bytes: SIZE,
        region_bytes: 64 << 10,
    }
}

/// b dials a.
struct Pair {
    dials: Local,
    its: VolumeFacts,
    accepts: Local,
    facts: VolumeFacts,
    known: Option<NodeId>,
}

type Ends = (Result<Linked, HandshakeError>, Result<Linked, HandshakeError>);

fn pair() -> Pair {
    let (dials, accepts) = (local("b", key(1)), local("a", key(1)));
    Pair { dials, its: facts(1), accepts, facts: facts(0), known: None }
}

fn dial(local: Local, its: VolumeFacts, nonce: u8, out: &mut Vec<u8>) -> Dialer {
    Dialer::new(local, its, ReplicaId(0), [nonce; 32], out)
}

impl Pair {
    /// What the dialer and the acceptor come to, with bytes that arrive in pieces.
    fn meet(self, cut_bytes: usize) -> Ends {
        let (mut to_acceptor, mut to_dialer) = (Vec::new(), Vec::new());
        let mut dialer = dial(self.dials, self.its, 1, &mut to_acceptor);
        let mut acceptor = Some(Acceptor::new(self.accepts, [2; 32]));
        let (mut one, mut other) = (None, None);
        while !to_acceptor.is_empty() || !to_dialer.is_empty() {
            if other.is_none() && !to_acceptor.is_empty() {
                let bytes: Vec<u8> = to_acceptor.drain(..cut_bytes.min(to_acceptor.len())).collect();
                let (taken, step) = acceptor.as_mut().expect("it runs").step(&bytes, &mut to_dialer);
                to_acceptor.splice(..0, bytes[taken..].iter().copied());
                match step {
                    AcceptStep::More => assert_eq!(taken, bytes.len()),
                    AcceptStep::Failed(error) => other = Some(Err(error)),
                    AcceptStep::Wanted(wanted) => {
                        assert_eq!(wanted.volume, self.facts.volume);
                        let acceptor = acceptor.take().expect("it runs");
                        other = Some(acceptor.accept(&self.facts, self.known, &mut to_dialer));
                    }
                }
            } else {
                to_acceptor.clear();
            }
            if one.is_none() && !to_dialer.is_empty() {
                let bytes: Vec<u8> = to_dialer.drain(..cut_bytes.min(to_dialer.len())).collect();
                let (taken, step) = dialer.step(&bytes, &mut to_acceptor);
                to_dialer.splice(..0, bytes[taken..].iter().copied());
                match step {
                    DialStep::More => assert_eq!(taken, bytes.len()),
                    DialStep::Failed(error) => one = Some(Err(error)),
                    DialStep::Linked(linked) => one = Some(Ok(linked)),
                }
            } else {
                to_dialer.clear();
            }
        }
        let silent = || Err(HandshakeError::Malformed("nothing came"));
        (one.unwrap_or_else(silent), other.unwrap_or_else(silent))
    }

    /// One end refuses with this reason, the other hears its words.
    #[track_caller]
    fn must_refuse(self, reason: &Reason, text: &str) {
        assert_eq!(reason.to_string(), text);
        let (refuses, refused) = match self.meet(usize::MAX) {
            (Err(HandshakeError::Refuses(reason)), Err(refused))
            | (Err(refused), Err(HandshakeError::Refuses(reason))) => (reason, refused),
            other => panic!("{other:?}"),
        };
        assert_eq!(refuses, *reason);
        assert_eq!(refused, HandshakeError::Refused { code: reason.code(), text: text.to_owned() });
    }
}

#[test]
fn two_nodes_that_mean_the_same_are_linked() {
    for cut_bytes in [1, 7, 12, usize::MAX] {
        for auth in [Auth::None, key(1)] {
            let mut pair = pair();
            (pair.dials.auth, pair.accepts.auth) = (auth.clone(), auth);
            let linked = |peer: u8, name: &str| Linked {
                version: 1,
                features: 0,
                peer: ReplicaId(peer),
                name: name.to_owned(),
                node: NodeId([name.as_bytes()[0]; 16]),
            };
            assert_eq!(pair.meet(cut_bytes), (Ok(linked(0, "a")), Ok(linked(1, "b"))));
        }
    }
}

#[test]
fn certificates_must_be_for_the_nodes_names() {
    let tls = |names: &[&str]| Auth::Tls { certified: names.iter().map(ToString::to_string).collect() };
    let mut good = pair();
    (good.dials.auth, good.accepts.auth) = (tls(&["a"]), tls(&["x", "b"]));
    assert!(matches!(good.meet(usize::MAX), (Ok(_), Ok(_))));
    let mut impostor = pair();
    (impostor.dials.auth, impostor.accepts.auth) = (tls(&["a"]), tls(&["c"]));
    impostor.must_refuse(
        &Reason::Certificate { node: "b".to_owned() },
        "who calls itself node `b` has a certificate for another name: give each node a certificate with its name",
    );
    let mut elsewhere = pair();
    (elsewhere.dials.auth, elsewhere.accepts.auth) = (tls(&["c"]), tls(&["b"]));
    elsewhere.must_refuse(
        &Reason::Certificate { node: "a".to_owned() },
        "who calls itself node `a` has a certificate for another name: give each node a certificate with its name",
    );
}

#[test]
fn the_highest_common_version_is_taken() {
    let versions = |lowest, highest| Versions { lowest, highest };
    let table = [((1, 1), (1, 2), 1), ((1, 2), (1, 1), 1), ((1, 3), (2, 4), 3), ((2, 2), (1, 9), 2)];
    for ((low, high), (its_low, its_high), agreed) in table {
        let mut pair = pair();
        (pair.dials.versions, pair.accepts.versions) = (versions(low, high), versions(its_low, its_high));
        let (one, other) = pair.meet(usize::MAX);
        assert_eq!((one.expect("linked").version, other.expect("linked").version), (agreed, agreed));
    }
}

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
fn unknown_features_are_ignored_unless_required() {
    let mut both = pair();
    both.dials.features = Features { offered: 0b1101, required: 0b0100 };
    both.accepts.features = Features { offered: 0b0110, required: 0 };
    assert_eq!(both.meet(usize::MAX).0.expect("linked").features, 0b0100);
    for dialer_requires in [false, true] {
        let mut pair = pair();
        let (one, other) = (&mut pair.dials, &mut pair.accepts);
        let (demanding, lacking) = if dialer_requires { (one, other) } else { (other, one) };
        demanding.features = Features { offered: 0b1100, required: 0b1100 };
        lacking.features = Features { offered: 0b0100, required: 0 };
        let (requires, lacks) = (demanding.name.clone(), lacking.name.clone());
        let text = format!(
            "node `{requires}` requires features 0x8, which node `{lacks}` lacks: update node `{lacks}`"
        );
        pair.must_refuse(&Reason::FeatureMissing { requires, lacks, bits: 0b1000 }, &text);
    }
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
        "nodes `a` and `b` have different shared keys: give both the same key file",
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

/// The dialer's half up to the acceptor's `Wanted`.
fn wanted(nonce: u8) -> (Dialer, Acceptor, Wanted, Vec<Vec<u8>>) {
    let mut packets = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut dialer = dial(local("b", key(1)), facts(1), nonce, &mut packets[0]);
    let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
    let mut answer = Vec::new();
    assert_eq!(acceptor.step(&packets[0], &mut answer).1, AcceptStep::More);
    assert_eq!(dialer.step(&answer, &mut packets[2]).1, DialStep::More);
    packets[1] = answer;
    match acceptor.step(&packets[2], &mut Vec::new()).1 {
        AcceptStep::Wanted(wanted) => (dialer, acceptor, wanted, packets),
        other => panic!("{other:?}"),
    }
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

#[test]
fn what_follows_the_handshake_is_left_for_frames() {
    let (mut dialer, acceptor, _, _) = wanted(1);
    let mut out = Vec::new();
    acceptor.accept(&facts(0), None, &mut out).expect("linked");
    let handshake_bytes = out.len();
    out.extend_from_slice(b"RSF1 and more");
    let (taken, step) = dialer.step(&out, &mut Vec::new());
    assert!(matches!(step, DialStep::Linked(_)));
    assert_eq!(taken, handshake_bytes);
}

#[test]
fn a_recorded_dialer_does_not_get_in_again() {
    let (_, _, _, recorded) = wanted(1);
    let mut acceptor = Acceptor::new(local("a", key(1)), [3; 32]);
    let mut out = Vec::new();
    assert_eq!(acceptor.step(&recorded[0], &mut out).1, AcceptStep::More);
    let step = acceptor.step(&recorded[2], &mut out).1;
    assert!(matches!(step, AcceptStep::Failed(HandshakeError::Refuses(Reason::OtherKey { .. }))));
}

#[test]
fn a_recorded_acceptor_is_not_believed_again() {
    let (_, acceptor, _, recorded) = wanted(1);
    let mut accepted = Vec::new();
    acceptor.accept(&facts(0), None, &mut accepted).expect("linked");
    let mut out = Vec::new();
    let mut dialer = dial(local("b", key(1)), facts(1), 9, &mut out);
    assert_eq!(dialer.step(&recorded[1], &mut out).1, DialStep::More);
    let step = dialer.step(&accepted, &mut out).1;
    assert!(matches!(step, DialStep::Failed(HandshakeError::Refuses(Reason::OtherKey { .. }))));
}

/// Whoever has no key sends a node's own packets back to it, in its own or in a second handshake.
#[test]
fn a_nodes_own_packets_prove_nothing_to_it() {
    let mut greeting = Vec::new();
    let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut greeting);
    let step = dialer.step(&greeting, &mut Vec::new()).1;
    assert!(matches!(step, DialStep::Failed(HandshakeError::Refuses(Reason::Itself { .. }))));

    // The attacker poses as `a` with the true a's greeting, and gets b's proof; it gives it back as a's.
    let (mut dialer, _, _, packets) = wanted(1);
    let mut reflected = packets[2].clone();
    reflected[4] = 3;
    let step = dialer.step(&reflected, &mut Vec::new()).1;
    assert!(matches!(step, DialStep::Failed(_)), "{step:?}");
}

#[test]
fn a_flipped_bit_anywhere_ends_the_handshake() {
    let (_, _, _, packets) = wanted(1);
    for (number, packet) in [(0, &packets[0]), (2, &packets[2])] {
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
            let greeting = if number == 0 { &damaged } else { &packets[0] };
            let (mut out, mut dialer_out) = (Vec::new(), Vec::new());
            let step = acceptor.step(greeting, &mut out).1;
            if step != AcceptStep::More || out.is_empty() {
                continue;
            }
            let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut Vec::new());
            let attach = if number == 0 && dialer.step(&out, &mut dialer_out).1 == DialStep::More {
                &dialer_out
            } else {
                &damaged
            };
            let step = acceptor.step(attach, &mut out).1;
            assert!(!matches!(step, AcceptStep::Wanted(_)), "bit {bit} of packet {number}");
        }
    }
}

#[test]
fn what_is_not_a_handshake_is_noticed_at_once() {
    let strange: [&[u8]; 4] =
        [b"G", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"RSF1............"];
    for bytes in strange {
        let step = Acceptor::new(local("a", key(1)), [2; 32]).step(bytes, &mut Vec::new()).1;
        assert!(matches!(step, AcceptStep::Failed(HandshakeError::Malformed(_))), "{bytes:?}");
    }
}

#[test]
fn a_packet_beyond_the_bound_is_refused_by_its_header() {
    let mut packet = b"RSH1\x01\x00\x00\x00".to_vec();
    packet.extend_from_slice(&(PACKET_BYTES_MAX as u32).to_le_bytes());
    let step = Acceptor::new(local("a", key(1)), [2; 32]).step(&packet, &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet is too long")));
}

#[test]
fn packets_out_of_order_end_the_handshake() {
    let (_, _, _, packets) = wanted(1);
    let mut acceptor = Acceptor::new(local("a", Auth::None), [2; 32]);
    let step = acceptor.step(&packets[2], &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet came out of order")));
    let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
    assert_eq!(acceptor.step(&packets[0], &mut Vec::new()).1, AcceptStep::More);
    let step = acceptor.step(&packets[0], &mut Vec::new()).1;
    assert_eq!(step, AcceptStep::Failed(HandshakeError::Malformed("a packet came out of order")));
}

#[test]
fn a_peers_words_are_made_harmless() {
    let mut text = b"\x1b[2J\nsecond line".to_vec();
    text.resize(8000, b'x');
    let mut body = 900_u16.to_le_bytes().to_vec();
    body.extend_from_slice(&(text.len() as u64).to_le_bytes());
    body.extend_from_slice(&text);
    let mut packet = b"RSH1\x04\x00\x00\x00".to_vec();
    packet.extend_from_slice(&(body.len() as u32).to_le_bytes());
    packet.extend_from_slice(&body);
    let mut dialer = dial(local("b", key(1)), facts(1), 1, &mut Vec::new());
    let DialStep::Failed(HandshakeError::Refused { code, text }) = dialer.step(&packet, &mut Vec::new()).1
    else {
        panic!("refused");
    };
    assert_eq!((code, text.len()), (900, 1024));
    assert!(text.starts_with("[2Jsecond line") && !text.chars().any(char::is_control));
}

/// A newer node may say more than this one knows: what it has added is skipped, and covered by the proofs.
#[test]
fn what_a_newer_greeting_adds_is_ignored() {
    let mut greeting = Vec::new();
    dial(local("b", key(1)), facts(1), 1, &mut greeting);
    greeting.extend_from_slice(b"something new");
    let body_bytes = greeting.len() as u32 - 12;
    greeting[8..12].copy_from_slice(&body_bytes.to_le_bytes());
    let mut acceptor = Acceptor::new(local("a", key(1)), [2; 32]);
    let mut out = Vec::new();
    assert_eq!(acceptor.step(&greeting, &mut out), (greeting.len(), AcceptStep::More));
    assert!(!out.is_empty());
}
