//! Task management and logout.

use wire::iscsi::pdu::code::{function, function_response, logout_reason, logout_response};
use wire::iscsi::pdu::{LogoutRequest, Lun, RejectReason, Request, Response, TaskManagementRequest};
use wire::iscsi::session::{Effect, TaskId};

use crate::harness::*;

fn abort_of(tag: u32, ref_cmd_sn: u32, cmd_sn: u32) -> Request {
    Request::TaskManagement(TaskManagementRequest {
        referenced_task_tag: tag,
        ref_cmd_sn,
        ..manage(77, cmd_sn, function::ABORT_TASK, 0)
    })
}

fn on_lun(mut command: wire::iscsi::pdu::CommandRequest, lun: u16) -> wire::iscsi::pdu::CommandRequest {
    command.lun = Lun::from_number(lun);
    command
}

/// What was answered at once.
#[track_caller]
fn decided(effects: &[Effect]) -> u8 {
    match effects {
        [Effect::Send(Response::TaskManagement(response), data)] => {
            assert!(data.is_empty() && response.initiator_task_tag == 77);
            response.response
        }
        other => panic!("{other:?}"),
    }
}

/// The tasks that a function is to end.
#[track_caller]
fn managed(effects: &[Effect]) -> Vec<TaskId> {
    match effects {
        [.., Effect::Manage { tasks, .. }] => tasks.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn aborted_task_is_marked_and_its_number_given_back() {
    let mut mover = Mover::new();
    let task = mover.start(command(1, FIRST_CMD_SN));
    let effects = mover.give(abort_of(1, FIRST_CMD_SN, FIRST_CMD_SN + 1), &[]);
    let (function, lun, tasks) = (function::ABORT_TASK, Lun::from_number(0), vec![task]);
    assert_eq!(effects, [Effect::Manage { tag: 77, function, lun, tasks }]);
    assert!(mover.session.task(task).is_aborted && mover.session.request_data(task, 0, 1).is_none());
    assert_eq!(mover.session.max_cmd_sn(), FIRST_CMD_SN + QUEUE_DEPTH);
    let response = mover.session.management_done(77, function_response::COMPLETE);
    assert_eq!((response.response, response.stat_sn), (0, FIRST_STAT_SN));
    mover.session.forget(task);
    assert_eq!(mover.session.max_cmd_sn(), FIRST_CMD_SN + QUEUE_DEPTH);
    assert_eq!(mover.session.tasks_in_flight(), 0);
}

#[test]
fn abort_of_a_task_that_has_ended_finds_none() {
    let mut mover = Mover::new();
    let task = mover.start(command(1, FIRST_CMD_SN));
    mover.good(task);
    let effects = mover.give(abort_of(1, FIRST_CMD_SN, FIRST_CMD_SN + 1), &[]);
    assert_eq!(decided(&effects), function_response::TASK_DOES_NOT_EXIST);
}

#[test]
fn abort_on_another_unit_finds_no_task() {
    let mut mover = Mover::new();
    let task = mover.start(on_lun(command(1, FIRST_CMD_SN), 4));
    let effects = mover.give(abort_of(1, FIRST_CMD_SN, FIRST_CMD_SN + 1), &[]);
    assert_eq!(decided(&effects), function_response::TASK_DOES_NOT_EXIST);
    assert!(!mover.session.task(task).is_aborted);
}

#[test]
fn command_aborted_before_it_came_counts_as_received_and_is_ignored() {
    let mut mover = Mover::new();
    let effects = mover.give(abort_of(1, FIRST_CMD_SN, FIRST_CMD_SN + 1), &[]);
    assert_eq!(decided(&effects), function_response::COMPLETE);
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 1);
    assert_eq!(mover.give(Request::Command(write(1, FIRST_CMD_SN, 512)), &[0; 512]), []);
    assert_eq!(mover.give(unasked(1, 0, 0, true), &[0; 100]), []);
    assert!(mover.memory.is_empty());
    mover.start(command(1, FIRST_CMD_SN + 1));
}

#[test]
fn command_aborted_before_it_came_lets_those_behind_it_go() {
    let mut mover = Mover::new();
    mover.give(Request::Command(command(3, FIRST_CMD_SN + 2)), &[]);
    mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]);
    let effects = mover.give(abort_of(1, FIRST_CMD_SN, FIRST_CMD_SN + 3), &[]);
    assert!(matches!(effects[..], [Effect::Send(..), Effect::Start(_), Effect::Start(_)]), "{effects:?}");
}

#[test]
fn abort_ahead_of_the_window_or_of_itself_finds_no_task() {
    for (ref_cmd_sn, cmd_sn) in [
        (FIRST_CMD_SN + QUEUE_DEPTH, FIRST_CMD_SN + QUEUE_DEPTH + 1),
        (FIRST_CMD_SN - 1, FIRST_CMD_SN),
        (FIRST_CMD_SN, FIRST_CMD_SN),
        (FIRST_CMD_SN + 1, FIRST_CMD_SN),
    ] {
        let mut mover = Mover::new();
        let effects = mover.give(abort_of(1, ref_cmd_sn, cmd_sn), &[]);
        assert_eq!(decided(&effects), function_response::TASK_DOES_NOT_EXIST);
        mover.start(command(1, FIRST_CMD_SN));
    }
}

#[test]
fn aborted_command_that_is_held_back_is_never_started() {
    let mut mover = Mover::new();
    mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]);
    let tasks = managed(&mover.give(abort_of(2, FIRST_CMD_SN + 1, FIRST_CMD_SN + 2), &[]));
    mover.session.forget(tasks[0]);
    mover.session.management_done(77, 0);
    mover.start(command(1, FIRST_CMD_SN));
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 2);
}

#[test]
fn task_set_is_of_one_unit_and_a_target_reset_of_all() {
    for (function, everywhere) in [
        (function::ABORT_TASK_SET, false),
        (function::CLEAR_TASK_SET, false),
        (function::LOGICAL_UNIT_RESET, false),
        (function::TARGET_WARM_RESET, true),
        (function::TARGET_COLD_RESET, true),
    ] {
        let mut mover = Mover::new();
        let here = mover.start(on_lun(command(1, FIRST_CMD_SN), 1));
        let elsewhere = mover.start(on_lun(command(2, FIRST_CMD_SN + 1), 0));
        let mut immediate = on_lun(command(3, FIRST_CMD_SN + 2), 1);
        immediate.immediate = true;
        let immediate = mover.start(immediate);
        let effects = mover.give(Request::TaskManagement(manage(77, FIRST_CMD_SN + 2, function, 1)), &[]);
        let expected = if everywhere { vec![here, elsewhere, immediate] } else { vec![here, immediate] };
        assert_eq!(managed(&effects), expected);
        assert_eq!(mover.session.task(elsewhere).is_aborted, everywhere);
    }
}

#[test]
fn function_on_many_tasks_waits_for_those_that_have_not_come() {
    let mut mover = Mover::new();
    mover.give(Request::Command(command(2, FIRST_CMD_SN + 1)), &[]);
    let reset = manage(77, FIRST_CMD_SN + 2, function::LOGICAL_UNIT_RESET, 0);
    assert_eq!(mover.give(Request::TaskManagement(reset), &[]), []);
    assert_eq!(mover.give(Request::Command(command(3, FIRST_CMD_SN + 2)), &[]), []);
    let effects = mover.give(Request::Command(command(1, FIRST_CMD_SN)), &[]);
    let ended = managed(&effects);
    let tags = ended.iter().map(|task| mover.session.task(*task).initiator_task_tag).collect::<Vec<_>>();
    assert!(tags.contains(&1) && tags.contains(&2) && !tags.contains(&3), "{tags:?}");
}

#[test]
fn function_in_its_turn_spares_what_comes_after_it() {
    let mut mover = Mover::new();
    let first = mover.start(command(1, FIRST_CMD_SN));
    mover.give(Request::Command(command(3, FIRST_CMD_SN + 2)), &[]);
    let mut reset = manage(77, FIRST_CMD_SN + 1, function::LOGICAL_UNIT_RESET, 0);
    reset.immediate = false;
    let effects = mover.give(Request::TaskManagement(reset), &[]);
    let [Effect::Manage { tasks, .. }, Effect::Start(later)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(tasks, &[first]);
    assert!(!mover.session.task(*later).is_aborted);
    // Its number is under way until it is done; that of the aborted task no longer is.
    assert_eq!(mover.session.max_cmd_sn(), FIRST_CMD_SN + QUEUE_DEPTH);
    assert_eq!(mover.session.management_done(77, 0).max_cmd_sn, FIRST_CMD_SN + QUEUE_DEPTH + 1);
}

#[test]
fn functions_that_nobody_offers_are_answered_at_once() {
    for (function, response) in [
        (function::TASK_REASSIGN, function_response::REASSIGNMENT_NOT_SUPPORTED),
        (function::CLEAR_ACA, function_response::NOT_SUPPORTED),
        (function::QUERY_TASK, function_response::NOT_SUPPORTED),
        (0, function_response::NOT_SUPPORTED),
        (127, function_response::NOT_SUPPORTED),
    ] {
        let mut mover = Mover::new();
        let effects = mover.give(Request::TaskManagement(manage(77, FIRST_CMD_SN, function, 0)), &[]);
        assert_eq!(decided(&effects), response);
    }
}

#[test]
fn tag_of_a_function_in_progress_is_refused() {
    let mut mover = Mover::new();
    let reset = Request::TaskManagement(manage(77, FIRST_CMD_SN, function::LOGICAL_UNIT_RESET, 0));
    mover.give(reset.clone(), &[]);
    assert_eq!(rejection(&mover.give(reset, &[])), Some(RejectReason::TaskInProgress));
    let effects = mover.give(Request::Command(command(77, FIRST_CMD_SN)), &[]);
    assert_eq!(rejection(&effects), Some(RejectReason::TaskInProgress));
}

#[test]
fn functions_in_progress_are_bounded() {
    let mut mover = Mover::new();
    let refused = (0..1000).find_map(|tag| {
        let reset = manage(tag, FIRST_CMD_SN, function::LOGICAL_UNIT_RESET, 0);
        rejection(&mover.give(Request::TaskManagement(reset), &[]))
    });
    assert_eq!(refused, Some(RejectReason::ImmediateCommandReject));
}

#[test]
fn window_stays_open_while_aborted_tasks_hang_but_not_without_bound() {
    let mut mover = Mover::new();
    let mut hanging = Vec::new();
    while mover.session.max_cmd_sn() + 1 != mover.session.exp_cmd_sn() {
        let cmd_sn = mover.session.exp_cmd_sn();
        let task = mover.start(command(cmd_sn, cmd_sn));
        mover.give(abort_of(cmd_sn, cmd_sn, cmd_sn + 1), &[]);
        mover.session.management_done(77, 0);
        hanging.push(task);
    }
    assert_eq!(hanging.len(), 2 * QUEUE_DEPTH as usize);
    hanging.into_iter().for_each(|task| mover.session.forget(task));
    let open = mover.session.max_cmd_sn() + 1 - mover.session.exp_cmd_sn();
    assert_eq!(open, QUEUE_DEPTH);
}

#[test]
fn reset_by_another_session_marks_tasks_of_its_unit() {
    let mut mover = Mover::new();
    let here = mover.start(on_lun(command(1, FIRST_CMD_SN), 1));
    let elsewhere = mover.start(command(2, FIRST_CMD_SN + 1));
    mover.give(Request::Command(on_lun(command(4, FIRST_CMD_SN + 3), 1)), &[]);
    // Flat space addressing of the same unit.
    let tasks = mover.session.abort_lun(Lun(0x4001 << 48));
    assert!(tasks.contains(&here) && tasks.len() == 2);
    tasks.into_iter().for_each(|task| mover.session.forget(task));
    assert_eq!(mover.session.abort_all(), [elsewhere]);
    mover.start(command(3, FIRST_CMD_SN + 2));
    assert_eq!(mover.session.exp_cmd_sn(), FIRST_CMD_SN + 4);
}

fn logout(reason: u8, cid: u16) -> Request {
    Request::Logout(LogoutRequest {
        immediate: false,
        reason,
        initiator_task_tag: 9,
        cid,
        cmd_sn: FIRST_CMD_SN + 1,
        exp_stat_sn: 0,
    })
}

#[test]
fn logout_ends_tasks_and_is_the_last_word() {
    for (reason, cid) in [(logout_reason::CLOSE_SESSION, 0), (logout_reason::CLOSE_CONNECTION, CID)] {
        let mut mover = Mover::new();
        let task = mover.start(command(1, FIRST_CMD_SN));
        let effects = mover.give(logout(reason, cid), &[]);
        assert_eq!(effects, [Effect::Logout { reason, tasks: vec![task] }]);
        assert_eq!(mover.give(Request::Command(command(2, FIRST_CMD_SN + 2)), &[]), []);
        mover.session.forget(task);
        let response = mover.session.logout_done();
        assert_eq!((response.response, response.initiator_task_tag), (logout_response::CLOSED, 9));
        assert_eq!((response.stat_sn, response.exp_cmd_sn), (FIRST_STAT_SN, FIRST_CMD_SN + 2));
    }
}

#[test]
fn logout_of_another_connection_or_for_recovery_changes_nothing() {
    for (reason, cid, expected) in [
        (logout_reason::CLOSE_CONNECTION, CID + 1, logout_response::CID_NOT_FOUND),
        (logout_reason::REMOVE_FOR_RECOVERY, CID, logout_response::RECOVERY_NOT_SUPPORTED),
    ] {
        let mut mover = Mover::new();
        let task = mover.start(command(1, FIRST_CMD_SN));
        let effects = mover.give(logout(reason, cid), &[]);
        let [Effect::Send(Response::Logout(response), _)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(response.response, expected);
        assert!(!mover.session.task(task).is_aborted);
        mover.start(command(2, FIRST_CMD_SN + 2));
    }
}

#[test]
fn logout_for_no_known_reason_is_refused() {
    let mut mover = Mover::new();
    mover.start(command(1, FIRST_CMD_SN));
    assert_eq!(rejection(&mover.give(logout(3, CID), &[])), Some(RejectReason::InvalidPduField));
}
