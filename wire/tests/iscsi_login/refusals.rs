//! Logins that end early: each kind of misbehaviour with the status that the standard has for it.

use crate::harness::{Door, INITIATOR, Said, TARGET, Talk, names, names_and, text};
use wire::iscsi::login::{LOGIN_DATA_BYTES_MAX, LoginStep};
use wire::iscsi::pdu::LoginRequest;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL: u8 = 3;

fn open() -> Talk {
    Talk::new(Door::default())
}

/// A request of the given shape to a fresh target.
fn first(from: u8, to: u8, pairs: &[(&str, &str)]) -> Said {
    open().send(from, to, pairs)
}

#[test]
fn missing_names_are_missing_parameters() {
    let cases: [&[(&str, &str)]; 3] = [
        &[("SessionType", "Discovery")],
        &[("InitiatorName", INITIATOR)],
        &[("InitiatorName", INITIATOR), ("SessionType", "Normal")],
    ];
    for pairs in cases {
        for stage in [SECURITY, OPERATIONAL] {
            assert_eq!(first(stage, FULL, pairs).status(), (2, 7), "{pairs:?}");
        }
    }
    assert_eq!(first(OPERATIONAL, FULL, &[("TargetName", TARGET)]).status(), (2, 7));
    assert_eq!(first(SECURITY, OPERATIONAL, &[]).status(), (2, 7));
}

#[test]
fn unknown_targets_are_not_found() {
    let pairs = [("InitiatorName", INITIATOR), ("TargetName", "iqn.2026-11.io.ringsan:nope")];
    assert_eq!(first(SECURITY, OPERATIONAL, &pairs).status(), (2, 3));
}

#[test]
fn uninvited_initiators_are_unauthorized() {
    let pairs = [("InitiatorName", "iqn.2005-03.org.example:stranger"), ("TargetName", TARGET)];
    let said = first(SECURITY, OPERATIONAL, &pairs);
    assert_eq!(said.status(), (2, 2));
    let Said::Refuse(_, pairs, reason) = said else { panic!("refused") };
    assert!(pairs.is_empty() && reason.contains("stranger") && reason.contains("0202"), "{reason}");
}

#[test]
fn unlawful_names_are_refused() {
    let long = "iqn.".to_owned() + &"x".repeat(220);
    for name in ["", "two words", "bell\x07", &long] {
        let pairs = [("InitiatorName", name), ("TargetName", TARGET)];
        assert_eq!(first(SECURITY, OPERATIONAL, &pairs).status(), (2, 0), "{name}");
    }
    let longest = &long[..223];
    first(OPERATIONAL, FULL, &[("InitiatorName", longest), ("TargetName", TARGET)]).agreed();
}

#[test]
fn names_may_be_repeated_but_not_changed() {
    let mut talk = open();
    talk.send(SECURITY, OPERATIONAL, &names());
    talk.send(OPERATIONAL, FULL, &names()).agreed();
    for change in
        [("InitiatorName", "iqn.x:other"), ("TargetName", "iqn.x:other"), ("SessionType", "Discovery")]
    {
        let mut talk = open();
        talk.send(SECURITY, OPERATIONAL, &names());
        assert_eq!(talk.send(OPERATIONAL, FULL, &[change]).status(), (2, 0), "{change:?}");
    }
}

#[test]
fn unknown_session_types_are_not_supported() {
    let pairs = [("InitiatorName", INITIATOR), ("SessionType", "Boot"), ("TargetName", TARGET)];
    assert_eq!(first(SECURITY, OPERATIONAL, &pairs).status(), (2, 9));
}

#[test]
fn versions_that_begin_above_ours_are_unsupported() {
    let mut talk = open();
    talk.template.version_min = 1;
    talk.template.version_max = 2;
    assert_eq!(talk.send(OPERATIONAL, FULL, &names()).status(), (2, 5));
    let mut talk = open();
    talk.template.version_max = 9;
    let Said::Done(reply, ..) = talk.send(OPERATIONAL, FULL, &names()) else { panic!("not done") };
    assert_eq!((reply.version_max, reply.version_active), (0, 0));
}

#[test]
fn stage_jumps_that_do_not_exist_are_refused() {
    for (from, to) in [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2), (2, 3), (3, 3), (3, 0)] {
        assert_eq!(first(from, to, &names()).status(), (2, 0), "{from} to {to}");
    }
    let mut talk = open();
    talk.send(SECURITY, OPERATIONAL, &names());
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[]).status(), (2, 0), "back");
    let mut talk = open();
    talk.stay(SECURITY, &names());
    assert_eq!(talk.send(OPERATIONAL, FULL, &[]).status(), (2, 0), "forward without asking");
}

#[test]
fn transit_and_continuation_exclude_each_other() {
    let mut talk = open();
    let request = LoginRequest {
        transit: true,
        continues: true,
        current_stage: OPERATIONAL,
        next_stage: FULL,
        ..talk.template
    };
    assert_eq!(talk.raw(&request, &text(&names())).status(), (2, 0));
}

#[test]
fn keys_that_come_twice_are_refused() {
    let twice = names_and(&[("MaxBurstLength", "65536"), ("MaxBurstLength", "65536")]);
    assert_eq!(first(OPERATIONAL, FULL, &twice).status(), (2, 0));
    let mut talk = open();
    talk.stay(OPERATIONAL, &names_and(&[("MaxBurstLength", "65536")]));
    assert_eq!(talk.send(OPERATIONAL, FULL, &[("MaxBurstLength", "65536")]).status(), (2, 0));
    let mut talk = open();
    talk.stay(OPERATIONAL, &names_and(&[("X-foo", "1")]));
    assert_eq!(talk.send(OPERATIONAL, FULL, &[("X-foo", "1")]).status(), (2, 0));
}

#[test]
fn keys_of_another_phase_are_refused() {
    assert_eq!(first(OPERATIONAL, FULL, &names_and(&[("SendTargets", "All")])).status(), (2, 0));
    for key in ["AuthMethod", "CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"] {
        assert_eq!(first(OPERATIONAL, FULL, &names_and(&[(key, "None")])).status(), (2, 0), "{key}");
    }
}

#[test]
fn malformed_text_is_refused() {
    let mut malformed = text(&names());
    malformed.extend(b"no pair\0");
    let mut talk = open();
    let request = LoginRequest { current_stage: SECURITY, ..talk.template };
    assert_eq!(talk.raw(&request, &malformed).status(), (2, 0));
}

#[test]
fn overlong_text_is_refused() {
    let mut talk = open();
    let request = LoginRequest { current_stage: SECURITY, ..talk.template };
    assert_eq!(talk.raw(&request, &[0; LOGIN_DATA_BYTES_MAX + 1]).status(), (2, 0));
    let mut talk = open();
    let going_on = LoginRequest { continues: true, ..talk.template };
    for _ in 0..8 {
        assert!(matches!(talk.raw(&going_on, &[b'x'; LOGIN_DATA_BYTES_MAX]), Said::Reply(..)));
    }
    assert_eq!(talk.raw(&going_on, b"x").status(), (2, 0));
}

#[test]
fn endless_logins_are_refused() {
    let mut talk = open();
    talk.stay(SECURITY, &names());
    let last = (0..1000).map(|_| talk.stay(SECURITY, &[])).find(|said| matches!(said, Said::Refuse(..)));
    assert_eq!(last.expect("an end").status(), (2, 0));
}

#[test]
fn one_login_is_of_one_connection() {
    let changes: [fn(&mut LoginRequest); 3] =
        [|request| request.isid[0] ^= 1, |request| request.tsih += 1, |request| request.cid += 1];
    for change in changes {
        let mut talk = open();
        talk.send(SECURITY, OPERATIONAL, &names());
        change(&mut talk.template);
        assert_eq!(talk.send(OPERATIONAL, FULL, &[]).status(), (2, 0));
    }
}

#[test]
fn data_before_the_rest_of_an_answer_is_refused() {
    let mut talk = open();
    let keys: Vec<_> = (0..128).map(|at| format!("X-{at:->59}")).collect();
    let unknown: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
    talk.stay(OPERATIONAL, &names());
    let going_on = LoginRequest { continues: true, current_stage: OPERATIONAL, ..talk.template };
    let question = text(&unknown);
    talk.raw(&going_on, &question[..5000]);
    let request = LoginRequest { current_stage: OPERATIONAL, ..talk.template };
    let mut login = talk.login;
    assert!(matches!(login.step(&request, &question[5000..], &talk.door), LoginStep::Reply(..)));
    let step = login.step(&request, b"InitialR2T=No\0", &talk.door);
    assert!(matches!(step, LoginStep::Refuse { .. }), "{step:?}");
}
