//! CmdSN: order, window, duplicates, what is refused.

use wire::iscsi::pdu::{NO_TAG, RejectReason, Request, Response};
use wire::iscsi::session::{Effect, Session, SessionSettings, Violation};

use crate::harness::*;

#[test]
fn gap_holds_commands_back_until_it_is_filled() {
    let mut mover = Mover::new();
    for cmd_sn in [FIRST_CMD_SN + 2, FIRST_CMD_SN + 1] {
        assert_eq!(mover.give(Request::Command(command(cmd_sn, cmd_sn)), &[]), []);
        assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN);
    }
    let effects = mover.give(Request::Command(command(FIRST_CMD_SN, FIRST_CMD_SN)), &[]);
    let order = effects.iter().map(|effect| match effect {
        Effect::Start(task) => mover.session.task(*task).cmd_sn,
        other => panic!("{other:?}"),
    });
    assert_eq!(order.collect::<Vec<_>>(), [FIRST_CMD_SN, FIRST_CMD_SN + 1, FIRST_CMD_SN + 2]);
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 3);
}

#[test]
fn immediate_command_is_started_out_of_turn_and_takes_no_number() {
    let mut mover = Mover::new();
    assert_eq!(mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]), []);
    let mut immediate = command(1, FIRST_CMD_SN);
    immediate.immediate = true;
    let task = mover.start(immediate);
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN);
    let response = mover.good(task);
    assert_eq!(response.max_cmd_sn, FIRST_CMD_SN + QUEUE_DEPTH - 1);
    assert_eq!(mover.give(Request::Command(command(3, FIRST_CMD_SN)), &[]).len(), 2);
}

#[test]
fn command_beyond_the_window_is_ignored() {
    let mut mover = Mover::new();
    let beyond = mover.session.max_cmd_sn() + 1;
    assert_eq!(mover.give(Request::Command(command(1, beyond)), &[]), []);
    assert_eq!(mover.session.tasks_in_flight(), 0);
    // Its number and its tag serve as if it had never been.
    let task = mover.start(command(1, FIRST_CMD_SN));
    mover.good(task);
    mover.start(command(2, FIRST_CMD_SN + 1));
}

#[test]
fn command_before_the_window_is_ignored() {
    let mut mover = Mover::new();
    let task = mover.start(command(1, FIRST_CMD_SN));
    mover.good(task);
    for cmd_sn in [FIRST_CMD_SN, FIRST_CMD_SN - 1, FIRST_CMD_SN.wrapping_sub(1 << 31)] {
        assert_eq!(mover.give(Request::Command(command(9, cmd_sn)), &[]), []);
    }
    assert_eq!(mover.session.tasks_in_flight(), 0);
}

#[test]
fn duplicate_of_a_command_held_back_is_ignored() {
    let mut mover = Mover::new();
    mover.give(Request::Command(command(1, FIRST_CMD_SN + 1)), &[]);
    assert_eq!(mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]), []);
    assert_eq!(mover.session.tasks_in_flight(), 1);
    assert_eq!(mover.give(Request::Command(command(3, FIRST_CMD_SN)), &[]).len(), 2);
}

#[test]
fn window_closes_at_the_queue_depth_and_opens_as_tasks_end() {
    let mut mover = Mover::new();
    let tasks: Vec<_> = (0..QUEUE_DEPTH).map(|at| mover.start(command(at, FIRST_CMD_SN + at))).collect();
    assert_eq!(mover.session.max_cmd_sn() + 1, mover.session.exp_cmd_sn());
    assert_eq!(mover.give(Request::Command(command(99, FIRST_CMD_SN + QUEUE_DEPTH)), &[]), []);
    for (at, task) in (1..).zip(tasks.into_iter().rev()) {
        let response = mover.good(task);
        assert_eq!(response.max_cmd_sn, FIRST_CMD_SN + QUEUE_DEPTH - 1 + at);
    }
    mover.start(command(99, FIRST_CMD_SN + QUEUE_DEPTH));
}

#[test]
fn numbers_wrap() {
    let mut agreed = agreed(parameters());
    (agreed.cmd_sn, agreed.stat_sn) = (u32::MAX - 1, u32::MAX);
    let mut mover = Mover { session: Session::new(&agreed, SETTINGS), ..Mover::new() };
    for (tag, cmd_sn) in (0..).zip([u32::MAX - 1, u32::MAX, 0, 1]) {
        let task = mover.start(command(tag, cmd_sn));
        let response = mover.good(task);
        assert_eq!(response.stat_sn, u32::MAX.wrapping_add(tag));
        assert_eq!(
            (response.exp_cmd_sn, response.max_cmd_sn),
            (cmd_sn.wrapping_add(1), cmd_sn.wrapping_add(8))
        );
    }
}

#[test]
fn one_command_at_a_time_is_a_window_too() {
    let settings = SessionSettings { queue_depth: 1, ..SETTINGS };
    let mut mover = Mover { session: Session::new(&agreed(parameters()), settings), ..Mover::new() };
    for at in 0..3 {
        let task = mover.start(command(at, FIRST_CMD_SN + at));
        assert_eq!(mover.give(Request::Command(command(9, FIRST_CMD_SN + at + 1)), &[]), []);
        assert_eq!(mover.good(task).max_cmd_sn, FIRST_CMD_SN + at + 1);
    }
}

#[test]
fn tag_of_a_task_in_progress_is_refused_and_the_number_counts() {
    let mut mover = Mover::new();
    mover.start(command(1, FIRST_CMD_SN));
    let effects = mover.give(Request::Command(command(1, FIRST_CMD_SN + 1)), &[]);
    assert_eq!(rejection(&effects), Some(RejectReason::TaskInProgress));
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 2);
    mover.start(command(2, FIRST_CMD_SN + 2));
}

#[test]
fn refused_command_ahead_of_its_turn_counts_when_its_turn_comes() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::Command(command(NO_TAG, FIRST_CMD_SN + 1)), &[]);
    assert_eq!(rejection(&effects), Some(RejectReason::InvalidPduField));
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN);
    mover.start(command(1, FIRST_CMD_SN));
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 2);
}

#[test]
fn immediate_commands_are_bounded() {
    let mut mover = Mover::new();
    let refused = (0..100).find_map(|tag| {
        let mut immediate = command(tag, FIRST_CMD_SN);
        immediate.immediate = true;
        rejection(&mover.give(Request::Command(immediate), &[]))
    });
    assert_eq!(refused, Some(RejectReason::ImmediateCommandReject));
    mover.start(command(1000, FIRST_CMD_SN));
}

#[test]
fn data_of_requests_held_back_is_bounded() {
    let mut mover = Mover::new();
    let ends = (1..QUEUE_DEPTH).find_map(|at| {
        let effects = mover.give(Request::NopOut(nop(at, FIRST_CMD_SN + at)), &[0; 1000]);
        effects.into_iter().next()
    });
    assert_eq!(ends, Some(Effect::Close(Violation::TooMuchHeldBack)));
}

#[test]
fn contradicting_flags_are_refused() {
    let good = write(1, FIRST_CMD_SN, 512);
    let mut reads_and_follows = read(1, FIRST_CMD_SN, 512);
    reads_and_follows.is_final = false;
    let mut moves_nothing = good.clone();
    moves_nothing.write = false;
    let mut both_ways = good.clone();
    both_ways.read = true;
    for (request, data, reason) in [
        (reads_and_follows, 0, RejectReason::InvalidPduField),
        (moves_nothing, 0, RejectReason::InvalidPduField),
        (read(1, FIRST_CMD_SN, 512), 4, RejectReason::InvalidPduField),
        (both_ways, 0, RejectReason::CommandNotSupported),
    ] {
        let mut mover = Mover::new();
        let effects = mover.give(Request::Command(request.clone()), &vec![0; data]);
        assert_eq!(rejection(&effects), Some(reason), "{request:?}");
        assert_eq!((mover.session.exp_cmd_sn(), mover.session.tasks_in_flight()), (FIRST_CMD_SN + 1, 0));
    }
}

#[test]
fn unknown_opcode_is_refused_with_its_header() {
    let mut mover = Mover::new();
    let mut bhs = [0x5a; 48];
    (bhs[0], bhs[4]) = (0x1c, 0);
    bhs[5..8].copy_from_slice(&[0, 0, 16]);
    let effects = mover.give_raw(&bhs, &[], &[1; 16]).expect("the session goes on");
    assert_eq!(rejection(&effects), Some(RejectReason::CommandNotSupported));
    let [Effect::Send(Response::Reject(reject), header)] = &effects[..] else { panic!() };
    assert_eq!((&header[..], reject.stat_sn), (&bhs[..], FIRST_STAT_SN));
    mover.start(command(1, FIRST_CMD_SN));
}

#[test]
fn discovery_session_takes_no_scsi() {
    let mut mover = Mover::discovery();
    let requests = [
        Request::Command(command(1, FIRST_CMD_SN)),
        Request::TaskManagement(manage(2, FIRST_CMD_SN + 1, 5, 0)),
    ];
    for request in requests {
        let effects = mover.give(request, &[]);
        assert_eq!(rejection(&effects), Some(RejectReason::ProtocolError));
    }
    assert_eq!(mover.session.tasks_in_flight(), 0);
}

#[test]
fn login_request_ends_the_session() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::Login(Default::default()), b"InitiatorName=x\0");
    assert_eq!(rejection(&effects[..1]), Some(RejectReason::ProtocolError));
    assert_eq!(effects[1], Effect::Close(Violation::LoginAgain));
}

#[test]
fn data_segment_beyond_our_limit_ends_the_session() {
    let mut mover = Mover::new();
    let result = mover.try_give(Request::Command(write(1, FIRST_CMD_SN, 4096)), &[0; 1025]);
    assert_eq!(result, Err(Violation::DataSegmentTooLong { bytes: 1025, bytes_max: 1024 }));
}
