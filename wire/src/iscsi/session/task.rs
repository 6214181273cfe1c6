//! A SCSI task as its session knows it.
//!
//! Its one rule: what a task was asked for never changes; how far its data has come is its `DataOut`'s.

use crate::iscsi::pdu::{Cdb, Lun, TaskAttribute};

/// A task of a session: dense and small, an index for tables of the mover. Used again once the task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

/// What a command asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The logical unit.
    pub lun: Lun,
    /// The command.
    pub cdb: Cdb,
    /// Data in may be sent.
    pub read: bool,
    /// Data out may be asked for.
    pub write: bool,
    /// How much of either: Expected Data Transfer Length.
    pub expected_bytes: u32,
    /// How it may be ordered among others.
    pub attribute: TaskAttribute,
    /// The initiator's name of it.
    pub initiator_task_tag: u32,
    /// Carried out out of turn.
    pub immediate: bool,
    /// Its place in the initiator's order.
    pub cmd_sn: u32,
    /// Ended by a task management function, a reset or a logout: no response may be sent.
    pub is_aborted: bool,
}

/// What is wrong with a task's data out: the additional sense of an ABORTED COMMAND (§11.4.7.2, SPC-4 annex).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Data that nobody asked for, and that was not agreed on.
    UnexpectedUnsolicitedData,
    /// More than was asked for, or less.
    IncorrectAmountOfData,
    /// An answer to an R2T that was never sent.
    IllegalTransferTag,
    /// Out of its place.
    DataOffset,
    /// Out of its order: DataSN.
    DataSequence,
}

impl Fault {
    /// Additional sense code and qualifier; the sense key is ABORTED COMMAND.
    pub fn additional_sense(self) -> (u8, u8) {
        match self {
            Fault::UnexpectedUnsolicitedData => (0x0c, 0x0c),
            Fault::IncorrectAmountOfData => (0x0c, 0x0d),
            Fault::IllegalTransferTag => (0x4b, 0x01),
            Fault::DataOffset => (0x4b, 0x05),
            Fault::DataSequence => (0x4b, 0x00),
        }
    }
}
