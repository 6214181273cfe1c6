//! The state of a unit: unit attentions, RESERVE, removable media, SANITIZE.

mod scsi_common;

use scsi_common::{
    A, B, C, DISK, ask, attach, attention, attentions, cdb10, codes, get, inquiry, send, sense, unit,
};
use wire::scsi::{Command, Geometry, NexusId, Refusal, Reset, Sense, SenseKey, Unit, additional};

const TUR: [u8; 6] = [0; 6];
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 0x02, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 0x03, 0];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const CONFLICT: Refusal = Refusal::RESERVATION_CONFLICT;
const NO_MEDIUM: (u8, u8, u8) = (2, 0x3a, 0);

const REMOVABLE: Geometry = Geometry { removable: true, ..DISK };

#[test]
fn inquiry_report_luns_and_request_sense_pass_by_a_unit_attention() {
    let mut unit = unit(DISK);
    unit.reset(Reset::LogicalUnit);
    assert!(ask(&mut unit, A, &inquiry(None, 36)).is_ok());
    assert!(ask(&mut unit, A, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).is_ok());
    let data = get(&mut unit, A, &[0x03, 0, 0, 0, 252, 0]);
    let told = Sense::decode(&data).expect("sense data");
    assert_eq!((told.key, told.additional()), (SenseKey::UnitAttention, (0x29, 0x03)));
    assert_eq!(attention(&mut unit, A), None, "request sense took it");
    let data = get(&mut unit, A, &[0x03, 1, 0, 0, 252, 0]);
    assert_eq!(data, [0x72, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn attentions_come_one_by_one_in_order_and_once() {
    let mut unit = unit(DISK);
    unit.set_geometry(Geometry { blocks: 10, ..DISK });
    unit.tasks_cleared(B, &[A, B]);
    unit.set_geometry(Geometry { blocks: 20, ..DISK });
    assert_eq!(attentions(&mut unit, A), [(0x2a, 0x09), (0x2f, 0x00)]);
    assert_eq!(attentions(&mut unit, B), [(0x2a, 0x09)]);
}

#[test]
fn a_reset_says_more_than_what_was_pending() {
    let mut unit = unit(DISK);
    unit.set_geometry(Geometry { blocks: 10, ..DISK });
    unit.reset(Reset::TargetCold);
    assert_eq!(attentions(&mut unit, A), [(0x29, 0x00)]);
}

#[test]
fn a_deferred_error_is_told_first_and_once() {
    let mut unit = unit(DISK);
    unit.defer(A, Sense::new(SenseKey::MediumError, additional::WRITE_ERROR));
    unit.tasks_cleared(B, &[A]);
    let told = sense(unit.begin(A, &TUR));
    assert!(told.deferred && told.key == SenseKey::MediumError);
    assert_eq!(attentions(&mut unit, A), [(0x2f, 0x00)]);
}

#[test]
fn reserve_keeps_the_others_out() {
    let mut unit = unit(DISK);
    assert!(ask(&mut unit, A, &RESERVE).is_ok());
    assert!(ask(&mut unit, A, &RESERVE).is_ok(), "again is lawful");
    let shut: [&[u8]; 6] = [
        &RESERVE,
        &TUR,
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &cdb10(0x28, 0, 0, 1),
        &cdb10(0x2a, 0, 0, 1),
        &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in shut {
        assert_eq!(unit.begin(B, cdb), Err(CONFLICT), "{cdb:02x?}");
        assert!(unit.begin(A, cdb).is_ok(), "{cdb:02x?}");
    }
    assert!(ask(&mut unit, B, &inquiry(None, 36)).is_ok());
    assert!(ask(&mut unit, B, &RELEASE).is_ok(), "without effect");
    assert_eq!(unit.begin(B, &TUR), Err(CONFLICT));
    for nexus in [A, B] {
        assert_eq!(unit.begin(nexus, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]), Err(CONFLICT));
    }
    assert!(ask(&mut unit, A, &RELEASE).is_ok());
    assert!(ask(&mut unit, B, &RESERVE).is_ok());
}

#[test]
fn a_reservation_ends_with_its_nexus_and_with_a_reset() {
    let mut unit = unit(DISK);
    assert!(ask(&mut unit, A, &RESERVE).is_ok());
    unit.detach(A);
    assert!(ask(&mut unit, B, &RESERVE).is_ok());
    for cause in [Reset::LogicalUnit, Reset::TargetWarm, Reset::TargetCold] {
        unit.reset(cause);
        assert_eq!(attentions(&mut unit, C).len(), 1);
        assert!(ask(&mut unit, C, &TUR).is_ok());
        assert_eq!(attentions(&mut unit, B).len(), 1);
        assert!(ask(&mut unit, B, &RESERVE).is_ok());
    }
}

#[test]
fn an_ejected_medium_is_not_there() {
    let mut unit = unit(REMOVABLE);
    let answer = send(&mut unit, A, &EJECT, &[]);
    assert!(answer.result.is_ok() && answer.flush);
    let needy: [&[u8]; 8] = [
        &TUR,
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &cdb10(0x28, 0, 0, 1),
        &cdb10(0x2a, 0, 0, 1),
        &cdb10(0x35, 0, 0, 0),
        &cdb10(0x34, 0, 0, 1),
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0],
    ];
    for cdb in needy {
        assert_eq!(codes(unit.begin(B, cdb)), NO_MEDIUM, "{cdb:02x?}");
    }
    assert!(ask(&mut unit, A, &EJECT).is_ok(), "it is out already");
    assert!(ask(&mut unit, A, &ALLOW).is_ok());
    assert_eq!(get(&mut unit, A, &[0x03, 0, 0, 0, 18, 0])[12], 0x3a);
    assert!(ask(&mut unit, A, &LOAD).is_ok());
    assert_eq!((attentions(&mut unit, A), attentions(&mut unit, B)), (vec![], vec![(0x28, 0)]));
    assert!(ask(&mut unit, A, &TUR).is_ok());
}

#[test]
fn starting_stopping_and_power_conditions_leave_the_medium_in() {
    let mut unit = unit(REMOVABLE);
    for specific in [0x00, 0x01, 0x04, 0x05] {
        let answer = send(&mut unit, A, &[0x1b, 0, 0, 0, specific, 0], &[]);
        assert_eq!((answer.result.is_ok(), answer.flush), (true, specific == 0));
    }
    for condition in 1..16 {
        assert!(ask(&mut unit, A, &[0x1b, 1, 0, 0, condition << 4 | 0x02, 0]).is_ok());
    }
    assert!(ask(&mut unit, A, &TUR).is_ok());
}

#[test]
fn an_ejected_medium_stays_out_while_removal_is_prevented() {
    let mut unit = unit(REMOVABLE);
    assert!(ask(&mut unit, A, &LOAD).is_ok(), "it is in already");
    assert!(ask(&mut unit, A, &EJECT).is_ok() && ask(&mut unit, A, &PREVENT).is_ok());
    assert_eq!(codes(ask(&mut unit, A, &LOAD)), (5, 0x53, 0x02));
    assert!(ask(&mut unit, A, &ALLOW).is_ok() && ask(&mut unit, A, &LOAD).is_ok());
}

#[test]
fn a_fixed_medium_cannot_be_ejected() {
    assert_eq!(codes(ask(&mut unit(DISK), A, &EJECT)), (5, 0x24, 0));
}

#[test]
fn one_nexus_can_keep_the_medium_in_until_it_is_gone_or_reset() {
    let removal_prevented = (5, 0x53, 0x02);
    let mut unit = unit(REMOVABLE);
    let releases: [&dyn Fn(&mut Unit); 3] = [
        &|unit| drop(get(unit, A, &ALLOW)),
        &|unit| {
            unit.detach(A);
            attach(unit, A);
        },
        &|unit| {
            unit.reset(Reset::TargetWarm);
            assert!(attention(unit, A).is_some() && attention(unit, B).is_some());
        },
    ];
    for release in releases {
        assert!(ask(&mut unit, A, &PREVENT).is_ok() && ask(&mut unit, A, &PREVENT).is_ok());
        assert_eq!(codes(ask(&mut unit, B, &EJECT)), removal_prevented);
        assert!(ask(&mut unit, B, &ALLOW).is_ok());
        assert_eq!(codes(ask(&mut unit, B, &EJECT)), removal_prevented);
        release(&mut unit);
        assert!(ask(&mut unit, B, &EJECT).is_ok());
        assert!(ask(&mut unit, B, &LOAD).is_ok());
        attentions(&mut unit, A);
    }
}

const BLOCK_ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_sanitize_shuts_the_unit_and_outlasts_resets_and_sessions() {
    let mut unit = unit(DISK);
    assert!(matches!(unit.begin(A, &BLOCK_ERASE), Ok(Command::Sanitize { .. })));
    unit.sanitize_started();
    unit.sanitize_progress(0x8000);
    unit.reset(Reset::TargetCold);
    unit.detach(A);
    attach(&mut unit, A);
    for cdb in [&TUR[..], &[0x1b, 1, 0, 0, 0x02, 0], &cdb10(0x28, 0, 0, 1), &BLOCK_ERASE, &EXIT] {
        let told = sense(unit.begin(A, cdb));
        assert_eq!((told.key, told.additional()), (SenseKey::NotReady, additional::SANITIZE_IN_PROGRESS));
        assert_eq!(told.progress, Some(0x8000));
    }
    assert!(ask(&mut unit, A, &inquiry(None, 36)).is_ok());
    let data = get(&mut unit, A, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!(Sense::decode(&data).expect("sense data").progress, Some(0x8000));
    unit.sanitize_ended(true);
    assert!(ask(&mut unit, A, &TUR).is_ok());
}

#[test]
fn a_failed_sanitize_is_left_by_another_or_by_an_exit_that_was_allowed() {
    let failed = (3, 0x31, 0x03);
    for unrestricted in [false, true] {
        let mut unit = unit(DISK);
        let mut erase = BLOCK_ERASE;
        erase[1] |= u8::from(unrestricted) << 5;
        assert!(unit.begin(A, &erase).is_ok());
        unit.sanitize_started();
        unit.sanitize_ended(false);
        assert_eq!(codes(unit.begin(A, &cdb10(0x28, 0, 0, 1))), failed);
        assert_eq!(unit.begin(A, &EXIT).is_ok(), unrestricted);
        assert!(unit.begin(A, &erase).is_ok());
        unit.sanitize_ended(true);
        assert!(unit.begin(A, &EXIT).is_ok(), "there is nothing to leave");
    }
}

#[test]
fn names_differ_in_nothing_but_case() {
    let mut unit = unit(DISK);
    let mut port = scsi_common::initiator(NexusId(9));
    port.name.make_ascii_uppercase();
    unit.attach(NexusId(9), port, scsi_common::target());
    assert_eq!(attentions(&mut unit, NexusId(9)), [(0x29, 0)]);
}
