//! What a session asks of its mover.
//!
//! Its one rule: effects are carried out in their order, all of them before the next header is taken.

use std::fmt;

use super::{Fault, TaskId};
use crate::iscsi::pdu::{Lun, Response};

/// Where the data segment of a PDU goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To `complete`, whole: at most our own MaxRecvDataSegmentLength.
    Collect,
    /// Into the data out of a task, from `offset` on.
    Task {
        /// Which task. It may not have been started yet.
        task: TaskId,
        /// The first byte's place among the task's data.
        offset: u32,
    },
    /// Nowhere: there is none, or it is not wanted.
    Discard,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this PDU with this data.
    ///
    /// Within one batch these come first, so that whatever the rest of the batch leads to is sent later.
    Send(Response, Vec<u8>),
    /// Carry the task out: it is the next by CmdSN, or immediate. (A later effect of the batch may have aborted it.)
    Start(TaskId),
    /// These bytes of the task's data out are all here: what came unasked (`start` is 0), or what an R2T asked for.
    ///
    /// Comes after the task's Start. While `awaits_unsolicited` holds, one that starts at 0 is still to come, and
    /// may be empty.
    Burst {
        /// Whose.
        task: TaskId,
        /// The first byte.
        start: u32,
        /// Behind the last byte.
        end: u32,
    },
    /// The initiator has broken the rules of data out: no more bursts come, and `request_data` gives nothing.
    ///
    /// End the task with CHECK CONDITION and this sense, once its I/O has drained. Comes when no more data is due.
    DataFailed(TaskId, Fault),
    /// Carry out a task management function, then call `management_done(tag, …)`.
    Manage {
        /// The function's own task tag.
        tag: u32,
        /// One of `pdu::code::function`: abort task, abort or clear task set, a reset.
        function: u8,
        /// The logical unit, but for target resets.
        lun: Lun,
        /// The tasks of this session that it ends, started or not. They are marked; `forget` each, at once or later.
        tasks: Vec<TaskId>,
    },
    /// The initiator leaves: call `logout_done`, send its answer, and hang up.
    Logout {
        /// One of `pdu::code::logout_reason`: close session or close connection.
        reason: u8,
        /// Every task of this session. They are marked; `forget` each, at once or later.
        tasks: Vec<TaskId>,
    },
    /// Send what is queued, then hang up.
    Close(Violation),
}

/// What an initiator did that a session cannot survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A data segment longer than the MaxRecvDataSegmentLength that we declared.
    DataSegmentTooLong {
        /// As announced.
        bytes: usize,
        /// As declared.
        bytes_max: u32,
    },
    /// A login request after login.
    LoginAgain,
    /// More data in commands that wait for an earlier one than a session may keep.
    TooMuchHeldBack,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::DataSegmentTooLong { bytes, bytes_max } => {
                write!(f, "a data segment of {bytes} bytes, where {bytes_max} were declared as the most")
            }
            Violation::LoginAgain => f.write_str("a login request in the full feature phase"),
            Violation::TooMuchHeldBack => {
                f.write_str("too much data in requests that wait for an earlier one, which has not come")
            }
        }
    }
}

impl std::error::Error for Violation {}

/// The effects of one PDU, in the making.
pub(super) struct Batch<'a> {
    effects: &'a mut Vec<Effect>,
    /// Where the PDUs end that are sent at once.
    sends_end: usize,
}

impl<'a> Batch<'a> {
    #[inline]
    pub(super) fn new(effects: &'a mut Vec<Effect>) -> Batch<'a> {
        let sends_end = effects.len();
        Batch { effects, sends_end }
    }

    #[inline]
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Before all that may make the mover send something: that will have a later StatSN.
    pub(super) fn send(&mut self, response: Response, data: Vec<u8>) {
        self.effects.insert(self.sends_end, Effect::Send(response, data));
        self.sends_end += 1;
    }
}
