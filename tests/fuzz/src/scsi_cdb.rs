//! CDBs with parameter lists, one after another, from two initiators on one logical unit.
//!
//! Input: a byte that chooses the medium, then for each command a byte (bit 0 the initiator, the rest events
//! before it), 16 bytes of CDB, the number of bytes of data out (2), and the data.

use wire::scsi::copy::CopyOutcome;
use wire::scsi::{
    Answer, Command, Geometry, Identity, InitiatorPort, NexusId, Refusal, Reset, Sense, Status, TargetPort,
    Unit, copy, sanitize, unmap,
};

/// A unit never panics, and lets pass only what its medium and its limits allow.
pub fn scsi_cdb(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut unit = Unit::new(identity(), geometry(*choice), None).expect("nothing was saved");
    for nexus in 0..2 {
        attach(&mut unit, NexusId(nexus));
    }
    while let Some((&[events, ref command @ ..], after)) = rest.split_first_chunk::<19>() {
        let (cdb, length) = command.split_at(16);
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(after.len());
        let (data_out, after) = after.split_at(length);
        let nexus = NexusId(u32::from(events & 1));
        happen(&mut unit, nexus, events >> 1);
        match unit.begin(nexus, cdb) {
            Ok(Command::Unit(command)) => {
                let answer = unit.answer(nexus, &command, data_out);
                check_answer(&unit, &answer);
            }
            Ok(command) => carry_out(&mut unit, nexus, &command, data_out),
            Err(refusal) => check_refusal(&refusal),
        }
        rest = after;
    }
}

fn identity() -> Identity {
    Identity { uuid: [7; 16], volume_name: "disk0".to_owned() }
}

fn geometry(choice: u8) -> Geometry {
    let is = |bit: u8| choice >> bit & 1 != 0;
    Geometry {
        block_bytes: if is(0) { 4096 } else { 512 },
        blocks: if is(1) { 1 << 40 } else { 1000 },
        physical_block_exponent: 3,
        optimal_blocks: 0,
        transfer_blocks_max: if is(2) { 0 } else { 64 },
        unmap_blocks_max: 1 << 16,
        unmap_descriptors_max: 16,
        unmap_granularity_blocks: 1,
        write_same_blocks_max: if is(2) { 0 } else { 100 },
        compare_and_write_blocks_max: 16,
        can_discard: is(3),
        zero_after_unmap: is(4),
        read_only: is(5),
        write_cache: is(6),
        removable: is(7),
    }
}

fn attach(unit: &mut Unit, nexus: NexusId) {
    let initiator = InitiatorPort { name: "iqn.a".to_owned(), isid: [0x80, 0, 0, 0, 0, nexus.0 as u8] };
    let target = TargetPort { target_name: "iqn.t".to_owned(), portal_group: 1, relative_port: 1 };
    unit.attach(nexus, initiator, target);
    // Otherwise every first command would end here.
    unit.begin(nexus, &[0; 6]).expect_err("it was just switched on");
}

/// What may happen between two commands.
fn happen(unit: &mut Unit, nexus: NexusId, event: u8) {
    match event {
        0x40 => unit.reset(Reset::LogicalUnit),
        0x41 => {
            unit.detach(nexus);
            attach(unit, nexus);
        }
        0x42 => unit.tasks_cleared(nexus, &[NexusId(0), NexusId(1)]),
        0x43 => unit.set_luns(nexus, &[0, 1 << 48]),
        0x44 => unit.sanitize_ended(true),
        0x45 => unit.sanitize_ended(false),
        _ => {}
    }
}

fn carry_out(unit: &mut Unit, nexus: NexusId, command: &Command, data_out: &[u8]) {
    let geometry = *unit.geometry();
    let announced = command.data_out_bytes(geometry.block_bytes);
    if let Some((lba, blocks)) = command.extent() {
        assert!(lba.checked_add(blocks).is_some_and(|end| end <= geometry.blocks));
    }
    let limit = geometry.transfer_blocks_max;
    match *command {
        Command::Read { blocks, .. } | Command::Verify { blocks, .. } => {
            assert!(limit == 0 || blocks <= limit);
        }
        Command::Write { blocks, .. } | Command::OrWrite { blocks, .. } => {
            assert!(!geometry.read_only && (limit == 0 || blocks <= limit));
        }
        Command::CompareAndWrite { blocks, .. } => {
            assert!(!geometry.read_only && blocks <= geometry.compare_and_write_blocks_max);
        }
        Command::WriteSame { unmap, ndob, .. } => {
            assert!(!geometry.read_only && (geometry.can_discard || !unmap));
            assert_eq!(announced == 0, ndob);
        }
        Command::Unmap { .. } => {
            assert!(!geometry.read_only && geometry.can_discard);
            check_unmap(data_out, &geometry);
        }
        Command::ExtendedCopy { lid4, .. } => check_copy(unit, nexus, data_out, lid4),
        Command::Sanitize { .. } => check_sanitize(unit, data_out),
        _ => assert_eq!(announced, 0),
    }
}

fn check_unmap(data_out: &[u8], geometry: &Geometry) {
    match unmap::parse(data_out, geometry) {
        Ok(extents) => {
            assert!(extents.iter().all(|(lba, blocks)| lba + blocks <= geometry.blocks));
            assert!(extents.iter().map(|extent| extent.1).sum::<u64>() <= geometry.unmap_blocks_max.into());
        }
        Err(refusal) => check_refusal(&refusal),
    }
}

fn check_copy(unit: &mut Unit, nexus: NexusId, data_out: &[u8], lid4: bool) {
    let plan = match copy::parse(data_out, lid4) {
        Ok(plan) => plan,
        Err(refusal) => return check_refusal(&refusal),
    };
    for segment in &plan.segments {
        assert!(usize::from(segment.source.max(segment.destination)) < plan.ends.len());
    }
    let refusal = (data_out.len() % 2 == 1).then_some(copy::SEGMENT_FAILED);
    unit.copy_ended(nexus, plan.list_id, CopyOutcome { segments_done: 1, bytes_done: 512, refusal });
}

fn check_sanitize(unit: &mut Unit, data_out: &[u8]) {
    match sanitize::parse(data_out, unit.geometry()) {
        Ok(overwrite) => {
            assert!((1..=unit.geometry().block_bytes as usize).contains(&overwrite.pattern.len()));
            assert!(overwrite.passes > 0);
        }
        Err(refusal) => check_refusal(&refusal),
    }
    unit.sanitize_started();
}

fn check_answer(unit: &Unit, answer: &Answer) {
    if let Err(refusal) = &answer.result {
        check_refusal(refusal);
        assert!(answer.save.is_none() && answer.abort.is_empty() && !answer.flush);
    }
    if let Some(saved) = &answer.save {
        Unit::new(identity(), *unit.geometry(), Some(saved)).expect("what was saved can be loaded");
    }
}

/// A refusal can be told in both formats.
fn check_refusal(refusal: &Refusal) {
    assert_ne!(refusal.status, Status::Good);
    assert_eq!(refusal.sense.is_some(), refusal.status == Status::CheckCondition);
    let Some(sense) = refusal.sense else { return };
    for descriptor in [false, true] {
        let mut bytes = Vec::new();
        sense.encode(descriptor, &mut bytes);
        let again = Sense::decode(&bytes).expect("ours");
        assert_eq!(
            (again.key, again.additional(), again.field),
            (sense.key, sense.additional(), sense.field)
        );
        assert!(!descriptor || again == sense);
    }
}
