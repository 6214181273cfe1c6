//! Our initiator against our target: both come to the same parameters.

use crate::harness::{Door, INITIATOR, TARGET, guarded, user};
use proptest::prelude::*;
use wire::iscsi::chap::Algorithm;
use wire::iscsi::initiator::{InitiatorError, InitiatorLogin, InitiatorStep, LoggedIn, Wishes};
use wire::iscsi::login::{Agreed, Login, LoginStatus, LoginStep};
use wire::iscsi::parameters::{DigestPolicy, Offers};
use wire::iscsi::pdu::LoginResponse;

fn wishes() -> Wishes {
    Wishes {
        initiator_name: INITIATOR.to_owned(),
        target_name: Some(TARGET.to_owned()),
        cmd_sn: 77,
        ..Wishes::default()
    }
}

/// Runs both ends; every session is number 42.
fn meet(wishes: Wishes, offers: Offers, door: &Door) -> Result<(LoggedIn, Agreed), InitiatorError> {
    let mut initiator = InitiatorLogin::new(wishes, [1; 64]);
    let mut target = Login::new(offers, [2; 64]);
    let (mut request, mut data) = initiator.begin();
    let mut last = None;
    for _ in 0..20 {
        let (reply, answer) = match target.step(&request, &data, door) {
            LoginStep::Reply(reply, answer) => (reply, answer),
            LoginStep::Done { mut reply, data, agreed } => {
                reply.tsih = 42;
                reply.max_cmd_sn = reply.exp_cmd_sn + 31;
                last = Some(*agreed);
                (reply, data)
            }
            LoginStep::Refuse { reply, data, .. } => (reply, data),
            LoginStep::Close(reason) => panic!("{reason}"),
        };
        match initiator.step(&reply, &answer) {
            InitiatorStep::Send(next, text) => (request, data) = (next, text),
            InitiatorStep::Done(done) => return Ok((*done, last.expect("the target was done first"))),
            InitiatorStep::Failed(error) => return Err(error),
        }
    }
    panic!("no end")
}

#[track_caller]
fn assert_alike(done: &LoggedIn, agreed: &Agreed) {
    let (ours, theirs) = (&done.parameters, &agreed.parameters);
    assert_eq!(ours.max_recv_data_segment_length, theirs.own_max_recv_data_segment_length);
    assert_eq!(ours.own_max_recv_data_segment_length, theirs.max_recv_data_segment_length);
    let mut mirrored = theirs.clone();
    mirrored.max_recv_data_segment_length = theirs.own_max_recv_data_segment_length;
    mirrored.own_max_recv_data_segment_length = theirs.max_recv_data_segment_length;
    assert_eq!(*ours, mirrored);
    assert_eq!((done.tsih, done.exp_stat_sn), (42, agreed.stat_sn));
    assert_eq!((done.cmd_sn, agreed.cmd_sn, done.max_cmd_sn), (77, 77, 108));
}

#[test]
fn both_agree_in_both_stage_orders() {
    for skips_security in [false, true] {
        let (done, agreed) =
            meet(Wishes { skips_security, ..wishes() }, Offers::default(), &Door::default()).expect("agreed");
        assert_alike(&done, &agreed);
        assert_eq!(done.portal_group, Some(7));
    }
}

#[test]
fn both_agree_in_a_discovery_session() {
    let wishes = Wishes { target_name: None, ..wishes() };
    let (done, agreed) = meet(wishes, Offers::default(), &Door::default()).expect("agreed");
    assert_eq!(done.portal_group, None);
    assert_eq!(agreed.session, wire::iscsi::login::SessionKind::Discovery);
}

#[test]
fn both_prove_themselves_with_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let wishes = Wishes {
            chap: Some(user("alice", "correct horse battery")),
            target_chap: Some(user("target", "the targets own secret")),
            algorithms: vec![algorithm],
            ..wishes()
        };
        let (done, agreed) = meet(wishes, Offers::default(), &guarded()).expect("agreed");
        assert_alike(&done, &agreed);
        assert_eq!(agreed.chap_user.as_deref(), Some("alice"));
    }
}

#[test]
fn initiator_leaves_a_target_that_does_not_prove_itself() {
    let wishes = Wishes {
        chap: Some(user("alice", "correct horse battery")),
        target_chap: Some(user("target", "another secret")),
        ..wishes()
    };
    assert_eq!(meet(wishes.clone(), Offers::default(), &guarded()), Err(InitiatorError::TargetUnproved));
    let open = meet(wishes, Offers::default(), &Door::default());
    assert_eq!(open, Err(InitiatorError::TargetUnproved), "one that asks for nothing proves nothing");
}

#[test]
fn initiator_enters_no_stage_that_it_did_not_ask_for() {
    let granted = |next_stage| LoginResponse { transit: true, next_stage, ..LoginResponse::default() };
    for stage in [0, 2, 3] {
        let mut initiator = InitiatorLogin::new(wishes(), [1; 64]);
        initiator.begin();
        let step = initiator.step(&granted(stage), b"");
        assert!(matches!(step, InitiatorStep::Failed(InitiatorError::Protocol(_))), "{stage}: {step:?}");
    }
}

#[test]
fn initiator_hears_why_it_was_refused() {
    let wrong = Wishes { chap: Some(user("alice", "wrong")), ..wishes() };
    let refused = |status| Err(InitiatorError::Refused { status, address: None });
    assert_eq!(meet(wrong, Offers::default(), &guarded()), refused(LoginStatus::AUTHENTICATION_FAILURE));
    assert_eq!(meet(wishes(), Offers::default(), &guarded()), refused(LoginStatus::AUTHENTICATION_FAILURE));
    let nowhere = Wishes { target_name: Some("iqn.x:nope".to_owned()), ..wishes() };
    assert_eq!(meet(nowhere, Offers::default(), &Door::default()), refused(LoginStatus::NOT_FOUND));
}

fn offers() -> impl Strategy<Value = Offers> {
    use DigestPolicy::{Allowed, Off, Required};
    let digest = || prop_oneof![Just(Off), Just(Allowed), Just(Required)];
    let length = || 512..1_u32 << 24;
    let numbers = (length(), length(), length(), 1..=u16::MAX);
    (digest(), digest(), numbers, any::<[bool; 2]>()).prop_map(
        |(
            header_digest,
            data_digest,
            (own, max_burst_length, first_burst_length, outstanding),
            [r2t, immediate],
        )| {
            Offers {
                header_digest,
                data_digest,
                own_max_recv_data_segment_length: own,
                max_burst_length,
                first_burst_length,
                initial_r2t: r2t,
                immediate_data: immediate,
                max_outstanding_r2t: outstanding,
            }
        },
    )
}

proptest! {
    #[test]
    fn both_agree_or_part_over_digests(ours in offers(), theirs in offers(), skips_security: bool) {
        let digests = [(ours.header_digest, theirs.header_digest), (ours.data_digest, theirs.data_digest)];
        let is_hopeless = digests.iter().any(|pair| {
            matches!(pair, (DigestPolicy::Off, DigestPolicy::Required) | (DigestPolicy::Required, DigestPolicy::Off))
        });
        let wishes = Wishes { offers: ours, skips_security, ..wishes() };
        match meet(wishes, theirs, &Door::default()) {
            Ok((done, agreed)) => {
                prop_assert!(!is_hopeless);
                assert_alike(&done, &agreed);
            }
            Err(InitiatorError::Refused { status, .. }) => {
                prop_assert!(is_hopeless && status == LoginStatus::INITIATOR_ERROR);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
