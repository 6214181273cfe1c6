//! Handshakes: who gets in (here), who is refused and with which words, and what an attacker can do.

mod attacks;
mod refusals;

use replication::id::{NodeId, ReplicaId};
use replication::wire::handshake::{
    AcceptStep, Acceptor, Auth, DialStep, Dialer, Features, HandshakeError, Key, Linked, Local, Reason,
    Versions, VolumeFacts, Wanted,
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
