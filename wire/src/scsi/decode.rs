//! Command descriptor blocks to values, one function a family of commands.
//!
//! Its one rule: each is called with a CDB that its entry in `opcodes` has checked, so the bytes are there
//! and bits without meaning are zero; what remains is the meaning: ranges, lengths, combinations.

use super::command::{ModeSense, ReceiveCopyResults, ReportOpcodes, StartStop, UnitAction};
use super::reservation::{ReserveIn, ReserveOut};
use super::{ByteCheck, Command, Geometry, Refusal, SanitizeAction, UnitCommand};

/// The medium that a command would meet.
pub(super) struct Medium<'a> {
    pub geometry: &'a Geometry,
    /// Every write is to be durable before it is answered: the write cache was switched off.
    pub write_through: bool,
}

type Decoded = Result<Command, Refusal>;

pub(super) fn read(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let (lba, blocks) = transfer(cdb, medium)?;
    Ok(Command::Read { lba, blocks, fua: fua(cdb) })
}

pub(super) fn write(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let (lba, blocks) = transfer(cdb, medium)?;
    Ok(Command::Write { lba, blocks, fua: fua(cdb) || medium.write_through, verify: None })
}

pub(super) fn write_and_verify(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let check = byte_check(cdb)?;
    if check == ByteCheck::CompareOne {
        return Err(Refusal::cdb_field(1, Some(2)));
    }
    let (lba, blocks) = transfer(cdb, medium)?;
    Ok(Command::Write { lba, blocks, fua: medium.write_through, verify: Some(check) })
}

pub(super) fn verify(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let check = byte_check(cdb)?;
    let (lba, blocks) = transfer(cdb, medium)?;
    Ok(Command::Verify { lba, blocks, check })
}

pub(super) fn or_write(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let (lba, blocks) = transfer(cdb, medium)?;
    Ok(Command::OrWrite { lba, blocks, fua: fua(cdb) || medium.write_through })
}

pub(super) fn compare_and_write(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let (lba, blocks) = (be64(cdb, 2), cdb[13]);
    check_range(lba, blocks.into(), medium.geometry)?;
    if blocks > medium.geometry.compare_and_write_blocks_max {
        return Err(Refusal::cdb_field(13, None));
    }
    Ok(Command::CompareAndWrite { lba, blocks, fua: fua(cdb) || medium.write_through })
}

pub(super) fn write_same(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let Span { lba, blocks, length_at } = Span::of(cdb);
    let unmap = cdb[1] & 0x08 != 0;
    if unmap && !medium.geometry.can_discard {
        return Err(Refusal::cdb_field(1, Some(3)));
    }
    let blocks = to_the_end(lba, blocks, medium.geometry)?;
    let blocks_max = medium.geometry.write_same_blocks_max;
    if blocks_max != 0 && blocks > blocks_max {
        return Err(Refusal::cdb_field(length_at, None));
    }
    Ok(Command::WriteSame { lba, blocks, unmap, ndob: cdb[1] & 0x01 != 0 })
}

pub(super) fn unmap(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    Ok(Command::Unmap { parameter_bytes: be16(cdb, 7) })
}

pub(super) fn synchronize_cache(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let Span { lba, blocks, .. } = Span::of(cdb);
    let blocks = to_the_end(lba, blocks, medium.geometry)?;
    Ok(Command::SynchronizeCache { lba, blocks, immediate: cdb[1] & 0x02 != 0 })
}

pub(super) fn pre_fetch(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let Span { lba, blocks, .. } = Span::of(cdb);
    let blocks = to_the_end(lba, blocks, medium.geometry)?;
    Ok(Command::PreFetch { lba, blocks, immediate: cdb[1] & 0x02 != 0 })
}

pub(super) fn get_lba_status(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let lba = be64(cdb, 2);
    check_range(lba, 1, medium.geometry)?;
    Ok(Command::GetLbaStatus { lba, allocation_bytes: be32(cdb, 10) })
}

pub(super) fn sanitize(cdb: &[u8], medium: &Medium<'_>) -> Decoded {
    let parameter_bytes = be16(cdb, 7);
    let (action, is_lawful) = match cdb[1] & 0x1f {
        1 => {
            let lawful = 5..=u64::from(medium.geometry.block_bytes) + 4;
            (SanitizeAction::Overwrite, lawful.contains(&parameter_bytes.into()))
        }
        2 => (SanitizeAction::BlockErase, parameter_bytes == 0),
        _ => (SanitizeAction::ExitFailureMode, parameter_bytes == 0),
    };
    if !is_lawful {
        return Err(Refusal::cdb_field(7, None));
    }
    let (immediate, unrestricted_exit) = (cdb[1] & 0x80 != 0, cdb[1] & 0x20 != 0);
    Ok(Command::Sanitize { action, immediate, unrestricted_exit, parameter_bytes })
}

pub(super) fn extended_copy(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    Ok(Command::ExtendedCopy { lid4: cdb[1] & 0x1f == 1, parameter_bytes: be32(cdb, 10) })
}

pub(super) fn test_unit_ready(_: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::TestUnitReady)
}

pub(super) fn request_sense(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::RequestSense { descriptor: cdb[1] & 1 != 0, allocation_bytes: cdb[4] })
}

pub(super) fn inquiry(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let vpd_page = (cdb[1] & 1 != 0).then_some(cdb[2]);
    if vpd_page.is_none() && cdb[2] != 0 {
        return Err(Refusal::cdb_field(2, None));
    }
    unit(UnitAction::Inquiry { vpd_page, allocation_bytes: be16(cdb, 3) })
}

pub(super) fn report_luns(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    if cdb[2] > 2 {
        return Err(Refusal::cdb_field(2, None));
    }
    unit(UnitAction::ReportLuns { select: cdb[2], allocation_bytes: be32(cdb, 6) })
}

pub(super) fn read_capacity_10(_: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::ReadCapacity10)
}

pub(super) fn read_capacity_16(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::ReadCapacity16 { allocation_bytes: be32(cdb, 10) })
}

pub(super) fn mode_sense(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let long = cdb[0] == 0x5a;
    unit(UnitAction::ModeSense(ModeSense {
        long,
        disable_block_descriptors: cdb[1] & 0x08 != 0,
        long_lba_accepted: cdb[1] & 0x10 != 0,
        page_control: cdb[2] >> 6,
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        allocation_bytes: if long { be16(cdb, 7) } else { cdb[4].into() },
    }))
}

pub(super) fn mode_select(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let long = cdb[0] == 0x55;
    // SP: nothing is saved here (SPC-4 6.11).
    if cdb[1] & 0x01 != 0 {
        return Err(Refusal::cdb_field(1, Some(0)));
    }
    unit(UnitAction::ModeSelect { long, parameter_bytes: if long { be16(cdb, 7) } else { cdb[4].into() } })
}

pub(super) fn report_opcodes(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::ReportOpcodes(ReportOpcodes {
        with_timeouts: cdb[2] & 0x80 != 0,
        reporting: cdb[2] & 0x07,
        opcode: cdb[3],
        service_action: be16(cdb, 4),
        allocation_bytes: be32(cdb, 6),
    }))
}

pub(super) fn report_task_management(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let (extended, allocation_bytes) = (cdb[2] & 0x80 != 0, be32(cdb, 6));
    unit(UnitAction::ReportTaskManagement { extended, allocation_bytes })
}

pub(super) fn report_target_port_groups(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let format = cdb[1] >> 5;
    if format > 1 {
        return Err(Refusal::cdb_field(1, Some(7)));
    }
    unit(UnitAction::ReportTargetPortGroups { extended: format == 1, allocation_bytes: be32(cdb, 6) })
}

pub(super) fn start_stop(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::StartStop(StartStop {
        power_condition: cdb[4] >> 4,
        no_flush: cdb[4] & 0x04 != 0,
        load_eject: cdb[4] & 0x02 != 0,
        start: cdb[4] & 0x01 != 0,
    }))
}

pub(super) fn prevent_allow(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::PreventAllow { prevent: cdb[4] & 1 != 0 })
}

pub(super) fn reserve(_: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::Reserve)
}

pub(super) fn release(_: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::Release)
}

pub(super) fn reserve_in(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let action = match cdb[1] & 0x1f {
        0 => ReserveIn::ReadKeys,
        1 => ReserveIn::ReadReservation,
        2 => ReserveIn::ReportCapabilities,
        _ => ReserveIn::ReadFullStatus,
    };
    unit(UnitAction::ReserveIn { action, allocation_bytes: be16(cdb, 7) })
}

pub(super) fn reserve_out(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    unit(UnitAction::ReserveOut(ReserveOut {
        action: cdb[1] & 0x1f,
        scope: cdb[2] >> 4,
        kind: cdb[2] & 0x0f,
        parameter_bytes: be32(cdb, 5),
    }))
}

pub(super) fn read_defect_data(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let long = cdb[0] == 0xb7;
    let flags = if long { cdb[1] } else { cdb[2] };
    let allocation_bytes = if long { be32(cdb, 6) } else { be16(cdb, 7).into() };
    unit(UnitAction::ReadDefectData { long, flags, allocation_bytes })
}

pub(super) fn receive_copy_results(cdb: &[u8], _: &Medium<'_>) -> Decoded {
    let service_action = cdb[1] & 0x1f;
    let list_id = if service_action == 5 { be32(cdb, 2) } else { cdb[2].into() };
    unit(UnitAction::ReceiveCopyResults(ReceiveCopyResults {
        service_action,
        list_id,
        allocation_bytes: be32(cdb, 10),
    }))
}

fn unit(action: UnitAction) -> Decoded {
    Ok(Command::Unit(UnitCommand(action)))
}

/// Where a CDB says which blocks, by the length that its group code stands for (SPC-4 4.2.5).
struct Span {
    lba: u64,
    blocks: u32,
    /// The byte where TRANSFER LENGTH begins.
    length_at: u16,
}

impl Span {
    #[inline]
    fn of(cdb: &[u8]) -> Span {
        match cdb[0] >> 5 {
            0 => {
                let lba = u64::from(cdb[1] & 0x1f) << 16 | u64::from(be16(cdb, 2));
                // READ (6) and WRITE (6) mean 256 by 0.
                let blocks = if cdb[4] == 0 { 256 } else { cdb[4].into() };
                Span { lba, blocks, length_at: 4 }
            }
            4 => Span { lba: be64(cdb, 2), blocks: be32(cdb, 10), length_at: 10 },
            5 => Span { lba: be32(cdb, 2).into(), blocks: be32(cdb, 6), length_at: 6 },
            _ => Span { lba: be32(cdb, 2).into(), blocks: be16(cdb, 7).into(), length_at: 7 },
        }
    }
}

/// The blocks of a command that moves them, within MAXIMUM TRANSFER LENGTH.
#[inline]
fn transfer(cdb: &[u8], medium: &Medium<'_>) -> Result<(u64, u32), Refusal> {
    let Span { lba, blocks, length_at } = Span::of(cdb);
    check_range(lba, blocks.into(), medium.geometry)?;
    let blocks_max = medium.geometry.transfer_blocks_max;
    if blocks_max != 0 && blocks > blocks_max {
        return Err(Refusal::cdb_field(length_at, None));
    }
    Ok((lba, blocks))
}

/// For commands that mean by 0 blocks all that follow.
fn to_the_end(lba: u64, blocks: u32, geometry: &Geometry) -> Result<u64, Refusal> {
    check_range(lba, blocks.into(), geometry)?;
    Ok(if blocks == 0 { geometry.blocks - lba } else { blocks.into() })
}

/// An address beyond the medium is refused also if no block is asked for (SBC-3 5.8).
#[inline]
pub(super) fn check_range(lba: u64, blocks: u64, geometry: &Geometry) -> Result<(), Refusal> {
    let is_inside = lba < geometry.blocks || lba == 0;
    if is_inside && blocks <= geometry.blocks - lba {
        return Ok(());
    }
    Err(Refusal::lba_out_of_range(lba.max(geometry.blocks)))
}

/// FUA; six-byte CDBs have none.
#[inline]
fn fua(cdb: &[u8]) -> bool {
    cdb[0] >> 5 != 0 && cdb[1] & 0x08 != 0
}

fn byte_check(cdb: &[u8]) -> Result<ByteCheck, Refusal> {
    match cdb[1] >> 1 & 3 {
        0 => Ok(ByteCheck::None),
        1 => Ok(ByteCheck::Compare),
        3 => Ok(ByteCheck::CompareOne),
        _ => Err(Refusal::cdb_field(1, Some(2))),
    }
}

#[inline]
fn be16(cdb: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(cdb, at))
}

#[inline]
fn be32(cdb: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(cdb, at))
}

#[inline]
fn be64(cdb: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(cdb, at))
}

#[inline]
fn field<const N: usize>(cdb: &[u8], at: usize) -> [u8; N] {
    *cdb[at..].first_chunk().expect("the CDB is as long as its usage mask")
}
