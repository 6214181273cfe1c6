//! Data out: immediate, unasked, asked for, in any interleaving; and what is not lawful.

use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{DataOut, NO_TAG, Request};
use wire::iscsi::session::{Effect, Fault, TaskId};

use crate::harness::*;

const BURST: u32 = 2048;

/// A write of four bursts that is started, with nothing unasked.
fn started(mover: &mut Mover, tag: u32, cmd_sn: u32) -> TaskId {
    mover.start(write(tag, cmd_sn, 4 * BURST))
}

fn failed(effects: &[Effect]) -> Option<Fault> {
    match effects {
        [Effect::DataFailed(_, fault)] => Some(*fault),
        [] => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn immediate_data_is_a_burst_at_the_start() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::Command(write(1, FIRST_CMD_SN, 4096)), &pattern(1, 1000));
    let [Effect::Start(task), Effect::Burst { task: same, start: 0, end: 1000 }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((same, &mover.memory[&task]), (task, &pattern(1, 1000)));
    assert!(!mover.session.awaits_unsolicited(task));
}

#[test]
fn immediate_and_unasked_data_are_one_burst() {
    let mut mover = Mover::new();
    let mut request = write(1, FIRST_CMD_SN, 4096);
    request.is_final = false;
    let data = pattern(1, 1536);
    let effects = mover.give(Request::Command(request), &data[..512]);
    let [Effect::Start(task)] = effects[..] else { panic!("{effects:?}") };
    assert!(mover.session.awaits_unsolicited(task));
    assert_eq!(mover.give(unasked(1, 0, 512, false), &data[512..1024]), []);
    let effects = mover.give(unasked(1, 1, 1024, true), &data[1024..]);
    assert_eq!(effects, [Effect::Burst { task, start: 0, end: 1536 }]);
    assert_eq!(mover.memory[&task], data);
}

#[test]
fn unasked_data_that_was_announced_may_be_empty() {
    let mut mover = Mover::new();
    let mut request = write(1, FIRST_CMD_SN, 4096);
    request.is_final = false;
    let task = mover.start(request);
    assert_eq!(mover.give(unasked(1, 0, 0, true), &[]), [Effect::Burst { task, start: 0, end: 0 }]);
    assert!(!mover.session.awaits_unsolicited(task));
}

#[test]
fn command_held_back_takes_its_data_and_tells_of_it_once_started() {
    let mut mover = Mover::new();
    let mut request = write(2, FIRST_CMD_SN + 1, 1536);
    request.is_final = false;
    let data = pattern(2, 1536);
    assert_eq!(mover.give(Request::Command(request), &data[..600]), []);
    assert_eq!(mover.give(unasked(2, 0, 600, true), &data[600..]), []);
    let effects = mover.give(Request::Command(command(1, FIRST_CMD_SN)), &[]);
    let [Effect::Start(_), Effect::Start(task), Effect::Burst { start: 0, end: 1536, .. }] = effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(mover.memory[&task], data);
}

#[test]
fn r2ts_of_several_tasks_are_answered_in_any_interleaving() {
    let mut mover = Mover::new();
    let a = started(&mut mover, 1, FIRST_CMD_SN);
    let b = started(&mut mover, 2, FIRST_CMD_SN + 1);
    let (data_a, data_b) = (pattern(1, 2 * BURST), pattern(2, BURST));
    let first = mover.ask(a, 0, BURST);
    let other = mover.ask(b, 0, BURST);
    let second = mover.ask(a, BURST, BURST);
    assert_eq!((first.r2t_sn, second.r2t_sn, other.r2t_sn), (0, 1, 0));
    assert_eq!(mover.session.outstanding_r2t(a), 2);
    assert_eq!(mover.give(asked(&first, 0, 0, false), &data_a[..1024]), []);
    assert_eq!(mover.give(asked(&second, 0, BURST, false), &data_a[2048..3072]), []);
    assert_eq!(mover.give(asked(&other, 0, 0, false), &data_b[..1024]), []);
    let effects = mover.give(asked(&second, 1, BURST + 1024, true), &data_a[3072..]);
    assert_eq!(effects, [Effect::Burst { task: a, start: BURST, end: 2 * BURST }]);
    let effects = mover.give(asked(&other, 1, 1024, true), &data_b[1024..]);
    assert_eq!(effects, [Effect::Burst { task: b, start: 0, end: BURST }]);
    let effects = mover.give(asked(&first, 1, 1024, true), &data_a[1024..2048]);
    assert_eq!(effects, [Effect::Burst { task: a, start: 0, end: BURST }]);
    assert_eq!((&mover.memory[&a], &mover.memory[&b]), (&data_a, &data_b));
    assert_eq!((mover.session.outstanding_r2t(a), mover.session.outstanding_r2t(b)), (0, 0));
}

/// What a DataSN, an offset or a length that is not due leads to, and that nothing of it is stored.
#[track_caller]
fn breaks(data_sn: u32, buffer_offset: u32, bytes: usize, is_final: bool, fault: Fault) {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let r2t = mover.ask(task, 0, BURST);
    assert_eq!(mover.give(asked(&r2t, 0, 0, false), &pattern(1, 1000)), []);
    let effects = mover.give(asked(&r2t, data_sn, buffer_offset, is_final), &vec![0xee; bytes]);
    let effects = if is_final { effects } else { mover.give(asked(&r2t, 9, 9, true), &[]) };
    assert_eq!(failed(&effects), Some(fault));
    assert!(mover.session.request_data(task, BURST, BURST).is_none());
    assert!(mover.memory[&task] == pattern(1, 1000));
    mover.session.respond(task, 2, 0);
    // Only the task has suffered.
    started(&mut mover, 1, FIRST_CMD_SN + 1);
}

#[test]
fn wrong_data_sn_fails_the_task() {
    for data_sn in [0, 2, 27, u32::MAX] {
        breaks(data_sn, 1000, 24, true, Fault::DataSequence);
        breaks(data_sn, 1000, 24, false, Fault::DataSequence);
    }
}

#[test]
fn wrong_offset_fails_the_task() {
    for offset in [0, 999, 1001, BURST, u32::MAX] {
        breaks(1, offset, 1, true, Fault::DataOffset);
    }
}

#[test]
fn more_or_less_than_asked_for_fails_the_task() {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let r2t = mover.ask(task, 0, 1500);
    assert_eq!(mover.give(asked(&r2t, 0, 0, false), &[1; 1000]), []);
    let effects = mover.give(asked(&r2t, 1, 1000, true), &[1; 501]);
    assert_eq!(failed(&effects), Some(Fault::IncorrectAmountOfData));
    assert_eq!(mover.memory[&task].len(), 1000);
    let task = started(&mut mover, 2, FIRST_CMD_SN + 1);
    let r2t = mover.ask(task, 0, 1500);
    let effects = mover.give(asked(&r2t, 0, 0, true), &[1; 1000]);
    assert_eq!(failed(&effects), Some(Fault::IncorrectAmountOfData));
}

#[test]
fn unknown_transfer_tag_fails_the_task() {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let mut r2t = mover.ask(task, 0, BURST);
    r2t.target_transfer_tag += 1;
    assert_eq!(mover.give(asked(&r2t, 0, 0, true), &[1; 1000]), []);
    r2t.target_transfer_tag -= 1;
    let effects = mover.give(asked(&r2t, 0, 0, true), &[1; 1000]);
    assert_eq!(failed(&effects), Some(Fault::IllegalTransferTag));
    assert!(!mover.memory.contains_key(&task));
}

#[test]
fn failure_is_told_once_and_only_when_no_more_data_is_due() {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let (first, second) = (mover.ask(task, 0, BURST), mover.ask(task, BURST, BURST));
    assert_eq!(mover.give(asked(&first, 5, 0, true), &[0; 1000]), []);
    assert_eq!(mover.give(asked(&second, 0, BURST, false), &[0; 1024]), []);
    let effects = mover.give(asked(&second, 1, BURST + 1024, true), &[0; 1024]);
    assert_eq!(failed(&effects), Some(Fault::DataSequence));
    assert_eq!(mover.give(asked(&second, 1, BURST + 1024, true), &[0; 1024]), []);
}

#[test]
fn failure_of_a_command_held_back_is_told_once_started() {
    let mut mover = Mover::new();
    let mut request = write(2, FIRST_CMD_SN + 1, 4096);
    request.is_final = false;
    assert_eq!(mover.give(Request::Command(request), &[]), []);
    assert_eq!(mover.give(unasked(2, 1, 0, true), &[0; 100]), []);
    let effects = mover.give(Request::Command(command(1, FIRST_CMD_SN)), &[]);
    assert!(matches!(effects[1..], [Effect::Start(_), Effect::DataFailed(_, Fault::DataSequence)]));
}

#[test]
fn data_that_was_not_agreed_on_fails_the_task() {
    let parameters = Parameters { immediate_data: false, initial_r2t: true, ..parameters() };
    let mut mover = Mover::with(parameters);
    let effects = mover.give(Request::Command(write(1, FIRST_CMD_SN, 4096)), &[0; 512]);
    assert_eq!(failed(&effects[1..]), Some(Fault::UnexpectedUnsolicitedData));
    let mut follows = write(2, FIRST_CMD_SN + 1, 4096);
    follows.is_final = false;
    assert_eq!(mover.give(Request::Command(follows), &[]).len(), 1);
    let effects = mover.give(unasked(2, 0, 0, true), &[0; 512]);
    assert_eq!(failed(&effects), Some(Fault::UnexpectedUnsolicitedData));
    assert!(mover.memory.is_empty());
}

#[test]
fn unasked_data_behind_its_last_pdu_fails_the_task() {
    let mut mover = Mover::new();
    started(&mut mover, 1, FIRST_CMD_SN);
    let effects = mover.give(unasked(1, 0, 0, true), &[0; 512]);
    assert_eq!(failed(&effects), Some(Fault::UnexpectedUnsolicitedData));
}

#[test]
fn first_burst_length_is_the_limit_of_unasked_data() {
    let mut mover = Mover::new();
    let mut request = write(1, FIRST_CMD_SN, 8192);
    request.is_final = false;
    mover.give(Request::Command(request), &[0; 1024]);
    let effects = mover.give(unasked(1, 0, 1024, true), &[0; 513]);
    assert_eq!(failed(&effects), Some(Fault::IncorrectAmountOfData));
}

#[test]
fn expected_length_is_the_limit_of_unasked_data() {
    let mut mover = Mover::new();
    let effects = mover.give(Request::Command(write(1, FIRST_CMD_SN, 512)), &[0; 513]);
    assert_eq!(failed(&effects[1..]), Some(Fault::IncorrectAmountOfData));
    assert!(mover.memory.is_empty());
}

#[test]
fn data_of_no_task_is_discarded() {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let r2t = mover.ask(task, 0, BURST);
    mover.session.respond(task, 2, 0);
    assert_eq!(mover.give(asked(&r2t, 0, 0, true), &[0; 1000]), []);
    assert_eq!(mover.give(unasked(77, 0, 0, true), &[0; 1000]), []);
    assert!(mover.memory.is_empty());
}

#[test]
fn straggler_of_an_aborted_task_does_not_touch_a_task_of_the_same_tag() {
    let mut mover = Mover::new();
    let old = started(&mut mover, 1, FIRST_CMD_SN);
    let r2t = mover.ask(old, 0, BURST);
    let effects = mover.give(
        Request::TaskManagement(wire::iscsi::pdu::TaskManagementRequest {
            referenced_task_tag: 1,
            ..manage(5, FIRST_CMD_SN + 1, 1, 0)
        }),
        &[],
    );
    assert!(matches!(&effects[..], [Effect::Manage { tasks, .. }] if *tasks == [old]));
    mover.session.forget(old);
    mover.session.management_done(5, 0);
    let new = started(&mut mover, 1, FIRST_CMD_SN + 1);
    let again = mover.ask(new, 0, BURST);
    assert_eq!(mover.give(asked(&r2t, 0, 0, true), &[0xee; 1000]), []);
    assert_eq!(mover.give(asked(&again, 0, 0, false), &[1; 1024]), []);
    let effects = mover.give(asked(&again, 1, 1024, true), &[1; 1024]);
    assert_eq!(effects, [Effect::Burst { task: new, start: 0, end: BURST }]);
    assert_eq!(mover.memory[&new], [1; 2048]);
}

#[test]
fn data_that_is_under_way_while_its_task_is_aborted_leads_to_nothing() {
    let mut mover = Mover::new();
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    let r2t = mover.ask(task, 0, 1000);
    let pdu = DataOut { target_transfer_tag: r2t.target_transfer_tag, ..data_of(1) };
    let (bhs, ahs) = encode(&Request::DataOut(pdu), 1000);
    mover.session.header(&bhs, &ahs).expect("the session goes on");
    assert_eq!(mover.session.abort_all(), [task]);
    mover.session.forget(task);
    let mut effects = Vec::new();
    mover.session.complete(&[], &Directory, &mut effects);
    assert_eq!(effects, []);
}

#[test]
fn command_that_is_under_way_while_it_is_aborted_is_not_started_and_its_number_counts() {
    let mut mover = Mover::new();
    let (bhs, ahs) = encode(&Request::Command(write(1, FIRST_CMD_SN, 512)), 512);
    mover.session.header(&bhs, &ahs).expect("the session goes on");
    let tasks = mover.session.abort_all();
    mover.session.forget(tasks[0]);
    let mut effects = Vec::new();
    mover.session.complete(&[], &Directory, &mut effects);
    assert_eq!((effects, mover.session.exp_cmd_sn()), (vec![], FIRST_CMD_SN + 1));
    assert_eq!(mover.session.max_cmd_sn(), FIRST_CMD_SN + QUEUE_DEPTH);
}

/// Such a command was once held back by its index, which served another task by the time its turn came.
#[test]
fn command_ahead_of_its_turn_that_is_aborted_while_it_comes_is_not_held_back() {
    let mut mover = Mover::new();
    let (bhs, ahs) = encode(&Request::Command(write(2, FIRST_CMD_SN + 1, 512)), 512);
    mover.session.header(&bhs, &ahs).expect("the session goes on");
    let tasks = mover.session.abort_all();
    mover.session.forget(tasks[0]);
    mover.session.complete(&[], &Directory, &mut Vec::new());
    let task = started(&mut mover, 1, FIRST_CMD_SN);
    assert_eq!((task, mover.session.exp_cmd_sn()), (tasks[0], FIRST_CMD_SN + 2));
}

fn data_of(tag: u32) -> DataOut {
    DataOut { is_final: true, initiator_task_tag: tag, target_transfer_tag: NO_TAG, ..DataOut::default() }
}
