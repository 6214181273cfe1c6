//! What goes out: StatSN, DataSN, residuals, pings, events.

use wire::iscsi::pdu::code::event;
use wire::iscsi::pdu::{Lun, NO_TAG, NopOut, RejectReason, Request, Residual, Response, SnackRequest};
use wire::iscsi::session::Effect;

use crate::harness::*;

#[test]
fn status_numbers_follow_the_order_of_what_is_made() {
    let mut mover = Mover::new();
    let a = mover.start(read(1, FIRST_CMD_SN, 512));
    let b = mover.start(command(2, FIRST_CMD_SN + 1));
    assert_eq!(mover.good(b).stat_sn, FIRST_STAT_SN);
    // Neither data nor a ping uses a number up; the ping tells the next.
    assert_eq!(mover.session.data_in(a, 0, 256, false, None).stat_sn, 0);
    assert_eq!(mover.session.ping().stat_sn, FIRST_STAT_SN + 1);
    assert_eq!(mover.session.data_in(a, 256, 256, true, Some((0, 512))).stat_sn, FIRST_STAT_SN + 1);
    assert_eq!(mover.session.request_logout(10).stat_sn, FIRST_STAT_SN + 2);
    assert_eq!(mover.session.stat_sn(), FIRST_STAT_SN + 3);
}

#[test]
fn r2t_tells_the_next_status_number_and_does_not_use_it_up() {
    let mut mover = Mover::new();
    let task = mover.start(write(1, FIRST_CMD_SN, 512));
    assert_eq!(mover.ask(task, 0, 512).stat_sn, FIRST_STAT_SN);
    assert_eq!(mover.good(task).stat_sn, FIRST_STAT_SN);
}

#[test]
fn answers_come_before_what_may_be_answered_later() {
    let mut mover = Mover::new();
    mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]);
    mover.give(Request::NopOut(nop(3, FIRST_CMD_SN + 2)), b"ping");
    let effects = mover.give(Request::Command(command(1, FIRST_CMD_SN)), &[]);
    assert!(matches!(effects[..], [Effect::Send(..), Effect::Start(_), Effect::Start(_)]), "{effects:?}");
}

#[test]
fn response_counts_data_in_and_r2ts() {
    let mut mover = Mover::new();
    let task = mover.start(read(1, FIRST_CMD_SN, 1536));
    let numbers = (0..3).map(|at| mover.session.data_in(task, at * 512, 512, at == 2, None).data_sn);
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(mover.good(task).exp_data_sn, 3);
    let task = mover.start(write(1, FIRST_CMD_SN + 1, 1024));
    let (first, second) = (mover.ask(task, 0, 512), mover.ask(task, 512, 512));
    mover.give(asked(&second, 0, 512, true), &[0; 512]);
    mover.give(asked(&first, 0, 0, true), &[0; 512]);
    assert_eq!(mover.good(task).exp_data_sn, 2);
}

#[test]
fn residual_is_what_the_command_moves_against_what_was_expected() {
    let cases = [
        (512, 512, Residual::None),
        (0, 512, Residual::Overflow(512)),
        (256, 512, Residual::Overflow(256)),
        (1024, 512, Residual::Underflow(512)),
        (512, 0, Residual::Underflow(512)),
        (0, 0, Residual::None),
        (0, 1 << 40, Residual::Overflow(u32::MAX)),
        (u32::MAX, 0, Residual::Underflow(u32::MAX)),
    ];
    let mut mover = Mover::new();
    for (cmd_sn, (expected, moved, residual)) in (FIRST_CMD_SN..).step_by(2).zip(cases) {
        let task = mover.start(read(1, cmd_sn, expected));
        assert_eq!(mover.session.respond(task, 0, moved).residual, residual);
        let task = mover.start(read(1, cmd_sn + 1, expected));
        let last = mover.session.data_in(task, 0, expected.min(512), true, Some((0, moved)));
        assert_eq!((last.residual, last.status, last.is_final), (residual, Some(0), true));
    }
}

#[test]
fn data_in_is_cut_by_segment_and_burst() {
    let mover = Mover::new();
    let pieces: Vec<_> = mover.session.split(100, 3000).collect();
    let expected = [(100, 512, false), (612, 512, false), (1124, 512, false), (1636, 512, true)];
    assert_eq!(pieces[..4], expected);
    assert_eq!(pieces[4..], [(2148, 512, false), (2660, 440, true)]);
    assert_eq!(mover.session.split(0, 0).count(), 0);
    assert_eq!(mover.session.split(7, 2048).last(), Some((7 + 1536, 512, true)));
}

#[test]
fn ping_of_the_initiator_is_echoed_up_to_what_it_takes() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::NopOut(nop(7, FIRST_CMD_SN)), &pattern(1, 1000));
    let [Effect::Send(Response::NopIn(echo), data)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((echo.initiator_task_tag, echo.target_transfer_tag), (7, NO_TAG));
    assert_eq!((echo.stat_sn, echo.exp_cmd_sn), (FIRST_STAT_SN, FIRST_CMD_SN + 1));
    assert_eq!(echo.max_cmd_sn, FIRST_CMD_SN + QUEUE_DEPTH);
    assert_eq!(data, &pattern(1, 512));
}

#[test]
fn our_ping_is_answered_by_its_tag_alone() {
    let mut mover = Mover::new();
    assert!(mover.session.ping_answered());
    let ping = mover.session.ping();
    assert_eq!(ping.initiator_task_tag, NO_TAG);
    let answer = |tag| {
        let cmd_sn = FIRST_CMD_SN;
        let (initiator_task_tag, target_transfer_tag) = (NO_TAG, tag);
        let nop = NopOut { immediate: true, initiator_task_tag, target_transfer_tag, cmd_sn, ..nop(0, 0) };
        Request::NopOut(nop)
    };
    assert_eq!(mover.give(answer(ping.target_transfer_tag + 1), &[]), []);
    assert_eq!(mover.give(answer(NO_TAG), &[]), []);
    assert!(!mover.session.ping_answered());
    assert_eq!(mover.give(answer(ping.target_transfer_tag), b"ignored"), []);
    assert!(mover.session.ping_answered());
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN);
}

#[test]
fn ping_of_the_initiator_may_answer_ours() {
    let mut mover = Mover::new();
    let ping = mover.session.ping();
    let both = NopOut { target_transfer_tag: ping.target_transfer_tag, ..nop(7, FIRST_CMD_SN) };
    assert!(matches!(mover.give(Request::NopOut(both), &[])[..], [Effect::Send(Response::NopIn(_), _)]));
    assert!(mover.session.ping_answered());
}

#[test]
fn nop_without_a_tag_that_is_not_immediate_is_refused() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::NopOut(nop(NO_TAG, FIRST_CMD_SN)), &[]);
    assert_eq!(rejection(&effects), Some(RejectReason::InvalidPduField));
}

#[test]
fn snack_is_refused() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::Snack(SnackRequest::default()), &[]);
    assert_eq!(rejection(&effects), Some(RejectReason::SnackReject));
}

#[test]
fn logout_is_asked_for_by_an_event() {
    let mut mover = Mover::new();
    let message = mover.session.request_logout(10);
    assert_eq!((message.event, message.parameters), (event::LOGOUT_REQUESTED, [0, 0, 10]));
    let message = mover.session.announce(event::DROPS_CONNECTION, Lun::default(), [CID, 2, 20]);
    assert_eq!((message.stat_sn, message.parameters), (FIRST_STAT_SN + 1, [CID, 2, 20]));
}
