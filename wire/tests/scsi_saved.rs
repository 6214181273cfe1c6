//! Reservations that outlive the process.

mod scsi_common;

use proptest::prelude::*;
use scsi_common::reservation::{
    ALL_TG_PT, APTPL, EXCLUSIVE_ACCESS, REGISTER, REGISTER_AND_IGNORE, RELEASE, RESERVE, change, keys,
    report, reservation,
};
use scsi_common::{A, B, DISK, attach, attentions, cdb10, identity, unit};
use wire::scsi::{Identity, SavedError, Unit};

/// A unit with a registration for all target ports that holds it, and one for one port; and what it saved.
fn saved() -> (Unit, Vec<u8>) {
    let mut unit = unit(DISK);
    change(&mut unit, A, REGISTER, 0, (0, 0xa), APTPL | ALL_TG_PT).result.expect("registered");
    change(&mut unit, B, REGISTER, 0, (0, 0xb), APTPL).result.expect("registered");
    let answer = change(&mut unit, A, RESERVE, EXCLUSIVE_ACCESS, (0xa, 0), 0);
    (unit, answer.save.expect("a reservation is to be kept"))
}

fn restarted(saved: &[u8]) -> Unit {
    let mut unit = Unit::new(identity(), DISK, Some(saved)).expect("ours");
    attach(&mut unit, A);
    attach(&mut unit, B);
    unit
}

#[test]
fn a_restart_finds_what_was_saved() {
    let (mut before, saved) = saved();
    let mut after = restarted(&saved);
    assert_eq!(report(&mut before, B, 3)[8..], report(&mut after, B, 3)[8..]);
    assert_eq!(keys(&mut after, B), (0, vec![0xa, 0xb]), "generations start anew");
    assert!(after.begin(B, &cdb10(0x28, 0, 0, 1)).is_err());
    assert_eq!(report(&mut after, B, 2)[3] & 1, 1, "PTPL_A");
}

#[test]
fn only_changes_are_saved_and_only_while_they_are_to_persist() {
    let mut unit = unit(DISK);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (0, 1), 0).save, None);
    let kept = change(&mut unit, A, REGISTER, 0, (1, 1), APTPL).save.expect("from now on");
    assert_eq!(keys(&mut restarted(&kept), A).1, [1]);
    assert_eq!(change(&mut unit, A, REGISTER, 0, (1, 1), APTPL).save, None, "the same");
    let reserved = change(&mut unit, A, RESERVE, EXCLUSIVE_ACCESS, (1, 0), 0).save.expect("a change");
    assert!(reservation(&mut restarted(&reserved), A).is_some());
    let released = change(&mut unit, A, RELEASE, EXCLUSIVE_ACCESS, (1, 0), 0).save.expect("a change");
    assert_eq!(released, kept);
    let emptied = change(&mut unit, A, REGISTER_AND_IGNORE, 0, (0, 2), 0).save.expect("no longer");
    assert_eq!(keys(&mut restarted(&emptied), A), (0, vec![]));
    assert_eq!(change(&mut unit, B, REGISTER, 0, (0, 2), 0).save, None);
}

#[test]
fn what_a_restart_found_is_known_as_saved() {
    let (_, saved) = saved();
    let mut unit = restarted(&saved);
    assert_eq!(change(&mut unit, A, RESERVE, EXCLUSIVE_ACCESS, (0xa, 0), 0).save, None);
    assert_eq!(attentions(&mut unit, B), []);
}

#[test]
fn another_volumes_reservations_are_refused() {
    let (_, saved) = saved();
    let other = Identity { uuid: [7; 16], ..identity() };
    assert_eq!(Unit::new(other, DISK, Some(&saved)).err(), Some(SavedError::OtherVolume));
}

#[test]
fn another_version_is_refused() {
    let (_, mut saved) = saved();
    saved[11] = 2;
    assert_eq!(Unit::new(identity(), DISK, Some(&saved)).err(), Some(SavedError::Unknown));
    assert_eq!(Unit::new(identity(), DISK, Some(b"{}")).err(), Some(SavedError::Damaged));
}

proptest! {
    #[test]
    fn any_altered_byte_is_noticed(at in any::<prop::sample::Index>(), flipped in 1..=255_u8) {
        let (_, mut saved) = saved();
        let at = at.index(saved.len());
        saved[at] ^= flipped;
        prop_assert!(Unit::new(identity(), DISK, Some(&saved)).is_err());
    }

    #[test]
    fn any_cut_is_noticed(at in any::<prop::sample::Index>()) {
        let (_, saved) = saved();
        let cut = &saved[..at.index(saved.len())];
        prop_assert!(Unit::new(identity(), DISK, Some(cut)).is_err());
    }

    #[test]
    fn anything_is_withstood(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Unit::new(identity(), DISK, Some(&bytes)).is_err());
    }
}
