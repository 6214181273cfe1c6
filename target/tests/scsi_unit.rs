//! Logical units on real cores: what commands do to the bytes of volumes, on every kind of store, also from other
//! cores; and what units keep across restarts.

mod cores;
mod units;

use std::fs;

use cores::{Cleared, every_backing, settings};
use ringsan::scsi_unit::{Management, ScsiAnswer};
use ringsan::settings::{Backing, FileCache};
use units::{Node, Session, cdb};
use uuid::Uuid;
use wire::scsi::copy::Designator;
use wire::scsi::{Identity, Reset, SenseKey, Status, additional};

const BLOCK: usize = 512;
const SIZE: u64 = 8 << 20;

/// Every kind of store on two cores, a session on the other core than the unit's.
fn on_every_backing(name: &str, work: impl Fn(&Node, Uuid)) {
    let folder = tempfile::tempdir().expect("a folder");
    for backing in every_backing(folder.path(), name) {
        let cleared = Cleared(backing.clone());
        let volume = settings(&backing, SIZE);
        let node = Node::start(&folder.path().join("reservations"), &[(volume.clone(), 1)]);
        work(&node, volume.uuid);
        node.stop();
        drop(cleared);
    }
}

#[test]
fn what_was_written_is_read_from_another_core() {
    on_every_backing("rw", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        let data: Vec<u8> = (0..9 * BLOCK).map(|i| (i * 7 % 251) as u8).collect();
        session.good(&cdb::write16(3, 9), &data);
        assert_eq!(session.good(&cdb::read16(3, 9), &[]), data);
        assert_eq!(session.good(&cdb::read16(2, 1), &[]), [0; BLOCK]);
    });
}

#[test]
fn write_same_fills_its_range_alone() {
    on_every_backing("same", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        let block: Vec<u8> = (0..BLOCK).map(|i| (i % 250) as u8 + 1).collect();
        session.good(&cdb::write_same16(5, 3001, 0), &block);
        assert_eq!(session.good(&cdb::read16(4, 1), &[]), [0; BLOCK]);
        assert_eq!(session.good(&cdb::read16(5, 3001), &[]), block.repeat(3001));
        assert_eq!(session.good(&cdb::read16(3006, 1), &[]), [0; BLOCK]);
        // NDOB: no data, zeroes; with UNMAP they may become holes.
        session.good(&cdb::write_same16(7, 2000, cdb::NDOB | cdb::UNMAP), &[]);
        assert_eq!(session.good(&cdb::read16(6, 1), &[]), block);
        assert_eq!(session.good(&cdb::read16(7, 2000), &[]), vec![0; 2000 * BLOCK]);
        assert_eq!(session.good(&cdb::read16(2007, 1), &[]), block);
    });
}

#[test]
fn unmapped_blocks_read_as_zeroes_to_the_last_one() {
    on_every_backing("unmap", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        session.good(&cdb::write_same16(0, 4000, 0), &[7; BLOCK]);
        session.good(&cdb::unmap_cdb(2), &cdb::unmap_list(&[(3, 1), (9, 2001)]));
        for lba in [0, 2, 4, 8, 2010, 3999] {
            assert_eq!(session.good(&cdb::read16(lba, 1), &[]), [7; BLOCK], "block {lba} stays");
        }
        assert_eq!(session.good(&cdb::read16(3, 1), &[]), [0; BLOCK]);
        assert_eq!(session.good(&cdb::read16(9, 2001), &[]), vec![0; 2001 * BLOCK]);
        let status = session.good(&cdb::get_lba_status(512), &[]);
        let (lba, provisioning) = (&status[8..16], status[20] & 0xf);
        assert_eq!(lba, 512u64.to_be_bytes());
        assert!(provisioning <= 1, "mapped, or deallocated where the backing has a hole");
    });
}

#[test]
fn compare_and_write_tells_the_offset_of_the_difference() {
    on_every_backing("caw", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        session.good(&cdb::write16(8, 2), &[5; 2 * BLOCK]);
        let mut data = [5; 4 * BLOCK];
        data[700] = 6;
        let refusal = session.refused(&cdb::compare_and_write(8, 2), &data);
        let sense = refusal.sense.expect("sense");
        assert_eq!((sense.key, sense.information), (SenseKey::Miscompare, Some(700)));
        data[700] = 5;
        data[2 * BLOCK..].fill(9);
        let refusal = session.refused(&cdb::compare_and_write(8, 1), &data);
        assert_eq!(refusal.sense.expect("sense").additional(), additional::INVALID_FIELD_IN_CDB, "too much");
        session.good(&cdb::compare_and_write(8, 2), &data);
        assert_eq!(session.good(&cdb::read16(8, 2), &[]), [9; 2 * BLOCK]);
    });
}

#[test]
fn verify_and_orwrite_look_at_the_medium() {
    on_every_backing("verify", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        session.good(&cdb::write16(1, 3), &[0x0f; 3 * BLOCK]);
        session.good(&cdb::orwrite16(2, 1), &[0x30; BLOCK]);
        let mut expected = [0x0f; 3 * BLOCK];
        expected[BLOCK..2 * BLOCK].fill(0x3f);
        session.good(&cdb::verify16(1, 3, 1), &expected);
        session.good(&cdb::verify16(3, 1, 3), &[0x0f; BLOCK]);
        session.good(&cdb::verify16(1, 3, 0), &[]);
        expected[2 * BLOCK + 17] = 1;
        let sense = session.refused(&cdb::verify16(1, 3, 1), &expected).sense.expect("sense");
        assert_eq!((sense.key, sense.information), (SenseKey::Miscompare, Some(2 * BLOCK as u64 + 17)));
        let sense = session.refused(&cdb::verify16(1, 3, 3), &[0x0f; BLOCK]).sense.expect("sense");
        assert_eq!(sense.key, SenseKey::Miscompare);
        session.good(&cdb::write_and_verify16(6, 2, 1), &[3; 2 * BLOCK]);
        assert_eq!(session.good(&cdb::read16(6, 2), &[]), [3; 2 * BLOCK]);
    });
}

#[test]
fn cache_commands_succeed() {
    on_every_backing("cache", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        session.good(&cdb::write16(0, 1), &[1; BLOCK]);
        session.good(&cdb::synchronize_cache16(0, 0, false), &[]);
        session.good(&cdb::synchronize_cache16(0, 0, true), &[]);
        let refusal = session.refused(&cdb::prefetch16(0, 8), &[]);
        assert_eq!((refusal.status, refusal.sense), (Status::ConditionMet, None));
    });
}

#[test]
fn a_copy_reaches_units_of_other_cores() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (settings(&Backing::Memory, SIZE), settings(&Backing::Memory, SIZE));
    let to = std::sync::Arc::new(ringsan::settings::VolumeSettings { name: "to".into(), ..(*to).clone() });
    let node = Node::start(folder.path(), &[(from.clone(), 0), (to.clone(), 1)]);
    let source = node.attach(from.uuid, "iqn.2026-11.test:a", 0);
    let destination = node.attach(to.uuid, "iqn.2026-11.test:a", 0);
    let data: Vec<u8> = (0..3000 * BLOCK).map(|i| (i / 3 % 253) as u8).collect();
    source.good(&cdb::write16(100, 3000), &data);
    destination.good(&cdb::write_same16(0, 4000, 0), &[0xee; BLOCK]);
    let ends = [designator(&from), designator(&to)];
    for session in [&source, &destination] {
        let list = cdb::copy_list(&ends, (0, 1), 3000, 100, 50);
        session.good(&cdb::extended_copy(list.len()), &list);
        assert_eq!(destination.good(&cdb::read16(50, 3000), &[]), data);
        assert_eq!(destination.good(&cdb::read16(49, 1), &[]), [0xee; BLOCK]);
        assert_eq!(destination.good(&cdb::read16(3050, 1), &[]), [0xee; BLOCK]);
        destination.good(&cdb::write_same16(0, 4000, 0), &[0xee; BLOCK]);
    }
    // Onto itself, a little further back.
    let list = cdb::copy_list(&ends, (0, 0), 3000, 100, 1100);
    source.good(&cdb::extended_copy(list.len()), &list);
    assert_eq!(source.good(&cdb::read16(1100, 3000), &[]), data);
    let list = cdb::copy_list(&ends, (0, 1), 3000, 100, SIZE / BLOCK as u64 - 2999);
    let refusal = source.refused(&cdb::extended_copy(list.len()), &list);
    assert_eq!(refusal.sense.expect("sense").key, SenseKey::CopyAborted);
    let untouched = destination.good(&cdb::read16(SIZE / BLOCK as u64 - 2999, 2999), &[]);
    assert_eq!(untouched, vec![0; 2999 * BLOCK], "a segment that does not fit is not begun");
    let stranger = Designator { bytes: vec![0x30, 0, 0, 0, 0, 0, 0, 1], ..ends[0].clone() };
    let list = cdb::copy_list(&[ends[0].clone(), stranger], (0, 1), 1, 0, 0);
    let refusal = source.refused(&cdb::extended_copy(list.len()), &list);
    assert_eq!(refusal.sense.expect("sense").key, SenseKey::CopyAborted);
    node.stop();
}

fn designator(volume: &ringsan::settings::VolumeSettings) -> Designator {
    let identity = Identity { uuid: *volume.uuid.as_bytes(), volume_name: volume.name.clone() };
    let naa = identity.designators().into_iter().find(|designator| designator.kind == 3);
    naa.expect("every unit has an NAA identifier")
}

#[test]
fn a_copy_keeps_off_what_another_initiator_has_reserved() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, SIZE);
    let other = settings(&Backing::Memory, SIZE);
    let other =
        std::sync::Arc::new(ringsan::settings::VolumeSettings { name: "other".into(), ..(*other).clone() });
    let node = Node::start(folder.path(), &[(volume.clone(), 0), (other.clone(), 1)]);
    let source = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    let owner = node.attach(other.uuid, "iqn.2026-11.test:b", 0);
    owner.good(&cdb::reserve_out(0, 0), &cdb::reserve_list(0, 0xb, false));
    owner.good(&cdb::reserve_out(1, 3), &cdb::reserve_list(0xb, 0, false));
    let list = cdb::copy_list(&[designator(&volume), designator(&other)], (0, 1), 8, 0, 0);
    let refusal = source.refused(&cdb::extended_copy(list.len()), &list);
    assert_eq!(refusal.sense.expect("sense").key, SenseKey::CopyAborted);
    assert_eq!(owner.good(&cdb::read16(0, 8), &[]), [0; 8 * BLOCK]);
    node.stop();
}

#[test]
fn overwriting_reaches_every_block_and_goes_on_when_its_command_is_aborted() {
    let folder = tempfile::tempdir().expect("a folder");
    let backing = Backing::File { path: folder.path().join("disk"), cache: FileCache::Auto };
    let volume = settings(&backing, SIZE);
    let node = Node::start(folder.path(), &[(volume.clone(), 1)]);
    let session = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    session.good(&cdb::write16(77, 1), &[7; BLOCK]);
    // Two passes of AA55h, the second inverted.
    let running = session.begin(&cdb::sanitize(1, false, 6), &[0x82, 0, 0, 2, 0xaa, 0x55]);
    let sense = session.refused(&cdb::read16(0, 1), &[]).sense.expect("sense");
    assert_eq!((sense.key, sense.additional()), (SenseKey::NotReady, additional::SANITIZE_IN_PROGRESS));
    session.abort(session.last_tag() - 1);
    assert!(matches!(running.recv().expect("answered"), ScsiAnswer::Done(None)));
    session.ready();
    for lba in [0, 77, SIZE / BLOCK as u64 - 1] {
        let block = session.good(&cdb::read16(lba, 1), &[]);
        assert_eq!(block, [0x55, 0xaa].repeat(BLOCK / 2), "block {lba}");
    }
    node.stop();
}

#[test]
fn a_block_erase_goes_on_when_its_session_has_left() {
    on_every_backing("erase", |node, uuid| {
        let session = node.attach(uuid, "iqn.2026-11.test:a", 0);
        session.good(&cdb::write_same16(0, 4000, 0), &[7; BLOCK]);
        session.good(&cdb::sanitize(2, true, 0), &[]);
        session.detach();
        let session = node.attach(uuid, "iqn.2026-11.test:b", 0);
        session.ready();
        assert_eq!(session.good(&cdb::read16(0, 4000), &[]), vec![0; 4000 * BLOCK]);
    });
}

#[test]
fn an_interrupted_sanitize_shuts_the_unit_until_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, SIZE);
    let path = folder.path().join(format!("{}.sanitize", volume.uuid));
    fs::write(&path, "begun").expect("written");
    let node = Node::start(folder.path(), &[(volume.clone(), 0)]);
    let session = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    let sense = session.refused(&cdb::read16(0, 1), &[]).sense.expect("sense");
    assert_eq!(sense.additional(), additional::SANITIZE_COMMAND_FAILED);
    session.refused(&cdb::sanitize(0x1f, false, 0), &[]);
    session.good(&cdb::sanitize(2, false, 0), &[]);
    session.good(&cdb::read16(0, 1), &[]);
    assert!(!path.exists(), "the mark is gone");
    node.stop();
}

#[test]
fn reservations_outlive_the_node_when_they_were_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, SIZE);
    let volumes = [(volume.clone(), 1)];
    let node = Node::start(folder.path(), &volumes);
    let owner = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    owner.good(&cdb::reserve_out(0, 0), &cdb::reserve_list(0, 0xa, true));
    owner.good(&cdb::reserve_out(1, 1), &cdb::reserve_list(0xa, 0, false));
    node.stop();

    let node = Node::start(folder.path(), &volumes);
    let other = node.attach(volume.uuid, "iqn.2026-11.test:b", 0);
    let refusal = other.refused(&cdb::write16(0, 1), &[1; BLOCK]);
    assert_eq!(refusal.status, Status::ReservationConflict);
    let owner = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    owner.good(&cdb::write16(0, 1), &[1; BLOCK]);
    owner.good(&cdb::reserve_out(3, 0), &cdb::reserve_list(0xa, 0, false));
    other.good(&cdb::write16(0, 1), &[2; BLOCK]);
    node.stop();

    let node = Node::start(folder.path(), &volumes);
    let other = node.attach(volume.uuid, "iqn.2026-11.test:b", 0);
    other.good(&cdb::write16(0, 1), &[3; BLOCK]);
    node.stop();
}

#[test]
fn a_unit_with_damaged_reservations_is_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, SIZE);
    let volumes = [(volume.clone(), 0)];
    let node = Node::start(folder.path(), &volumes);
    let owner = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    owner.good(&cdb::reserve_out(0, 0), &cdb::reserve_list(0, 0xa, true));
    node.stop();
    let path = folder.path().join(volume.uuid.to_string());
    let sound = fs::read(&path).expect("saved");
    for damage in [0, 9, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[damage] ^= 1;
        fs::write(&path, bytes).expect("written");
        let node = Node::start(folder.path(), &volumes);
        let refused = node.try_attach(volume.uuid, "iqn.2026-11.test:a", 0).err();
        let reason = refused.expect("it is not served");
        assert!(reason.contains(&*path.to_string_lossy()), "{reason}");
        node.stop();
    }
    fs::write(&path, sound).expect("written");
    let node = Node::start(folder.path(), &volumes);
    node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    node.stop();
}

/// Two sessions of a unit, the first with a command under way that takes long unless it is aborted.
fn with_a_long_command(work: impl Fn(&Session, &Session)) {
    const LARGE: u64 = 1 << 30;
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, LARGE);
    let node = Node::start(folder.path(), &[(volume.clone(), 1)]);
    let victim = node.attach(volume.uuid, "iqn.2026-11.test:victim", 0);
    let other = node.attach(volume.uuid, "iqn.2026-11.test:other", 0);
    for (session, key) in [(&victim, 1), (&other, 2)] {
        session.good(&cdb::reserve_out(0, 0), &cdb::reserve_list(0, key, false));
    }
    let running = victim.begin(&cdb::write_same16(0, (LARGE / BLOCK as u64) as u32, 0), &[7; BLOCK]);
    work(&victim, &other);
    let answer = running.recv().expect("answered");
    assert!(matches!(answer, ScsiAnswer::Done(None)), "it was aborted: {answer:?}");
    let last = other.good(&cdb::read16(LARGE / BLOCK as u64 - 1, 1), &[]);
    assert_eq!(last, [0; BLOCK], "it went no further");
    node.stop();
}

fn attention(session: &Session) -> (u8, u8) {
    let sense = session.refused(&[0; 6], &[]).sense.expect("sense");
    assert_eq!(sense.key, SenseKey::UnitAttention);
    sense.additional()
}

#[test]
fn preempt_and_abort_reaches_commands_of_another_core() {
    with_a_long_command(|victim, other| {
        other.good(&cdb::reserve_out(5, 0), &cdb::reserve_list(2, 1, false));
        assert_eq!(attention(victim), additional::REGISTRATIONS_PREEMPTED);
    });
}

#[test]
fn a_cleared_task_set_tells_those_who_lost_commands() {
    with_a_long_command(|victim, other| {
        other.manage(Management::ClearTaskSet);
        assert_eq!(attention(victim), additional::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
    });
}

#[test]
fn a_reset_tells_everyone() {
    with_a_long_command(|victim, other| {
        other.manage(Management::Reset(Reset::LogicalUnit));
        assert_eq!(attention(victim), additional::BUS_DEVICE_RESET_FUNCTION_OCCURRED);
        assert_eq!(attention(other), additional::BUS_DEVICE_RESET_FUNCTION_OCCURRED);
    });
}

#[test]
fn a_command_is_aborted_by_its_tag() {
    with_a_long_command(|victim, _| victim.abort(victim.last_tag()));
}

#[test]
fn others_hear_of_a_new_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = settings(&Backing::Memory, SIZE);
    let node = Node::start(folder.path(), &[(volume.clone(), 1)]);
    let session = node.attach(volume.uuid, "iqn.2026-11.test:a", 0);
    session.good(&cdb::read16(0, 1), &[]);
    node.resize(volume.uuid, 1, 2 * SIZE);
    let sense = session.refused(&cdb::read16(0, 1), &[]).sense.expect("sense");
    assert_eq!(sense.additional(), additional::CAPACITY_DATA_HAS_CHANGED);
    session.good(&cdb::read16(2 * SIZE / BLOCK as u64 - 1, 1), &[]);
    node.stop();
}
