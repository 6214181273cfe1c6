//! Logins without authentication: stages, names, keys, continuation, redirection.

use crate::harness::{Door, INITIATOR, Said, TARGET, Talk, names, names_and, text};
use wire::iscsi::login::{
    Authentication, LOGIN_DATA_BYTES_MAX, LoginStatus, LoginStep, Redirection, SessionKind,
};
use wire::iscsi::parameters::{DigestPolicy, Offers, Parameters};
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
fn one_request_is_enough() {
    let said =
        first(OPERATIONAL, FULL, &names_and(&[("InitiatorAlias", "my host"), ("HeaderDigest", "CRC32C")]));
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "HeaderDigest", "MaxRecvDataSegmentLength"]);
    let Said::Done(reply, _, agreed) = said else { panic!("{said:?}") };
    assert!(reply.transit && reply.current_stage == OPERATIONAL && reply.next_stage == FULL);
    assert_eq!((reply.isid, reply.tsih, reply.initiator_task_tag), ([0x80, 1, 2, 3, 4, 5], 0, 99));
    assert_eq!((reply.stat_sn, reply.exp_cmd_sn, reply.max_cmd_sn), (0, 1000, 1000));
    assert_eq!(agreed.session, SessionKind::Normal { target_name: TARGET.to_owned() });
    assert_eq!((agreed.initiator_name.as_str(), agreed.initiator_alias.as_str()), (INITIATOR, "my host"));
    assert_eq!((agreed.isid, agreed.tsih, agreed.cid), ([0x80, 1, 2, 3, 4, 5], 0, 3));
    assert_eq!((agreed.cmd_sn, agreed.stat_sn, agreed.chap_user), (1000, 1, None));
    assert!(agreed.parameters.header_digest);
    assert_eq!(agreed.parameters.own_max_recv_data_segment_length, 262_144);
    let negotiated = [("AuthMethod", "None"), ("HeaderDigest", "CRC32C")];
    assert_eq!(agreed.negotiated, negotiated.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn security_comes_before_the_operational_stage() {
    let mut talk = open();
    let said = talk.send(SECURITY, OPERATIONAL, &names_and(&[("AuthMethod", "CHAP,None")]));
    assert_eq!(said.entered(), Some(OPERATIONAL));
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "AuthMethod"]);
    assert_eq!((said.get("TargetPortalGroupTag"), said.get("AuthMethod")), (Some("7"), Some("None")));
    let said = talk.send(OPERATIONAL, FULL, &[("MaxBurstLength", "65536")]);
    assert_eq!(said.keys(), ["MaxBurstLength", "MaxRecvDataSegmentLength"]);
    let agreed = said.agreed();
    assert_eq!((agreed.parameters.max_burst_length, agreed.stat_sn), (65_536, 2));
}

#[test]
fn security_stage_may_be_left_without_a_word() {
    let mut talk = open();
    let said = talk.send(SECURITY, OPERATIONAL, &names());
    assert_eq!((said.entered(), said.keys()), (Some(OPERATIONAL), vec!["TargetPortalGroupTag"]));
    talk.send(OPERATIONAL, FULL, &[]).agreed();
}

#[test]
fn security_stage_may_lead_straight_to_full_feature() {
    let agreed = first(SECURITY, FULL, &names_and(&[("AuthMethod", "None")])).agreed();
    let parameters = agreed.parameters;
    assert_eq!(parameters, Parameters::default(), "nothing was negotiated");
}

#[test]
fn stages_may_be_stayed_in() {
    let mut talk = open();
    assert_eq!(talk.stay(SECURITY, &names()).entered(), None);
    assert_eq!(talk.stay(SECURITY, &[("AuthMethod", "None")]).entered(), None);
    assert_eq!(talk.send(SECURITY, OPERATIONAL, &[]).entered(), Some(OPERATIONAL));
    assert_eq!(talk.stay(OPERATIONAL, &[("InitialR2T", "No")]).entered(), None);
    let agreed = talk.send(OPERATIONAL, FULL, &[("ImmediateData", "No")]).agreed();
    assert!(!agreed.parameters.initial_r2t && !agreed.parameters.immediate_data);
    assert_eq!(agreed.stat_sn, 5);
}

#[test]
fn alias_is_told_first_and_in_normal_sessions_only() {
    let authentication = Authentication { target_alias: "disk 0".to_owned(), ..Authentication::default() };
    let door = Door { authentication, ..Door::default() };
    let said = Talk::new(door.clone()).send(SECURITY, OPERATIONAL, &names());
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "TargetAlias"]);
    assert_eq!(said.get("TargetAlias"), Some("disk 0"));
    let discovery = [("InitiatorName", INITIATOR), ("SessionType", "Discovery")];
    assert!(Talk::new(door).send(SECURITY, OPERATIONAL, &discovery).keys().is_empty());
}

#[test]
fn discovery_needs_no_target() {
    let pairs = [
        ("InitiatorName", INITIATOR),
        ("SessionType", "Discovery"),
        ("MaxBurstLength", "65536"),
        ("MaxRecvDataSegmentLength", "32768"),
    ];
    let said = first(OPERATIONAL, FULL, &pairs);
    assert_eq!(said.get("MaxBurstLength"), Some("Irrelevant"));
    let agreed = said.agreed();
    assert_eq!(agreed.session, SessionKind::Discovery);
    assert_eq!(agreed.parameters.max_recv_data_segment_length, 32_768);
}

#[test]
fn discovery_may_name_a_target_all_the_same() {
    let pairs = [("InitiatorName", INITIATOR), ("SessionType", "Discovery"), ("TargetName", "iqn.x:other")];
    let said = first(OPERATIONAL, FULL, &pairs);
    assert_eq!(said.get("TargetPortalGroupTag"), Some("7"));
    assert_eq!(said.agreed().session, SessionKind::Discovery);
}

#[test]
fn text_goes_on_over_requests() {
    let mut talk = open();
    let whole = text(&names_and(&[("MaxBurstLength", "65536")]));
    let (head, tail) = whole.split_at(33);
    let going_on = LoginRequest { continues: true, current_stage: OPERATIONAL, ..talk.template };
    for part in [head, b""] {
        let Said::Reply(reply, pairs) = talk.raw(&going_on, part) else { panic!("refused") };
        assert!(pairs.is_empty() && !reply.transit && !reply.continues);
    }
    let last = LoginRequest { transit: true, current_stage: OPERATIONAL, next_stage: FULL, ..talk.template };
    let said = talk.raw(&last, tail);
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "MaxBurstLength", "MaxRecvDataSegmentLength"]);
    assert_eq!(said.agreed().stat_sn, 3);
}

#[test]
fn answers_that_are_too_long_go_on_over_responses() {
    let mut talk = open();
    let keys: Vec<_> = (0..128).map(|at| format!("X-{at:->60}")).collect();
    let unknown: Vec<_> = keys.iter().map(|key| (key.as_str(), "")).collect();
    talk.stay(OPERATIONAL, &names());
    let wanted =
        LoginRequest { transit: true, current_stage: OPERATIONAL, next_stage: FULL, ..talk.template };
    let going_on = LoginRequest { continues: true, current_stage: OPERATIONAL, ..talk.template };
    let question = text(&unknown);
    let (head, tail) = question.split_at(LOGIN_DATA_BYTES_MAX.min(question.len() / 2));
    talk.raw(&going_on, head);
    let mut login = talk.login;
    let step = login.step(&wanted, tail, &talk.door);
    let LoginStep::Reply(reply, data) = step else { panic!("{step:?}") };
    assert!(reply.continues && !reply.transit && data.len() == LOGIN_DATA_BYTES_MAX);
    let LoginStep::Done { reply, data: rest, .. } = login.step(&wanted, b"", &talk.door) else {
        panic!("not done")
    };
    assert!(!reply.continues && reply.transit);
    let answers = crate::harness::pairs(&[data, rest].concat());
    assert_eq!(answers.len(), 128);
    assert!(answers.iter().all(|(_, value)| value == "NotUnderstood"));
}

#[test]
fn unknown_keys_are_not_understood() {
    let said = first(
        OPERATIONAL,
        FULL,
        &names_and(&[("X-com.example.magic", "1"), ("initialr2t", "No"), ("RDMAExtensions", "Yes")]),
    );
    for key in ["X-com.example.magic", "initialr2t", "RDMAExtensions"] {
        assert_eq!(said.get(key), Some("NotUnderstood"));
    }
    said.agreed();
}

#[test]
fn keys_of_targets_are_rejected() {
    let said = first(
        OPERATIONAL,
        FULL,
        &names_and(&[("TargetAlias", "x"), ("TargetAddress", "x"), ("TargetPortalGroupTag", "1")]),
    );
    assert_eq!((said.get("TargetAlias"), said.get("TargetAddress")), (Some("Reject"), Some("Reject")));
    said.agreed();
}

#[test]
fn libiscsi_may_negotiate_in_the_security_stage_and_again_later() {
    let mut talk = open();
    let keys =
        names_and(&[("AuthMethod", "CHAP,None"), ("MaxBurstLength", "65536"), ("HeaderDigest", "None")]);
    let said = talk.send(SECURITY, OPERATIONAL, &keys);
    assert_eq!(said.keys(), ["TargetPortalGroupTag", "MaxBurstLength", "HeaderDigest", "AuthMethod"]);
    let again = names_and(&[("MaxBurstLength", "131072"), ("HeaderDigest", "CRC32C,None")]);
    let agreed = talk.send(OPERATIONAL, FULL, &again).agreed();
    assert_eq!(agreed.parameters.max_burst_length, 131_072);
    assert!(agreed.parameters.header_digest);
    assert_eq!(agreed.negotiated.iter().filter(|(key, _)| key == "MaxBurstLength").count(), 1);
}

#[test]
fn requested_session_is_told_and_echoed() {
    let mut talk = open();
    talk.template.tsih = 0x1234;
    let Said::Done(reply, _, agreed) = talk.send(OPERATIONAL, FULL, &names()) else { panic!("not done") };
    assert_eq!((reply.tsih, agreed.tsih), (0x1234, 0x1234));
}

#[test]
fn movers_refuse_what_was_agreed() {
    let Said::Done(reply, ..) = first(OPERATIONAL, FULL, &names()) else { panic!("not done") };
    let refused = LoginStatus::TOO_MANY_CONNECTIONS.refuse(&reply);
    assert_eq!((refused.status_class, refused.status_detail, refused.transit), (2, 6, false));
    assert_eq!(refused.initiator_task_tag, reply.initiator_task_tag);
}

#[test]
fn moved_targets_say_where() {
    for (is_permanent, detail) in [(false, 1), (true, 2)] {
        let moved_to = Some(Redirection { is_permanent, address: "[2001:db8::1]:3260".to_owned() });
        let said = Talk::new(Door { moved_to, ..Door::default() }).send(SECURITY, OPERATIONAL, &names());
        assert_eq!(said.status(), (1, detail));
        assert_eq!(said.keys(), ["TargetAddress"], "no portal group with a redirection");
        assert_eq!(said.get("TargetAddress"), Some("[2001:db8::1]:3260"));
    }
}

#[test]
fn required_digests_are_offered_to_who_does_not() {
    let offers = Offers { header_digest: DigestPolicy::Required, ..Offers::default() };
    let mut talk = Talk::with_offers(Door::default(), offers.clone());
    let said = talk.send(OPERATIONAL, FULL, &names());
    assert_eq!((said.entered(), said.get("HeaderDigest")), (None, Some("CRC32C")));
    assert!(talk.send(OPERATIONAL, FULL, &[("HeaderDigest", "CRC32C")]).agreed().parameters.header_digest);

    let mut talk = Talk::with_offers(Door::default(), offers.clone());
    talk.send(OPERATIONAL, FULL, &names());
    assert_eq!(talk.send(OPERATIONAL, FULL, &[]).status(), (2, 0), "unanswered");

    let said = Talk::with_offers(Door::default(), offers.clone()).send(SECURITY, FULL, &names());
    assert_eq!(said.entered(), Some(OPERATIONAL), "not past the stage in which it could be offered");

    let mut talk = Talk::with_offers(Door::default(), offers);
    assert_eq!(talk.send(OPERATIONAL, FULL, &names_and(&[("HeaderDigest", "None")])).status(), (2, 0));
}
