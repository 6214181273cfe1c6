//! Text negotiation: SendTargets, continuation both ways, what may be declared again.

use wire::iscsi::pdu::{NO_TAG, RejectReason, Request, Response, TextRequest, TextResponse};
use wire::iscsi::session::Effect;

use crate::harness::*;

fn asks() -> TextRequest {
    TextRequest {
        immediate: true,
        is_final: true,
        initiator_task_tag: 1,
        target_transfer_tag: NO_TAG,
        cmd_sn: FIRST_CMD_SN,
        ..TextRequest::default()
    }
}

#[track_caller]
fn said(effects: Vec<Effect>) -> (TextResponse, String) {
    match &effects[..] {
        [Effect::Send(Response::Text(response), data)] => {
            (*response, String::from_utf8(data.clone()).expect("text"))
        }
        other => panic!("{other:?}"),
    }
}

fn answer(mover: &mut Mover, text: &str) -> String {
    let (response, data) = said(mover.give(Request::Text(asks()), text.as_bytes()));
    assert!(response.is_final && !response.continues && response.target_transfer_tag == NO_TAG);
    data
}

const OWN: &str = "TargetName=iqn.2026-11.io.ringsan:disk0\0\
    TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0";
const OTHER: &str = "TargetName=iqn.2026-11.io.ringsan:disk1\0TargetAddress=192.0.2.1:3260,1\0";

#[test]
fn discovery_tells_all_targets_or_the_one_named() {
    let mut mover = Mover::discovery();
    assert_eq!(answer(&mut mover, "SendTargets=All\0"), [OWN, OTHER].concat());
    assert_eq!(answer(&mut mover, "SendTargets=iqn.2026-11.io.ringsan:disk1\0"), OTHER);
    assert_eq!(answer(&mut mover, "SendTargets=iqn.2026-11.io.ringsan:none\0"), "");
    let effects = mover.give(Request::Text(asks()), b"SendTargets=\0");
    assert_eq!(rejection(&effects), Some(RejectReason::ProtocolError));
}

#[test]
fn normal_session_tells_its_own_target_only() {
    let mut mover = Mover::new();
    for text in ["SendTargets=\0", "SendTargets=All\0", "SendTargets=iqn.2026-11.io.ringsan:disk0"] {
        assert_eq!(answer(&mut mover, text), OWN);
    }
    assert_eq!(answer(&mut mover, "SendTargets=iqn.2026-11.io.ringsan:disk1\0"), "");
}

#[test]
fn send_targets_of_what_is_no_name_is_refused() {
    let mut mover = Mover::new();
    for text in ["SendTargets=Alle\0", "SendTargets=A\0", "SendTargets=all\0"] {
        let effects = mover.give(Request::Text(asks()), text.as_bytes());
        assert_eq!(rejection(&effects), Some(RejectReason::ProtocolError), "{text}");
    }
    assert_eq!(answer(&mut mover, "SendTargets=All\0"), OWN);
}

#[test]
fn unknown_keys_and_keys_of_the_login_are_answered_as_such() {
    let mut mover = Mover::new();
    assert_eq!(answer(&mut mover, "sENDtARGETS=aLL\0"), "sENDtARGETS=NotUnderstood\0");
    assert_eq!(answer(&mut mover, "X-org.example.a=1\0"), "X-org.example.a=NotUnderstood\0");
    assert_eq!(answer(&mut mover, "HeaderDigest=None\0"), "HeaderDigest=Reject\0");
    assert_eq!(answer(&mut mover, ""), "");
}

#[test]
fn text_that_is_no_list_of_pairs_is_refused() {
    let mut mover = Mover::new();
    for text in [&b"nonsense\0"[..], b"=\0", b"A=1\0A=2\0", b"A=\xff\0"] {
        assert_eq!(rejection(&mover.give(Request::Text(asks()), text)), Some(RejectReason::ProtocolError));
    }
}

#[test]
fn segment_length_may_be_declared_again() {
    let mut mover = Mover::new();
    assert_eq!(answer(&mut mover, "MaxRecvDataSegmentLength=8192\0"), "");
    assert_eq!(mover.session.parameters().max_recv_data_segment_length, 8192);
    assert_eq!(answer(&mut mover, "MaxRecvDataSegmentLength=511\0"), "MaxRecvDataSegmentLength=Reject\0");
    assert_eq!(mover.session.parameters().max_recv_data_segment_length, 8192);
}

#[test]
fn declaration_holds_only_when_both_have_said_all() {
    let mut mover = Mover::new();
    let request = TextRequest { is_final: false, ..asks() };
    let (response, _) = said(mover.give(Request::Text(request), b"MaxRecvDataSegmentLength=8192\0"));
    assert!(!response.is_final && response.target_transfer_tag != NO_TAG);
    assert_eq!(mover.session.parameters().max_recv_data_segment_length, 512);
    let request = TextRequest { target_transfer_tag: response.target_transfer_tag, ..asks() };
    assert!(said(mover.give(Request::Text(request), b"")).0.is_final);
    assert_eq!(mover.session.parameters().max_recv_data_segment_length, 8192);
}

#[test]
fn question_in_parts_is_answered_when_it_is_whole() {
    let mut mover = Mover::new();
    let part = TextRequest { is_final: false, continues: true, ..asks() };
    let (response, data) = said(mover.give(Request::Text(part), b"SendTar"));
    assert!(!response.is_final && !response.continues && data.is_empty());
    let tag = response.target_transfer_tag;
    let part = TextRequest { target_transfer_tag: tag, ..part };
    assert_eq!(said(mover.give(Request::Text(part), b"gets=A")).1, "");
    let last = TextRequest { target_transfer_tag: tag, ..asks() };
    let (response, data) = said(mover.give(Request::Text(last), b"ll\0"));
    assert_eq!((response.is_final, response.target_transfer_tag, &data[..]), (true, NO_TAG, OWN));
}

#[test]
fn answer_in_parts_is_given_as_it_is_asked_for() {
    struct Many;
    impl wire::iscsi::session::SendTargets for Many {
        fn targets(&self) -> Vec<(String, Vec<String>)> {
            (0..40)
                .map(|at| (format!("iqn.2026-11.io.ringsan:{at}"), vec!["192.0.2.1:3260,1".into()]))
                .collect()
        }
    }
    let mut mover = Mover::discovery();
    let (mut whole, mut tag, mut text) = (String::new(), NO_TAG, &b"SendTargets=All\0"[..]);
    loop {
        let request = Request::Text(TextRequest { target_transfer_tag: tag, ..asks() });
        let (bhs, _) = encode(&request, text.len());
        mover.session.header(&bhs, &[]).expect("the session goes on");
        let mut effects = Vec::new();
        mover.session.complete(text, &Many, &mut effects);
        let (response, part) = said(effects);
        assert!(part.len() <= 512 && response.continues != response.is_final);
        whole += &part;
        (tag, text) = (response.target_transfer_tag, b"");
        if response.is_final {
            break;
        }
        assert!(part.len() == 512 && tag != NO_TAG);
    }
    assert_eq!((tag, whole.matches("TargetName=").count()), (NO_TAG, 40));
    assert!(whole.ends_with("TargetName=iqn.2026-11.io.ringsan:39\0TargetAddress=192.0.2.1:3260,1\0"));
}

#[test]
fn request_without_our_tag_begins_anew() {
    let mut mover = Mover::new();
    let part = TextRequest { is_final: false, continues: true, ..asks() };
    let (response, _) = said(mover.give(Request::Text(part), b"SendTargets=Non"));
    assert_eq!(answer(&mut mover, "SendTargets=All\0"), OWN);
    // The tag of the first exchange means nothing any more.
    let old = TextRequest { target_transfer_tag: response.target_transfer_tag, ..asks() };
    let effects = mover.give(Request::Text(old), b"sense\0");
    assert_eq!(rejection(&effects), Some(RejectReason::InvalidPduField));
}

#[test]
fn text_that_ends_and_goes_on_is_refused() {
    let mut mover = Mover::new();
    let both = TextRequest { continues: true, ..asks() };
    assert_eq!(rejection(&mover.give(Request::Text(both), b"")), Some(RejectReason::ProtocolError));
}

#[test]
fn text_without_end_is_bounded() {
    let mut mover = Mover::new();
    let mut request = TextRequest { is_final: false, continues: true, ..asks() };
    let refused = (0..10).find_map(|_| {
        let effects = mover.give(Request::Text(request), &[b'a'; 1000]);
        if let [Effect::Send(Response::Text(response), _)] = &effects[..] {
            request.target_transfer_tag = response.target_transfer_tag;
        }
        rejection(&effects)
    });
    assert_eq!(refused, Some(RejectReason::OutOfResources));
    assert_eq!(answer(&mut mover, "SendTargets=All\0"), OWN);
}

#[test]
fn numbered_text_waits_for_its_turn() {
    let mut mover = Mover::new();
    let numbered = TextRequest { immediate: false, cmd_sn: FIRST_CMD_SN + 1, ..asks() };
    assert_eq!(mover.give(Request::Text(numbered), b"SendTargets=All\0"), []);
    let effects = mover.give(Request::Command(command(5, FIRST_CMD_SN)), &[]);
    let [Effect::Send(Response::Text(response), data), Effect::Start(_)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((response.exp_cmd_sn, &data[..]), (FIRST_CMD_SN + 2, OWN.as_bytes()));
    // One command is under way; the text has given its number back.
    assert_eq!(response.max_cmd_sn, FIRST_CMD_SN + QUEUE_DEPTH);
}
