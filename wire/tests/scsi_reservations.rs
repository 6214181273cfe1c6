//! Persistent reservations.

mod scsi_common;

use scsi_common::reservation::{
    ALL_TG_PT, CLEAR, EXCLUSIVE_ACCESS, EXCLUSIVE_ACCESS_ALL, EXCLUSIVE_ACCESS_REGISTRANTS, KINDS, PREEMPT,
    PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE, RELEASE, RESERVE, SPEC_I_PT,
    WRITE_EXCLUSIVE, WRITE_EXCLUSIVE_ALL, WRITE_EXCLUSIVE_REGISTRANTS, change, iscsi_id, keys, out,
    parameters, register, report, reservation, reserve, transport_id,
};
use scsi_common::{A, B, C, DISK, ask, attentions, be16, be32, be64, cdb10, codes, initiator, target, unit};
use wire::scsi::{InitiatorPort, NexusId, Refusal, TargetPort, Unit};

const CONFLICT: Result<Vec<u8>, Refusal> = Err(Refusal::RESERVATION_CONFLICT);
const DONE: Result<Vec<u8>, Refusal> = Ok(Vec::new());
const PREEMPTED_REGISTRATION: (u8, u8) = (0x2a, 0x05);
const PREEMPTED_RESERVATION: (u8, u8) = (0x2a, 0x03);
const RELEASED: (u8, u8) = (0x2a, 0x04);

fn reads(unit: &mut Unit, nexus: NexusId) -> bool {
    unit.begin(nexus, &cdb10(0x28, 0, 0, 1)).is_ok()
}

fn writes(unit: &mut Unit, nexus: NexusId) -> bool {
    unit.begin(nexus, &cdb10(0x2a, 0, 0, 1)).is_ok()
}

/// A holds, B is registered, C is not.
fn held(kind: u8) -> Unit {
    let mut unit = unit(DISK);
    register(&mut unit, A, 0xa);
    register(&mut unit, B, 0xb);
    reserve(&mut unit, A, 0xa, kind);
    unit
}

#[test]
fn each_type_admits_whom_it_should() {
    let expected = [
        (WRITE_EXCLUSIVE, [true, false], [true, false]),
        (EXCLUSIVE_ACCESS, [false, false], [false, false]),
        (WRITE_EXCLUSIVE_REGISTRANTS, [true, true], [true, false]),
        (EXCLUSIVE_ACCESS_REGISTRANTS, [true, true], [false, false]),
        (WRITE_EXCLUSIVE_ALL, [true, true], [true, false]),
        (EXCLUSIVE_ACCESS_ALL, [true, true], [false, false]),
    ];
    for (kind, registered, stranger) in expected {
        let mut unit = held(kind);
        let mut of = |nexus| [reads(&mut unit, nexus), writes(&mut unit, nexus)];
        assert_eq!((of(A), of(B), of(C)), ([true, true], registered, stranger), "type {kind}");
    }
}

#[test]
fn commands_that_look_at_nothing_never_conflict() {
    let mut unit = held(EXCLUSIVE_ACCESS);
    let free: [&[u8]; 8] = [
        &[0; 6],
        &[0x12, 0, 0, 0, 36, 0],
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
        &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        &[0x1b, 0, 0, 0, 0x01, 0],
        &[0x1e, 0, 0, 0, 0, 0],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
    ];
    for cdb in free {
        assert!(unit.begin(C, cdb).is_ok(), "{cdb:02x?}");
    }
    let shut: [&[u8]; 4] = [
        &[0x1b, 0, 0, 0, 0x00, 0],
        &[0x1e, 0, 0, 0, 1, 0],
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in shut {
        assert_eq!(unit.begin(C, cdb), Err(Refusal::RESERVATION_CONFLICT), "{cdb:02x?}");
    }
}

#[test]
fn registering_needs_the_key_that_is_registered() {
    let mut unit = unit(DISK);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (1, 2), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (0, 2), 0).result, DONE);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (0, 3), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (2, 3), 0).result, DONE);
    assert_eq!(keys(&mut unit, B), (2, vec![3]));
    assert_eq!(change(&mut unit, A, REGISTER_AND_IGNORE, 0, (99, 4), 0).result, DONE);
    assert_eq!(keys(&mut unit, B), (3, vec![4]));
    assert_eq!(change(&mut unit, A, REGISTER, 0, (4, 0), 0).result, DONE);
    assert_eq!(keys(&mut unit, B), (4, vec![]));
    assert_eq!(change(&mut unit, A, REGISTER, 0, (0, 0), 0).result, DONE);
    assert_eq!(keys(&mut unit, B), (4, vec![]), "nothing was asked for");
}

#[test]
fn reserving_and_releasing_do_not_count_as_generations() {
    let mut unit = held(WRITE_EXCLUSIVE);
    let before = keys(&mut unit, A);
    assert_eq!(change(&mut unit, A, RELEASE, WRITE_EXCLUSIVE, (0xa, 0), 0).result, DONE);
    assert_eq!(keys(&mut unit, A), before);
}

#[test]
fn only_registrants_reserve_and_only_one_at_a_time() {
    let mut unit = held(WRITE_EXCLUSIVE);
    assert_eq!(change(&mut unit, C, RESERVE, WRITE_EXCLUSIVE, (0, 0), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, B, RESERVE, WRITE_EXCLUSIVE, (0xb, 0), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, A, RESERVE, WRITE_EXCLUSIVE, (0xb, 0), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, A, RESERVE, EXCLUSIVE_ACCESS, (0xa, 0), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, A, RESERVE, WRITE_EXCLUSIVE, (0xa, 0), 0).result, DONE);
    assert_eq!(codes(change(&mut unit, A, RESERVE, 2, (0xa, 0), 0).result), (5, 0x24, 0));
    assert_eq!(codes(change(&mut unit, A, RESERVE, 0x11, (0xa, 0), 0).result), (5, 0x24, 0));
}

#[test]
fn every_type_can_be_reserved_shown_and_released() {
    let mut unit = unit(DISK);
    register(&mut unit, A, 7);
    let capabilities = report(&mut unit, A, 2);
    assert_eq!((be16(&capabilities, 0), be16(&capabilities, 4)), (8, 0xea01));
    for kind in KINDS {
        reserve(&mut unit, A, 7, kind);
        let key = if kind >= WRITE_EXCLUSIVE_ALL { 0 } else { 7 };
        assert_eq!(reservation(&mut unit, B), Some((kind, key)));
        assert_eq!(change(&mut unit, A, RELEASE, kind, (7, 0), 0).result, DONE);
        assert_eq!(reservation(&mut unit, B), None);
    }
}

#[test]
fn releasing_takes_the_holder_and_the_right_type() {
    let mut unit = held(WRITE_EXCLUSIVE_REGISTRANTS);
    assert_eq!(change(&mut unit, B, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, (0xb, 0), 0).result, DONE);
    assert!(reservation(&mut unit, A).is_some(), "without effect");
    let wrong = change(&mut unit, A, RELEASE, WRITE_EXCLUSIVE, (0xa, 0), 0).result;
    assert_eq!(codes(wrong), (5, 0x26, 0x04));
    assert_eq!(change(&mut unit, A, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, (0xa, 0), 0).result, DONE);
    assert_eq!(attentions(&mut unit, B), [RELEASED]);
    assert_eq!((attentions(&mut unit, A), attentions(&mut unit, C)), (vec![], vec![]));
}

#[test]
fn a_holder_that_unregisters_releases() {
    for (kind, told) in [(WRITE_EXCLUSIVE, vec![]), (WRITE_EXCLUSIVE_REGISTRANTS, vec![RELEASED])] {
        let mut unit = held(kind);
        assert_eq!(change(&mut unit, A, REGISTER, 0, (0xa, 0), 0).result, DONE);
        assert_eq!((reservation(&mut unit, A), attentions(&mut unit, B)), (None, told));
    }
    let mut unit = held(WRITE_EXCLUSIVE_ALL);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (0xa, 0), 0).result, DONE);
    assert_eq!(reservation(&mut unit, A), Some((WRITE_EXCLUSIVE_ALL, 0)), "B holds it too");
    assert_eq!(change(&mut unit, B, REGISTER, 0, (0xb, 0), 0).result, DONE);
    assert_eq!(reservation(&mut unit, A), None);
}

#[test]
fn clear_takes_everything_away_and_says_so() {
    let mut unit = held(EXCLUSIVE_ACCESS);
    assert_eq!(change(&mut unit, C, CLEAR, 0, (0, 0), 0).result, CONFLICT);
    assert_eq!(change(&mut unit, B, CLEAR, 0, (0xb, 0), 0).result, DONE);
    assert_eq!((keys(&mut unit, B), reservation(&mut unit, B)), ((3, vec![]), None));
    assert_eq!(attentions(&mut unit, A), [PREEMPTED_RESERVATION]);
    assert_eq!(attentions(&mut unit, B), []);
}

#[test]
fn preempting_a_registration_leaves_the_reservation() {
    let mut unit = held(WRITE_EXCLUSIVE);
    register(&mut unit, C, 0xc);
    assert_eq!(change(&mut unit, B, PREEMPT, EXCLUSIVE_ACCESS, (0xb, 0xc), 0).result, DONE);
    assert_eq!(keys(&mut unit, A), (4, vec![0xa, 0xb]));
    assert_eq!(reservation(&mut unit, A), Some((WRITE_EXCLUSIVE, 0xa)));
    assert_eq!((attentions(&mut unit, A), attentions(&mut unit, C)), (vec![], vec![PREEMPTED_REGISTRATION]));
    assert_eq!(change(&mut unit, B, PREEMPT, EXCLUSIVE_ACCESS, (0xb, 0xc), 0).result, CONFLICT);
    let zero = change(&mut unit, B, PREEMPT, EXCLUSIVE_ACCESS, (0xb, 0), 0).result;
    assert_eq!(codes(zero), (5, 0x26, 0));
}

#[test]
fn preempting_the_holder_takes_the_reservation() {
    let mut unit = held(WRITE_EXCLUSIVE);
    register(&mut unit, C, 0xc);
    let answer = change(&mut unit, B, PREEMPT, EXCLUSIVE_ACCESS, (0xb, 0xa), 0);
    assert_eq!((answer.result, answer.abort), (DONE, vec![]));
    assert_eq!(keys(&mut unit, B).1, [0xb, 0xc]);
    assert_eq!(reservation(&mut unit, B), Some((EXCLUSIVE_ACCESS, 0xb)));
    assert_eq!(attentions(&mut unit, A), [PREEMPTED_REGISTRATION]);
    assert_eq!(attentions(&mut unit, C), [RELEASED], "the type is another");
    assert!(!reads(&mut unit, A) && writes(&mut unit, B));
}

#[test]
fn preempt_and_abort_names_whose_commands_end() {
    let mut unit = held(WRITE_EXCLUSIVE);
    let answer = change(&mut unit, B, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, (0xb, 0xa), 0);
    assert_eq!((answer.result, answer.abort), (DONE, vec![A]));
    // With one key for all, one's own commands are spared.
    attentions(&mut unit, A);
    register(&mut unit, A, 0xb);
    let answer = change(&mut unit, B, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, (0xb, 0xb), 0);
    assert_eq!((answer.result, answer.abort), (DONE, vec![A]));
    assert_eq!(reservation(&mut unit, B), Some((WRITE_EXCLUSIVE, 0xb)));
}

#[test]
fn with_all_registrants_a_zero_key_preempts_everybody() {
    let mut unit = held(WRITE_EXCLUSIVE_ALL);
    register(&mut unit, C, 0xc);
    assert_eq!(change(&mut unit, C, PREEMPT, 0, (0xc, 0xa), 0).result, DONE);
    assert_eq!(reservation(&mut unit, C), Some((WRITE_EXCLUSIVE_ALL, 0)));
    assert_eq!(change(&mut unit, C, PREEMPT, EXCLUSIVE_ACCESS, (0xc, 0), 0).result, DONE);
    assert_eq!((keys(&mut unit, C).1, reservation(&mut unit, C)), (vec![0xc], Some((EXCLUSIVE_ACCESS, 0xc))));
}

#[test]
fn reserve_6_conflicts_while_anybody_is_registered() {
    let mut unit = unit(DISK);
    register(&mut unit, A, 0xa);
    for nexus in [A, B] {
        assert_eq!(ask(&mut unit, nexus, &[0x16, 0, 0, 0, 0, 0]), CONFLICT);
        assert_eq!(ask(&mut unit, nexus, &[0x17, 0, 0, 0, 0, 0]), CONFLICT);
    }
    reserve(&mut unit, A, 0xa, WRITE_EXCLUSIVE);
    for opcode in [0x16, 0x17] {
        assert_eq!(ask(&mut unit, A, &[opcode, 0, 0, 0, 0, 0]), DONE, "in vain, but compatible");
        assert_eq!(ask(&mut unit, B, &[opcode, 0, 0, 0, 0, 0]), CONFLICT);
    }
    assert!(reservation(&mut unit, A).is_some() && reads(&mut unit, B));
}

#[test]
fn registrations_outlast_their_sessions() {
    let mut unit = held(EXCLUSIVE_ACCESS);
    unit.detach(A);
    assert!(!reads(&mut unit, B));
    scsi_common::attach(&mut unit, A);
    assert!(writes(&mut unit, A));
    // Another session of the same host is another port.
    let again = InitiatorPort { isid: [0x80, 0, 0, 0, 0, 99], ..initiator(A) };
    unit.attach(NexusId(99), again, target());
    assert_eq!(attentions(&mut unit, NexusId(99)).len(), 1);
    assert!(!reads(&mut unit, NexusId(99)));
}

#[test]
fn all_target_ports_are_one_registration() {
    let mut unit = unit(DISK);
    let elsewhere = TargetPort { relative_port: 2, portal_group: 2, ..target() };
    unit.attach(NexusId(99), initiator(A), elsewhere);
    attentions(&mut unit, NexusId(99));
    register(&mut unit, A, 1);
    register(&mut unit, NexusId(99), 2);
    assert_eq!(keys(&mut unit, B).1, [1, 2]);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (1, 3), ALL_TG_PT).result, DONE);
    assert_eq!(keys(&mut unit, B).1, [3]);
    reserve(&mut unit, NexusId(99), 3, EXCLUSIVE_ACCESS);
    assert!(writes(&mut unit, A) && writes(&mut unit, NexusId(99)) && !reads(&mut unit, B));
    let status = report(&mut unit, B, 3);
    assert_eq!((status[8 + 12], be16(&status, 8 + 18)), (0x03, 0));
}

#[test]
fn other_ports_can_be_registered_along() {
    let mut unit = unit(DISK);
    let ids = [transport_id(&initiator(B)), iscsi_id(0x05, &initiator(C).name)].concat();
    let mut list = parameters((0, 5), SPEC_I_PT);
    list.extend_from_slice(&(ids.len() as u32).to_be_bytes());
    list.extend_from_slice(&ids);
    assert_eq!(out(&mut unit, A, REGISTER, 0, &list).result, DONE);
    assert_eq!(keys(&mut unit, A), (1, vec![5, 5, 5]));
    reserve(&mut unit, B, 5, WRITE_EXCLUSIVE);
    // Who is registered cannot be registered along, and then nobody is.
    let mut unit = self::unit(DISK);
    register(&mut unit, B, 9);
    assert_eq!(codes(out(&mut unit, A, REGISTER, 0, &list).result), (5, 0x26, 0));
    assert_eq!(codes(out(&mut unit, A, REGISTER_AND_IGNORE, 0, &list).result), (5, 0x26, 0));
    assert_eq!(keys(&mut unit, A).1, [9]);
}

/// REGISTER AND MOVE to `to`.
fn move_list(keys: (u64, u64), unregister: bool, relative_port: u16, to: &InitiatorPort) -> Vec<u8> {
    let mut list = parameters(keys, 0);
    list[17] = u8::from(unregister) << 1;
    list[18..20].copy_from_slice(&relative_port.to_be_bytes());
    let id = transport_id(to);
    list[20..24].copy_from_slice(&(id.len() as u32).to_be_bytes());
    list.extend(id);
    list
}

#[test]
fn a_reservation_can_be_moved() {
    for unregister in [false, true] {
        let mut unit = held(WRITE_EXCLUSIVE);
        let list = move_list((0xa, 0xcc), unregister, 1, &initiator(C));
        assert_eq!(out(&mut unit, A, REGISTER_AND_MOVE, 0, &list).result, DONE);
        assert_eq!(reservation(&mut unit, A), Some((WRITE_EXCLUSIVE, 0xcc)));
        assert!(writes(&mut unit, C) && !writes(&mut unit, A));
        assert_eq!(keys(&mut unit, A).1.contains(&0xa), !unregister);
    }
}

#[test]
fn moving_is_the_holders_alone_and_leads_elsewhere() {
    let to_c = move_list((0xb, 1), false, 1, &initiator(C));
    assert_eq!(codes(out(&mut held(WRITE_EXCLUSIVE), B, REGISTER_AND_MOVE, 0, &to_c).result), (5, 0x24, 0));
    let mut all = held(WRITE_EXCLUSIVE_ALL);
    assert_eq!(out(&mut all, B, REGISTER_AND_MOVE, 0, &to_c).result, CONFLICT);
    let mut unit = held(WRITE_EXCLUSIVE);
    for bad in [
        move_list((0xa, 1), false, 1, &initiator(A)),
        move_list((0xa, 1), false, 7, &initiator(C)),
        move_list((0xa, 0), false, 1, &initiator(C)),
    ] {
        assert_eq!(codes(out(&mut unit, A, REGISTER_AND_MOVE, 0, &bad).result), (5, 0x26, 0));
    }
    assert_eq!(reservation(&mut unit, A), Some((WRITE_EXCLUSIVE, 0xa)));
}

#[test]
fn full_status_names_every_registrant() {
    let mut unit = held(EXCLUSIVE_ACCESS_REGISTRANTS);
    let data = report(&mut unit, C, 3);
    assert_eq!(be32(&data, 4) as usize, data.len() - 8);
    let id = transport_id(&initiator(A));
    let first = &data[8..];
    assert_eq!((be64(first, 0), first[12], first[13]), (0xa, 1, EXCLUSIVE_ACCESS_REGISTRANTS));
    assert_eq!((be16(first, 18), be32(first, 20) as usize), (1, id.len()));
    assert_eq!(first[24..24 + id.len()], id);
    let second = &first[24 + id.len()..];
    assert_eq!((be64(second, 0), second[12], second[13]), (0xb, 0, 0));
}

#[test]
fn reports_are_cut_and_their_lengths_stay_whole() {
    let mut unit = held(WRITE_EXCLUSIVE);
    for action in 0..4 {
        let whole = report(&mut unit, A, action);
        let cut = ask(&mut unit, A, &[0x5e, action, 0, 0, 0, 0, 0, 0, 9, 0]).expect("answered");
        assert_eq!(cut, whole[..whole.len().min(9)]);
    }
}

#[test]
fn parameter_lists_have_one_length() {
    let mut unit = unit(DISK);
    for length in [0, 23, 25, 28] {
        let list = vec![0; length];
        assert_eq!(codes(out(&mut unit, A, REGISTER, 0, &list).result), (5, 0x1a, 0));
    }
    for broken in [iscsi_id(0x25, "iqn.a,i,0x800000000001"), iscsi_id(0x45, "iqn.a"), vec![0x45, 0, 0, 4, 0]]
    {
        let mut list = parameters((0, 5), SPEC_I_PT);
        list.extend_from_slice(&(broken.len() as u32).to_be_bytes());
        list.extend(broken);
        assert_eq!(codes(out(&mut unit, A, REGISTER, 0, &list).result), (5, 0x26, 0));
    }
    assert_eq!(keys(&mut unit, A), (0, vec![]));
}
