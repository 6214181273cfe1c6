//! The full feature phase of a session, which is one connection (RFC 7143 §4, §11; MaxConnections 1, ERL 0).
//!
//! ```text
//! header(bhs, ahs) ─▶ where its data goes ─▶ (the mover receives it) ─▶ complete(data) ─▶ effects
//! respond, data_in, request_data, management_done, … ─▶ a PDU, to be sent after all that came before it
//! ```
//! Its one rule: numbers are given out when a PDU is made, so PDUs are sent in the order they were made.

mod data_out;
mod effect;
mod manage;
mod order;
mod perform;
mod pieces;
mod receive;
mod settings;
mod tag_index;
mod task;
mod tasks;
mod text;

pub use effect::{Effect, Place, Violation};
pub use pieces::Pieces;
pub use settings::{SendTargets, SessionSettings};
pub use task::{Fault, Task, TaskId};

use self::effect::Batch;
use self::manage::{Managements, same_unit};
use self::order::Order;
use self::receive::Pending;
use self::tasks::Tasks;
use self::text::Exchange;
use super::login::{Agreed, SessionKind};
use super::parameters::Parameters;
use super::pdu::code::{command_response, event, logout_response};
use super::pdu::{
    AsyncMessage, BHS_BYTES, CommandResponse, DataIn, LogoutResponse, Lun, NO_TAG, NopIn, R2t, Residual,
    Segments, TaskManagementResponse,
};

/// One session in its full feature phase.
#[derive(Debug)]
pub struct Session {
    parameters: Parameters,
    settings: SessionSettings,
    /// `None`: a discovery session.
    target_name: Option<String>,
    cid: u16,
    stat_sn: u32,
    next_tag: u32,
    /// The transfer tag of the last ping, until it is answered.
    ping_tag: Option<u32>,
    /// The task tag of the logout under way, after which nothing counts.
    leaving: Option<u32>,
    pending: Pending,
    order: Order,
    tasks: Tasks,
    managements: Managements,
    exchange: Option<Exchange>,
}

impl Session {
    /// Begins where the login ended.
    pub fn new(agreed: &Agreed, settings: SessionSettings) -> Session {
        let target_name = match &agreed.session {
            SessionKind::Normal { target_name } if !settings.is_discovery => Some(target_name.clone()),
            _ => None,
        };
        Session {
            parameters: agreed.parameters.clone(),
            settings,
            target_name,
            cid: agreed.cid,
            stat_sn: agreed.stat_sn,
            next_tag: 1,
            ping_tag: None,
            leaving: None,
            pending: Pending::Nothing,
            order: Order::new(agreed.cmd_sn, settings.queue_depth),
            tasks: Tasks::new(),
            managements: Managements::default(),
            exchange: None,
        }
    }

    /// Takes a header: checks order, window, lengths, flags. The error ends the connection.
    ///
    /// Then its data is received and `complete` called; no other header is taken in between. Before `complete`,
    /// data that is to be discarded is drained, and the data digest checked.
    #[inline]
    pub fn header(&mut self, bhs: &[u8; BHS_BYTES], ahs: &[u8]) -> Result<Place, Violation> {
        assert!(matches!(self.pending, Pending::Nothing), "one PDU is completed before the next begins");
        let bytes = Segments::of(bhs).data_bytes;
        let bytes_max = self.parameters.own_max_recv_data_segment_length;
        if bytes > bytes_max as usize {
            return Err(Violation::DataSegmentTooLong { bytes, bytes_max });
        }
        let (pending, place) = self.take(bhs, ahs, bytes as u32);
        self.pending = pending;
        Ok(place)
    }

    /// The PDU that `header` took is whole. `data` is its data segment where that was to be collected, else empty.
    #[inline]
    pub fn complete(&mut self, data: &[u8], sends: &dyn SendTargets, effects: &mut Vec<Effect>) {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        self.perform(pending, data, sends, &mut Batch::new(effects));
        self.check();
    }

    /// A task under way.
    #[inline]
    pub fn task(&self, task: TaskId) -> &Task {
        &self.tasks.get(task).task
    }

    /// Whether a task has neither ended nor been aborted or forgotten.
    #[inline]
    pub fn is_wanted(&self, task: TaskId) -> bool {
        self.tasks.is_wanted(task)
    }

    /// Whether data that comes unasked is still to come.
    #[inline]
    pub fn awaits_unsolicited(&self, task: TaskId) -> bool {
        self.tasks.get(task).data.awaits_unsolicited()
    }

    /// How many R2Ts of the task have not been answered in full.
    #[inline]
    pub fn outstanding_r2t(&self, task: TaskId) -> usize {
        self.tasks.get(task).data.outstanding()
    }

    /// Asks for data: at most MaxBurstLength, and at most MaxOutstandingR2T times at once.
    ///
    /// `None` where the task's data has failed (`Effect::DataFailed` comes) or the task is aborted.
    #[inline]
    pub fn request_data(&mut self, task: TaskId, offset: u32, bytes: u32) -> Option<R2t> {
        let tag = self.transfer_tag();
        let slot = self.tasks.get_mut(task);
        if slot.task.is_aborted || slot.data.has_failed() {
            return None;
        }
        let end = offset.checked_add(bytes).expect("data out ends within 4 GiB");
        assert!(slot.task.write && end <= slot.task.expected_bytes, "what is asked for was announced");
        assert!((1..=self.parameters.max_burst_length).contains(&bytes), "a burst keeps to MaxBurstLength");
        let outstanding_max = usize::from(self.parameters.max_outstanding_r2t);
        assert!(slot.data.outstanding() < outstanding_max, "R2Ts keep to MaxOutstandingR2T");
        slot.data.ask(tag, offset, end);
        let r2t_sn = slot.input_sn;
        slot.input_sn = r2t_sn.wrapping_add(1);
        Some(R2t {
            lun: slot.task.lun,
            initiator_task_tag: slot.task.initiator_task_tag,
            target_transfer_tag: tag,
            // The next one, which it does not use up (§11.8).
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.order.exp_cmd_sn(),
            max_cmd_sn: self.order.max_cmd_sn(),
            r2t_sn,
            buffer_offset: offset,
            desired_data_transfer_length: bytes,
        })
    }

    /// Cuts data in into PDUs: (offset, bytes, is_final) within MaxRecvDataSegmentLength and MaxBurstLength.
    #[inline]
    pub fn split(&self, offset: u32, bytes: u32) -> Pieces {
        Pieces::new(offset, bytes, &self.parameters)
    }

    /// A PDU of data in. With a status (and the bytes that the command transfers by its CDB) it ends the task.
    #[inline]
    pub fn data_in(
        &mut self,
        task: TaskId,
        offset: u32,
        bytes: u32,
        is_final: bool,
        status: Option<(u8, u64)>,
    ) -> DataIn {
        let slot = self.tasks.get_mut(task);
        assert!(!slot.task.is_aborted, "an aborted task is forgotten");
        let Task { read, expected_bytes, initiator_task_tag, .. } = slot.task;
        let end = u64::from(offset) + u64::from(bytes);
        assert!(read && end <= expected_bytes.into(), "the initiator has room for what is sent");
        let data_sn = slot.input_sn;
        slot.input_sn = data_sn.wrapping_add(1);
        let mut stat_sn = 0;
        if status.is_some() {
            assert!(is_final, "a status ends a sequence (§11.7.3)");
            self.end(task);
            (stat_sn, _, _) = self.stamp();
        }
        DataIn {
            is_final,
            acknowledge: false,
            status: status.map(|(status, _)| status),
            residual: status.map_or(Residual::None, |(_, scsi_bytes)| residual(expected_bytes, scsi_bytes)),
            lun: Lun::default(),
            initiator_task_tag,
            target_transfer_tag: NO_TAG,
            stat_sn,
            exp_cmd_sn: self.order.exp_cmd_sn(),
            max_cmd_sn: self.order.max_cmd_sn(),
            data_sn,
            buffer_offset: offset,
        }
    }

    /// Ends a task. `scsi_bytes` is what the command transfers by its CDB (none where it failed).
    #[inline]
    pub fn respond(&mut self, task: TaskId, status: u8, scsi_bytes: u64) -> CommandResponse {
        let slot = self.tasks.get(task);
        assert!(!slot.task.is_aborted, "an aborted task is forgotten");
        let Task { expected_bytes, initiator_task_tag, .. } = slot.task;
        let exp_data_sn = slot.input_sn;
        self.end(task);
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        CommandResponse {
            response: command_response::COMPLETED_AT_TARGET,
            status,
            residual: residual(expected_bytes, scsi_bytes),
            initiator_task_tag,
            snack_tag: 0,
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
            exp_data_sn,
        }
    }

    /// Ends an aborted task, without a response.
    pub fn forget(&mut self, task: TaskId) {
        if !self.task(task).is_aborted {
            self.abort(task);
        }
        self.end(task);
        self.check();
    }

    /// Ends a task management function.
    pub fn management_done(&mut self, tag: u32, response: u8) -> TaskManagementResponse {
        let holds_number = self.managements.end(tag);
        self.release_if(holds_number);
        self.management_response(tag, response)
    }

    /// Answers a logout; nothing is sent after it.
    pub fn logout_done(&mut self) -> LogoutResponse {
        let tag = self.leaving.expect("the initiator has asked to leave");
        self.logout_response(tag, logout_response::CLOSED)
    }

    /// Asks the initiator for a sign of life.
    pub fn ping(&mut self) -> NopIn {
        let tag = self.transfer_tag();
        self.ping_tag = Some(tag);
        NopIn {
            lun: Lun::default(),
            initiator_task_tag: NO_TAG,
            target_transfer_tag: tag,
            // The next one, which it does not use up (§11.19).
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.order.exp_cmd_sn(),
            max_cmd_sn: self.order.max_cmd_sn(),
        }
    }

    /// Whether no ping is unanswered.
    pub fn ping_answered(&self) -> bool {
        self.ping_tag.is_none()
    }

    /// Asks the initiator to log out within so many seconds.
    pub fn request_logout(&mut self, seconds: u16) -> AsyncMessage {
        self.announce(event::LOGOUT_REQUESTED, Lun::default(), [0, 0, seconds])
    }

    /// Tells of an event of `pdu::code::event`.
    pub fn announce(&mut self, event: u8, lun: Lun, parameters: [u16; 3]) -> AsyncMessage {
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        AsyncMessage { lun, stat_sn, exp_cmd_sn, max_cmd_sn, event, vendor_code: 0, parameters }
    }

    /// Marks every task as aborted, by another session's reset. `forget` each of them, at once or later.
    pub fn abort_all(&mut self) -> Vec<TaskId> {
        let tasks = self.tasks.select(|_| true);
        tasks.iter().for_each(|task| self.abort(*task));
        tasks
    }

    /// Marks the tasks of a logical unit as aborted, by another session's reset. `forget` each of them.
    pub fn abort_lun(&mut self, lun: Lun) -> Vec<TaskId> {
        let tasks = self.tasks.select(|slot| same_unit(slot.task.lun, lun));
        tasks.iter().for_each(|task| self.abort(*task));
        tasks
    }

    /// What the login agreed on, and what was declared since.
    #[inline]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The next CmdSN.
    pub fn exp_cmd_sn(&self) -> u32 {
        self.order.exp_cmd_sn()
    }

    /// The last CmdSN that the window admits.
    pub fn max_cmd_sn(&self) -> u32 {
        self.order.max_cmd_sn()
    }

    /// The next StatSN.
    pub fn stat_sn(&self) -> u32 {
        self.stat_sn
    }

    /// How many tasks have neither ended nor been forgotten.
    pub fn tasks_in_flight(&self) -> usize {
        self.tasks.len()
    }

    #[inline]
    fn end(&mut self, task: TaskId) {
        let holds_number = self.tasks.remove(task);
        self.release_if(holds_number);
    }

    /// StatSN, ExpCmdSN, MaxCmdSN of a PDU that carries a status.
    #[inline]
    fn stamp(&mut self) -> (u32, u32, u32) {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.wrapping_add(1);
        (stat_sn, self.order.exp_cmd_sn(), self.order.max_cmd_sn())
    }

    /// A transfer tag that no other PDU of the last minutes had.
    #[inline]
    fn transfer_tag(&mut self) -> u32 {
        let tag = self.next_tag;
        self.next_tag = if tag == NO_TAG - 1 { 0 } else { tag + 1 };
        tag
    }

    fn management_response(&mut self, tag: u32, response: u8) -> TaskManagementResponse {
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        TaskManagementResponse { response, initiator_task_tag: tag, stat_sn, exp_cmd_sn, max_cmd_sn }
    }

    fn logout_response(&mut self, tag: u32, response: u8) -> LogoutResponse {
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        let Parameters { default_time2wait, default_time2retain, .. } = self.parameters;
        let (time2wait, time2retain) = (default_time2wait, default_time2retain);
        let initiator_task_tag = tag;
        LogoutResponse {
            response,
            initiator_task_tag,
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
            time2wait,
            time2retain,
        }
    }

    #[inline]
    fn check(&self) {
        if cfg!(debug_assertions) {
            self.order.check(self.tasks.check() + self.managements.check());
        }
    }
}

/// What the command transfers against what the initiator expected (§11.4.5).
#[inline]
fn residual(expected_bytes: u32, scsi_bytes: u64) -> Residual {
    let clamped = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let expected = u64::from(expected_bytes);
    if scsi_bytes > expected {
        Residual::Overflow(clamped(scsi_bytes - expected))
    } else if scsi_bytes < expected {
        Residual::Underflow(clamped(expected - scsi_bytes))
    } else {
        Residual::None
    }
}
