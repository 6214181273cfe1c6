//! Logins with CHAP: one-way, mutual, and everybody who should not get in.

use crate::harness::{Door, INITIATOR, Said, TARGET, Talk, guarded, names, names_and, user};
use wire::iscsi::chap::{Algorithm, Secret, decode_binary, encode_binary};
use wire::iscsi::login::Login;
use wire::iscsi::parameters::Offers;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL: u8 = 3;
const ALICE: &str = "correct horse battery";

fn challenged(algorithms: &str) -> (Talk, Said) {
    let mut talk = Talk::new(guarded());
    let said = talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP,None")]));
    assert_eq!((said.entered(), said.get("AuthMethod")), (None, Some("CHAP")));
    let said = talk.stay(SECURITY, &[("CHAP_A", algorithms)]);
    (talk, said)
}

/// What the question says.
fn question(said: &Said) -> (Algorithm, u8, Vec<u8>) {
    let algorithm = Algorithm::choose(said.get("CHAP_A").expect("an algorithm")).expect("a known one");
    let identifier = said.get("CHAP_I").expect("an identifier").parse().expect("a byte");
    let challenge = decode_binary(said.get("CHAP_C").expect("a challenge"), 1024).expect("binary");
    (algorithm, identifier, challenge)
}

fn response(said: &Said, secret: &str) -> Vec<u8> {
    let (algorithm, identifier, challenge) = question(said);
    algorithm.response(identifier, &Secret::new(secret.as_bytes()), &challenge)
}

/// The whole of it as `name` with `secret`, and more keys in the last request.
fn attempt(name: &str, secret: &str, more: &[(&str, &str)]) -> (Talk, Said) {
    let (mut talk, said) = challenged("7");
    let response = encode_binary(&response(&said, secret));
    let keys = [&[("CHAP_N", name), ("CHAP_R", response.as_str())][..], more].concat();
    let said = talk.send(SECURITY, OPERATIONAL, &keys);
    (talk, said)
}

#[test]
fn every_algorithm_lets_the_right_secret_in() {
    for algorithm in Algorithm::ALL {
        let number = algorithm.number().to_string();
        let (mut talk, said) = challenged(&number);
        assert_eq!(said.get("CHAP_A"), Some(number.as_str()));
        assert_eq!(question(&said).2.len(), 32);
        let response = encode_binary(&response(&said, ALICE));
        let said = talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", &response)]);
        assert_eq!((said.entered(), said.keys()), (Some(OPERATIONAL), vec![]));
        let agreed = talk.send(OPERATIONAL, FULL, &[]).agreed();
        assert_eq!(agreed.chap_user.as_deref(), Some("alice"));
        assert_eq!(agreed.negotiated[0], ("AuthMethod".to_owned(), "CHAP".to_owned()));
    }
}

#[test]
fn proof_may_lead_straight_to_full_feature() {
    let (mut talk, said) = challenged("5");
    let response = encode_binary(&response(&said, ALICE));
    let agreed = talk.send(SECURITY, FULL, &[("CHAP_N", "alice"), ("CHAP_R", &response)]).agreed();
    assert_eq!(agreed.chap_user.as_deref(), Some("alice"));
}

#[test]
fn base64_and_capitals_are_taken_too() {
    let (mut talk, said) = challenged("5");
    let hex = encode_binary(&response(&said, ALICE)).to_uppercase();
    let said = talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", &hex)]);
    assert_eq!(said.entered(), Some(OPERATIONAL));
    let (mut talk, said) = challenged("5");
    let base64 = format!("0b{}", base64(&response(&said, ALICE)));
    let said = talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", &base64)]);
    assert_eq!(said.entered(), Some(OPERATIONAL));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|group| {
        let bits =
            group.iter().fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(|at| if at <= group.len() { digit(at) } else { '=' }).collect::<String>()
    });
    groups.collect()
}

#[test]
fn first_known_algorithm_is_chosen() {
    assert_eq!(challenged("99,6,5").1.get("CHAP_A"), Some("6"));
    assert_eq!(challenged("MD5,8").1.get("CHAP_A"), Some("8"));
}

#[test]
fn unknown_algorithms_alone_are_refused() {
    for list in ["9", "", "4,10"] {
        assert_eq!(challenged(list).1.status(), (2, 1), "{list}");
    }
}

#[test]
fn wrong_secret_and_unknown_user_get_the_same_answer() {
    let (_, wrong) = attempt("alice", "a wrong secret", &[]);
    let (_, unknown) = attempt("mallory", ALICE, &[]);
    let (_, other) = attempt("bob", ALICE, &[]);
    for said in [&wrong, &unknown, &other] {
        assert_eq!(said.status(), (2, 1));
        assert!(said.keys().is_empty());
    }
    let Said::Refuse(_, _, reason) = wrong else { panic!("refused") };
    assert!(reason.contains(INITIATOR) && reason.contains(TARGET), "{reason}");
    assert!(reason.contains("alice") && !reason.contains("secret\""), "{reason}");
    assert!(!reason.contains("correct horse") && !reason.contains("a wrong secret"), "{reason}");
}

#[test]
fn responses_of_the_wrong_length_or_form_are_refused() {
    let right = {
        let (_, said) = challenged("7");
        encode_binary(&response(&said, ALICE))
    };
    let longer = format!("{right}00");
    for response in [&right[..right.len() - 2], &longer, "0x", "", "0x00", "plain", "0b!!"] {
        let (mut talk, _) = challenged("7");
        let said = talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", response)]);
        assert_eq!(said.status(), (2, 1), "{response}");
    }
}

#[test]
fn replayed_response_is_refused() {
    let (_, said) = challenged("7");
    let old = encode_binary(&response(&said, ALICE));
    let mut talk = Talk::new(guarded());
    talk.login = Login::new(Offers::default(), [0x77; 64]);
    talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP")]));
    let fresh = talk.stay(SECURITY, &[("CHAP_A", "7")]);
    assert_ne!(fresh.get("CHAP_C"), said.get("CHAP_C"));
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", &old)]).status(), (2, 1));
}

#[test]
fn target_proves_itself_to_who_asks() {
    let theirs = [0x33; 24];
    let encoded = encode_binary(&theirs);
    let (mut talk, said) = attempt("alice", ALICE, &[("CHAP_I", "200"), ("CHAP_C", &encoded)]);
    assert_eq!((said.entered(), said.get("CHAP_N")), (Some(OPERATIONAL), Some("target")));
    let secret = Secret::new(*b"the targets own secret");
    let expected = Algorithm::Sha256.response(200, &secret, &theirs);
    assert_eq!(said.get("CHAP_R"), Some(encode_binary(&expected).as_str()));
    talk.send(OPERATIONAL, FULL, &[]).agreed();
}

#[test]
fn target_proves_nothing_to_who_has_proved_nothing() {
    let (_, said) = attempt("alice", "a wrong secret", &[("CHAP_I", "200"), ("CHAP_C", "0x1234")]);
    assert_eq!(said.status(), (2, 1));
    assert!(said.keys().is_empty());
}

#[test]
fn reflected_challenge_is_refused() {
    let (_, said) = challenged("7");
    let ours = said.get("CHAP_C").expect("a challenge").to_owned();
    let as_base64 = format!("0b{}", base64(&question(&said).2));
    for reflected in [ours, as_base64] {
        let (_, said) = attempt("alice", ALICE, &[("CHAP_I", "1"), ("CHAP_C", &reflected)]);
        assert_eq!(said.status(), (2, 1));
        assert!(said.keys().is_empty());
    }
}

#[test]
fn one_secret_for_both_directions_is_refused() {
    let mut door = guarded();
    door.authentication.own = Some(user("target", ALICE));
    let mut talk = Talk::new(door);
    talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP")]));
    let said = talk.stay(SECURITY, &[("CHAP_A", "5")]);
    let response = encode_binary(&response(&said, ALICE));
    let keys = [("CHAP_N", "alice"), ("CHAP_R", response.as_str()), ("CHAP_I", "1"), ("CHAP_C", "0x1234")];
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &keys).status(), (2, 1));
}

#[test]
fn mutual_chap_that_is_not_set_up_is_refused() {
    let mut door = guarded();
    door.authentication.own = None;
    let mut talk = Talk::new(door);
    talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP")]));
    let said = talk.stay(SECURITY, &[("CHAP_A", "5")]);
    let response = encode_binary(&response(&said, ALICE));
    let keys = [("CHAP_N", "alice"), ("CHAP_R", response.as_str()), ("CHAP_I", "1"), ("CHAP_C", "0x1234")];
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &keys).status(), (2, 1));
}

#[test]
fn malformed_questions_of_the_initiator_are_refused() {
    let too_long = format!("0x{}", "00".repeat(1025));
    let cases: [&[(&str, &str)]; 7] = [
        &[("CHAP_I", "1")],
        &[("CHAP_C", "0x12")],
        &[("CHAP_I", "256"), ("CHAP_C", "0x12")],
        &[("CHAP_I", "x"), ("CHAP_C", "0x12")],
        &[("CHAP_I", "1"), ("CHAP_C", "12")],
        &[("CHAP_I", "1"), ("CHAP_C", "0x")],
        &[("CHAP_I", "1"), ("CHAP_C", &too_long)],
    ];
    for more in cases {
        assert_eq!(attempt("alice", ALICE, more).1.status(), (2, 0), "{more:?}");
    }
}

#[test]
fn who_offers_no_chap_is_not_authenticated() {
    for offered in ["None", "KRB5,None", "", "chap"] {
        let said = Talk::new(guarded()).send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", offered)]));
        assert_eq!(said.status(), (2, 1), "{offered}");
    }
}

#[test]
fn security_stage_cannot_be_left_out() {
    assert_eq!(Talk::new(guarded()).send(OPERATIONAL, FULL, &names()).status(), (2, 1));
    let discovery = [("InitiatorName", INITIATOR), ("SessionType", "Discovery")];
    assert_eq!(Talk::new(guarded()).send(OPERATIONAL, FULL, &discovery).status(), (2, 1));
}

#[test]
fn security_stage_cannot_be_left_early() {
    let (mut talk, _) = challenged("5");
    assert_eq!(talk.send(SECURITY, FULL, &[]).status(), (2, 1));
    let (mut talk, _) = challenged("5");
    assert_eq!(talk.send(OPERATIONAL, FULL, &[]).status(), (2, 0));
    let mut talk = Talk::new(guarded());
    talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP")]));
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[]).status(), (2, 1));
    let (mut talk, _) = challenged("5");
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice")]).status(), (2, 1));
}

#[test]
fn chap_is_asked_for_where_the_initiator_names_nothing() {
    let mut talk = Talk::new(guarded());
    let said = talk.send(SECURITY, OPERATIONAL, &names());
    assert_eq!((said.entered(), said.get("AuthMethod")), (None, Some("CHAP")));
    let said = talk.stay(SECURITY, &[("AuthMethod", "CHAP"), ("CHAP_A", "5")]);
    assert_eq!(said.get("AuthMethod"), None, "an answer is not answered");
    let response = encode_binary(&response(&said, ALICE));
    let said = talk.send(SECURITY, OPERATIONAL, &[("CHAP_N", "alice"), ("CHAP_R", &response)]);
    assert_eq!(said.entered(), Some(OPERATIONAL));

    let mut talk = Talk::new(guarded());
    talk.send(SECURITY, OPERATIONAL, &names());
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[]).status(), (2, 1), "asked twice");
}

#[test]
fn method_and_algorithms_may_come_at_once() {
    let mut talk = Talk::new(guarded());
    let said = talk.stay(SECURITY, &names_and(&[("AuthMethod", "CHAP"), ("CHAP_A", "5")]));
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C"]);
}

#[test]
fn steps_out_of_order_are_refused() {
    let mut talk = Talk::new(guarded());
    let keys = names_and(&[("AuthMethod", "CHAP"), ("CHAP_N", "alice"), ("CHAP_R", "0x00")]);
    talk.stay(SECURITY, &keys);
    assert_eq!(talk.stay(SECURITY, &[("CHAP_A", "5")]).entered(), None);
    assert_eq!(talk.stay(SECURITY, &[("CHAP_A", "5")]).status(), (2, 0), "twice");
}

#[test]
fn chap_is_not_offered_by_who_needs_none() {
    let said = Talk::new(Door::default()).send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP")]));
    assert_eq!(said.status(), (2, 1));
    let mut talk = Talk::new(Door::default());
    talk.stay(SECURITY, &names_and(&[("AuthMethod", "None")]));
    assert_eq!(talk.stay(SECURITY, &[("CHAP_A", "5")]).status(), (2, 0));
}

#[test]
fn discovery_proves_itself_too() {
    let mut talk = Talk::new(guarded());
    let discovery = [("InitiatorName", INITIATOR), ("SessionType", "Discovery"), ("AuthMethod", "CHAP")];
    talk.send(SECURITY, OPERATIONAL, &discovery);
    let said = talk.stay(SECURITY, &[("CHAP_A", "5")]);
    let response = encode_binary(&response(&said, "bobs long secret"));
    let agreed = talk.send(SECURITY, FULL, &[("CHAP_N", "bob"), ("CHAP_R", &response)]).agreed();
    assert_eq!(agreed.chap_user.as_deref(), Some("bob"));
}

#[test]
fn nothing_that_is_printed_knows_a_secret() {
    let mut talk = Talk::new(guarded());
    talk.login = Login::new(Offers::default(), std::array::from_fn(|at| at as u8));
    talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP"), ("CHAP_A", "5")]));
    let shown = format!("{:?} {:?}", talk.login, talk.door);
    for secret in ["correct horse", "bobs long", "targets own", "40, 41, 42"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
