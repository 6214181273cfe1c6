//! What a header means before its data has come: is it in order, is it lawful, where does its data go.
//!
//! Its one rule: nothing here sends or starts anything; it is remembered as `Pending` until the PDU is whole.

use super::order::Work;
use super::{Place, Session, Task, TaskId, Violation};
use crate::iscsi::pdu::code::{logout_reason, opcode};
use crate::iscsi::pdu::{
    BHS_BYTES, CommandRequest, DataOut, LogoutRequest, NO_TAG, NopOut, RejectReason, Request,
    TaskManagementRequest,
};

/// How many immediate commands may be under way at once, beyond the window.
const IMMEDIATE_TASKS_MAX: u32 = 16;
/// How many task management functions.
const MANAGEMENTS_MAX: usize = 32;

/// When a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// At once: it is immediate, or has no number.
    Now,
    /// By its CmdSN.
    Number(u32),
}

/// A header whose PDU is not whole yet.
#[derive(Debug)]
pub(super) enum Pending {
    Nothing,
    /// Of no effect: outside the window, a duplicate, data of a task that has ended.
    Ignored,
    Refused(Box<Refused>),
    /// The data out of a task. `bytes` are in their place; `None`: they had none.
    Data {
        task: TaskId,
        tag: u32,
        bytes: Option<u32>,
        is_final: bool,
    },
    /// An answer to our ping.
    Pong(u32),
    Request(Turn, Work),
}

/// What a Reject PDU will say.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) bhs: [u8; BHS_BYTES],
    pub(super) reason: RejectReason,
    /// A request that is refused counts as received all the same.
    pub(super) turn: Turn,
    /// It ends the session, too.
    pub(super) ends: Option<Violation>,
}

/// Why a request is not taken, and whether its number counts.
struct Refusal(RejectReason, Turn);

type Taken = Result<(Pending, Place), Refusal>;

const IGNORED: (Pending, Place) = (Pending::Ignored, Place::Discard);

impl Session {
    #[inline]
    pub(super) fn take(&mut self, bhs: &[u8; BHS_BYTES], ahs: &[u8], data_bytes: u32) -> (Pending, Place) {
        if self.leaving.is_some() {
            return IGNORED;
        }
        let taken = match Request::decode(bhs, ahs) {
            Ok(Request::Command(command)) => self.take_command(command, data_bytes),
            Ok(Request::DataOut(pdu)) => Ok(self.take_data_out(&pdu, data_bytes)),
            Ok(request) => self.take_other(request, data_bytes),
            Err(reason) => self.refuse_undecoded(bhs, reason),
        };
        taken.unwrap_or_else(|Refusal(reason, turn)| {
            let again = bhs[0] & opcode::MASK == opcode::LOGIN_REQUEST;
            let ends = again.then_some(Violation::LoginAgain);
            (Pending::Refused(Box::new(Refused { bhs: *bhs, reason, turn, ends })), Place::Discard)
        })
    }

    #[cold]
    fn take_other(&mut self, request: Request, data_bytes: u32) -> Taken {
        match request {
            Request::NopOut(nop) => self.take_nop(nop, data_bytes),
            Request::Text(text) => {
                let Some(turn) = self.turn(text.immediate, text.cmd_sn) else { return Ok(IGNORED) };
                let place = collect(data_bytes);
                Ok((Pending::Request(turn, Work::Text(text, Vec::new())), place))
            }
            Request::TaskManagement(request) => self.take_management(request),
            Request::Logout(request) => self.take_logout(request),
            Request::Login(_) => Err(Refusal(RejectReason::ProtocolError, Turn::Now)),
            Request::Snack(_) => Err(Refusal(RejectReason::SnackReject, Turn::Now)),
            Request::Command(_) | Request::DataOut(_) => unreachable!("taken on the fast path"),
        }
    }

    /// Of the PDUs that cannot be decoded only a command is known to have a number.
    #[cold]
    fn refuse_undecoded(&self, bhs: &[u8; BHS_BYTES], reason: RejectReason) -> Taken {
        let (_, number) = bhs[..28].split_last_chunk().expect("28 bytes hold a number");
        let is_immediate = bhs[0] & opcode::MASK != opcode::SCSI_COMMAND || bhs[0] & 0x40 != 0;
        match self.turn(is_immediate, u32::from_be_bytes(*number)) {
            Some(turn) => Err(Refusal(reason, turn)),
            None => Ok(IGNORED),
        }
    }

    /// `None`: outside the window, or a duplicate, to be ignored (§4.2.2.1).
    #[inline]
    fn turn(&self, immediate: bool, cmd_sn: u32) -> Option<Turn> {
        match immediate {
            true => Some(Turn::Now),
            false => self.order.admits(cmd_sn).then_some(Turn::Number(cmd_sn)),
        }
    }

    #[inline]
    fn take_command(&mut self, command: CommandRequest, data_bytes: u32) -> Taken {
        let Some(turn) = self.turn(command.immediate, command.cmd_sn) else { return Ok(IGNORED) };
        if let Some(reason) = self.objection(&command, data_bytes) {
            return Err(Refusal(reason, turn));
        }
        let is_final = command.is_final;
        let task = self.tasks.add(Task {
            lun: command.lun,
            cdb: command.cdb,
            read: command.read,
            write: command.write,
            expected_bytes: command.expected_data_transfer_length,
            attribute: command.attribute,
            initiator_task_tag: command.initiator_task_tag,
            immediate: command.immediate,
            cmd_sn: command.cmd_sn,
            is_aborted: false,
        });
        let slot = self.tasks.get_mut(task);
        let keeps = slot.data.begin(&slot.task, is_final, data_bytes, self.next_tag, &self.parameters);
        let place = if keeps && data_bytes > 0 { Place::Task { task, offset: 0 } } else { Place::Discard };
        Ok((Pending::Request(turn, Work::Task(task)), place))
    }

    /// What is wrong with a command, its data's rules aside.
    #[inline]
    fn objection(&self, command: &CommandRequest, data_bytes: u32) -> Option<RejectReason> {
        let tag = command.initiator_task_tag;
        let moves_nothing = !command.read && !command.write;
        if self.settings.is_discovery {
            return Some(RejectReason::ProtocolError);
        }
        if tag != NO_TAG && (self.tasks.find(tag).is_some() || self.managements.has(tag)) {
            return Some(RejectReason::TaskInProgress);
        }
        // §11.3.1: without W there is no data to follow; without R and W there is none at all.
        let unasked = !command.write && (!command.is_final || data_bytes > 0);
        if tag == NO_TAG || unasked || moves_nothing && command.expected_data_transfer_length > 0 {
            return Some(RejectReason::InvalidPduField);
        }
        if command.read && command.write || command.read_data_transfer_length.is_some() {
            // No command of a block device moves data both ways.
            return Some(RejectReason::CommandNotSupported);
        }
        let is_many = command.immediate && self.tasks.immediates() >= IMMEDIATE_TASKS_MAX;
        is_many.then_some(RejectReason::ImmediateCommandReject)
    }

    #[inline]
    fn take_data_out(&mut self, pdu: &DataOut, data_bytes: u32) -> (Pending, Place) {
        let Some(task) = self.tasks.find(pdu.initiator_task_tag) else { return IGNORED };
        let offset = self.tasks.get_mut(task).data.place(pdu, data_bytes);
        let (tag, is_final) = (pdu.target_transfer_tag, pdu.is_final);
        let pending = Pending::Data { task, tag, bytes: offset.map(|_| data_bytes), is_final };
        match offset {
            Some(offset) if data_bytes > 0 => (pending, Place::Task { task, offset }),
            _ => (pending, Place::Discard),
        }
    }

    /// Without a task tag it answers us, or only acknowledges, and has no number (§11.18).
    fn take_nop(&self, nop: NopOut, data_bytes: u32) -> Taken {
        let Some(turn) = self.turn(nop.immediate, nop.cmd_sn) else { return Ok(IGNORED) };
        match (nop.initiator_task_tag, turn) {
            (NO_TAG, Turn::Now) => Ok((Pending::Pong(nop.target_transfer_tag), Place::Discard)),
            (NO_TAG, Turn::Number(_)) => Err(Refusal(RejectReason::InvalidPduField, turn)),
            _ => Ok((Pending::Request(turn, Work::Nop(nop, Vec::new())), collect(data_bytes))),
        }
    }

    fn take_management(&self, request: TaskManagementRequest) -> Taken {
        let Some(turn) = self.turn(request.immediate, request.cmd_sn) else { return Ok(IGNORED) };
        let tag = request.initiator_task_tag;
        let objection = if self.settings.is_discovery {
            Some(RejectReason::ProtocolError)
        } else if tag == NO_TAG {
            Some(RejectReason::InvalidPduField)
        } else if self.tasks.find(tag).is_some() || self.managements.has(tag) {
            Some(RejectReason::TaskInProgress)
        } else {
            let is_many = request.immediate && self.managements.len() >= MANAGEMENTS_MAX;
            is_many.then_some(RejectReason::ImmediateCommandReject)
        };
        match objection {
            Some(reason) => Err(Refusal(reason, turn)),
            None => Ok((Pending::Request(turn, Work::Manage(request)), Place::Discard)),
        }
    }

    fn take_logout(&self, request: LogoutRequest) -> Taken {
        let Some(turn) = self.turn(request.immediate, request.cmd_sn) else { return Ok(IGNORED) };
        if request.reason > logout_reason::REMOVE_FOR_RECOVERY || request.initiator_task_tag == NO_TAG {
            return Err(Refusal(RejectReason::InvalidPduField, turn));
        }
        Ok((Pending::Request(turn, Work::Logout(request)), Place::Discard))
    }
}

fn collect(data_bytes: u32) -> Place {
    if data_bytes > 0 { Place::Collect } else { Place::Discard }
}
