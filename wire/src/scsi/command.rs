//! What a command descriptor block asks for, as a value.
//!
//! Its one rule: a `Command` that touches the medium lies inside it and keeps the limits of the unit's
//! geometry, so nobody behind `Unit::begin` looks again.

use super::reservation::{ReserveIn, ReserveOut};

/// How VERIFY and WRITE AND VERIFY compare (BYTCHK, SBC-3 5.34).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteCheck {
    /// 00b: the medium alone is checked; no data come with the command.
    None,
    /// 01b: with the data sent, block by block.
    Compare,
    /// 11b: every block with the one block sent.
    CompareOne,
}

/// How SANITIZE destroys (SBC-3 5.24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitizeAction {
    /// Write a pattern over everything; [`super::sanitize::parse`] reads which.
    Overwrite,
    /// Let go of every block.
    BlockErase,
    /// Leave the failure mode of an earlier one.
    ExitFailureMode,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the standard's own")]
pub enum Command {
    Read {
        lba: u64,
        blocks: u32,
        fua: bool,
    },
    /// With `verify` a WRITE AND VERIFY: the data are compared with what is read back, if it says so.
    Write {
        lba: u64,
        blocks: u32,
        fua: bool,
        verify: Option<ByteCheck>,
    },
    Verify {
        lba: u64,
        blocks: u32,
        check: ByteCheck,
    },
    /// One block sent, written to each of `blocks`; with `ndob` none is sent and zeroes are written.
    /// With `unmap` the blocks may be let go if they then read as what was sent.
    WriteSame {
        lba: u64,
        blocks: u64,
        unmap: bool,
        ndob: bool,
    },
    /// [`super::unmap::parse`] reads the data.
    Unmap {
        parameter_bytes: u16,
    },
    OrWrite {
        lba: u64,
        blocks: u32,
        fua: bool,
    },
    /// Data: `blocks` to compare with, then `blocks` to write.
    CompareAndWrite {
        lba: u64,
        blocks: u8,
        fua: bool,
    },
    /// `blocks` reaches the end of the medium if the CDB says 0.
    SynchronizeCache {
        lba: u64,
        blocks: u64,
        immediate: bool,
    },
    PreFetch {
        lba: u64,
        blocks: u64,
        immediate: bool,
    },
    /// [`super::put_lba_status`] makes the answer.
    GetLbaStatus {
        lba: u64,
        allocation_bytes: u32,
    },
    /// [`super::copy::parse`] reads the data; [`super::Unit::copy_ended`] wants to hear how it went.
    ExtendedCopy {
        lid4: bool,
        parameter_bytes: u32,
    },
    /// [`super::Unit::sanitize_started`] and `sanitize_ended` want to hear of it.
    Sanitize {
        action: SanitizeAction,
        immediate: bool,
        unrestricted_exit: bool,
        parameter_bytes: u16,
    },
    /// For [`super::Unit::answer`].
    Unit(UnitCommand),
}

impl Command {
    /// How many bytes the initiator sends with it.
    #[inline]
    pub fn data_out_bytes(&self, block_bytes: u32) -> u64 {
        let block = u64::from(block_bytes);
        match *self {
            Command::Write { blocks, .. } | Command::OrWrite { blocks, .. } => u64::from(blocks) * block,
            Command::Verify { blocks, check, .. } => match check {
                ByteCheck::None => 0,
                ByteCheck::Compare => u64::from(blocks) * block,
                ByteCheck::CompareOne => u64::from(blocks.min(1)) * block,
            },
            Command::WriteSame { ndob, .. } => {
                if ndob {
                    0
                } else {
                    block
                }
            }
            Command::CompareAndWrite { blocks, .. } => 2 * u64::from(blocks) * block,
            Command::Unmap { parameter_bytes } | Command::Sanitize { parameter_bytes, .. } => {
                parameter_bytes.into()
            }
            Command::ExtendedCopy { parameter_bytes, .. } => parameter_bytes.into(),
            Command::Unit(ref command) => command.0.parameter_bytes(),
            _ => 0,
        }
    }

    /// How many bytes of the medium it sends to the initiator; what a unit answers counts for itself.
    #[inline]
    pub fn data_in_bytes(&self, block_bytes: u32) -> u64 {
        match *self {
            Command::Read { blocks, .. } => u64::from(blocks) * u64::from(block_bytes),
            _ => 0,
        }
    }

    /// The blocks that it touches, first and count, if it names them in its CDB.
    #[inline]
    pub fn extent(&self) -> Option<(u64, u64)> {
        match *self {
            Command::Read { lba, blocks, .. }
            | Command::Write { lba, blocks, .. }
            | Command::OrWrite { lba, blocks, .. }
            | Command::Verify { lba, blocks, .. } => Some((lba, blocks.into())),
            Command::CompareAndWrite { lba, blocks, .. } => Some((lba, blocks.into())),
            Command::WriteSame { lba, blocks, .. }
            | Command::SynchronizeCache { lba, blocks, .. }
            | Command::PreFetch { lba, blocks, .. } => Some((lba, blocks)),
            _ => None,
        }
    }
}

/// A command that the unit answers by itself, without the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitCommand(pub(super) UnitAction);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UnitAction {
    TestUnitReady,
    Inquiry { vpd_page: Option<u8>, allocation_bytes: u16 },
    ReportLuns { select: u8, allocation_bytes: u32 },
    RequestSense { descriptor: bool, allocation_bytes: u8 },
    ReadCapacity10,
    ReadCapacity16 { allocation_bytes: u32 },
    ModeSense(ModeSense),
    ModeSelect { long: bool, parameter_bytes: u16 },
    ReportOpcodes(ReportOpcodes),
    ReportTaskManagement { extended: bool, allocation_bytes: u32 },
    ReportTargetPortGroups { extended: bool, allocation_bytes: u32 },
    StartStop(StartStop),
    PreventAllow { prevent: bool },
    ReserveIn { action: ReserveIn, allocation_bytes: u16 },
    ReserveOut(ReserveOut),
    Reserve,
    Release,
    ReadDefectData { long: bool, flags: u8, allocation_bytes: u32 },
    ReceiveCopyResults(ReceiveCopyResults),
}

impl UnitAction {
    pub fn parameter_bytes(&self) -> u64 {
        match *self {
            UnitAction::ModeSelect { parameter_bytes, .. } => parameter_bytes.into(),
            UnitAction::ReserveOut(ReserveOut { parameter_bytes, .. }) => parameter_bytes.into(),
            _ => 0,
        }
    }
}

/// MODE SENSE (SPC-4 6.13, 6.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModeSense {
    /// MODE SENSE (10).
    pub long: bool,
    pub disable_block_descriptors: bool,
    pub long_lba_accepted: bool,
    pub page_control: u8,
    pub page: u8,
    pub subpage: u8,
    pub allocation_bytes: u16,
}

/// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportOpcodes {
    pub with_timeouts: bool,
    pub reporting: u8,
    pub opcode: u8,
    pub service_action: u16,
    pub allocation_bytes: u32,
}

/// START STOP UNIT (SBC-3 5.25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartStop {
    pub power_condition: u8,
    pub no_flush: bool,
    pub load_eject: bool,
    pub start: bool,
}

/// RECEIVE COPY RESULTS (SPC-4 6.23 and on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReceiveCopyResults {
    pub service_action: u8,
    pub list_id: u32,
    pub allocation_bytes: u32,
}
