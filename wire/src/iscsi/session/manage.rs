//! Task management: which tasks a function ends, and what is decided without the unit (RFC 7143 §4.2.3, §11.5).
//!
//! We do not wait for data that aborted tasks still have coming (§4.2.3.3): initiators in use stop sending it, and
//! a straggler finds no task.

use super::effect::Batch;
use super::order::before;
use super::{Effect, Session, TaskId};
use crate::iscsi::pdu::code::{function, function_response};
use crate::iscsi::pdu::{Lun, Response, TaskManagementRequest};

/// The functions that are under way.
#[derive(Debug, Default)]
pub(super) struct Managements {
    under_way: Vec<Management>,
    /// Immediate functions on many tasks, ahead of commands that they are to end.
    waiting: Vec<TaskManagementRequest>,
}

#[derive(Clone, Copy, Debug)]
struct Management {
    tag: u32,
    holds_number: bool,
}

impl Managements {
    pub(super) fn len(&self) -> usize {
        self.under_way.len() + self.waiting.len()
    }

    #[inline]
    pub(super) fn has(&self, tag: u32) -> bool {
        self.len() > 0
            && (self.under_way.iter().any(|management| management.tag == tag)
                || self.waiting.iter().any(|request| request.initiator_task_tag == tag))
    }

    /// True if its number is to be given back.
    pub(super) fn end(&mut self, tag: u32) -> bool {
        let at = self.under_way.iter().position(|management| management.tag == tag);
        self.under_way.remove(at.expect("what is done was asked for")).holds_number
    }

    /// For assertions: how many hold a number.
    pub(super) fn check(&self) -> usize {
        self.under_way.iter().filter(|management| management.holds_number).count()
    }
}

impl Session {
    pub(super) fn manage(
        &mut self,
        request: TaskManagementRequest,
        is_numbered: bool,
        batch: &mut Batch<'_>,
    ) {
        let decided = match request.function {
            function::ABORT_TASK => return self.abort_task(&request, is_numbered, batch),
            function::ABORT_TASK_SET
            | function::CLEAR_TASK_SET
            | function::LOGICAL_UNIT_RESET
            | function::TARGET_WARM_RESET
            | function::TARGET_COLD_RESET => return self.abort_many(request, is_numbered, batch),
            function::TASK_REASSIGN => function_response::REASSIGNMENT_NOT_SUPPORTED,
            _ => function_response::NOT_SUPPORTED,
        };
        self.decide(request.initiator_task_tag, decided, is_numbered, batch);
    }

    /// §11.6.1: a command within the window that has not come counts as received, and is ignored when it comes.
    fn abort_task(&mut self, request: &TaskManagementRequest, is_numbered: bool, batch: &mut Batch<'_>) {
        let named = self.tasks.find(request.referenced_task_tag);
        if let Some(task) = named.filter(|task| same_unit(self.tasks.get(*task).task.lun, request.lun)) {
            self.abort(task);
            return self.begin_management(request, vec![task], is_numbered, batch);
        }
        let is_ahead = named.is_none() && before(request.ref_cmd_sn, request.cmd_sn);
        let response = match is_ahead && self.order.skip(request.ref_cmd_sn) {
            true => function_response::COMPLETE,
            false => function_response::TASK_DOES_NOT_EXIST,
        };
        self.decide(request.initiator_task_tag, response, is_numbered, batch);
    }

    /// Ends the tasks that came before the function, by CmdSN; those of them that have not come are waited for.
    fn abort_many(&mut self, request: TaskManagementRequest, is_numbered: bool, batch: &mut Batch<'_>) {
        let exp_cmd_sn = self.order.exp_cmd_sn();
        let ahead = request.cmd_sn.wrapping_sub(exp_cmd_sn) as i32;
        let depth = self.order.depth() as i32;
        if !is_numbered && (1..=depth).contains(&ahead) {
            self.managements.waiting.push(request);
            return;
        }
        // An initiator whose CmdSN makes no sense means what has come so far.
        let until = if (-depth..=0).contains(&ahead) { request.cmd_sn } else { exp_cmd_sn };
        let is_everywhere =
            matches!(request.function, function::TARGET_WARM_RESET | function::TARGET_COLD_RESET);
        let tasks = self.tasks.select(|slot| {
            let task = &slot.task;
            let came_before = slot.data.is_started() && task.immediate || before(task.cmd_sn, until);
            came_before && (is_everywhere || same_unit(task.lun, request.lun))
        });
        tasks.iter().for_each(|task| self.abort(*task));
        self.begin_management(&request, tasks, is_numbered, batch);
    }

    /// The functions that waited for commands which have come by now.
    #[inline]
    pub(super) fn manage_waiting(&mut self, batch: &mut Batch<'_>) {
        let mut at = 0;
        while at < self.managements.waiting.len() {
            if before(self.order.exp_cmd_sn(), self.managements.waiting[at].cmd_sn) {
                at += 1;
            } else {
                let request = self.managements.waiting.remove(at);
                self.abort_many(request, false, batch);
            }
        }
    }

    fn begin_management(
        &mut self,
        request: &TaskManagementRequest,
        tasks: Vec<TaskId>,
        is_numbered: bool,
        batch: &mut Batch<'_>,
    ) {
        let tag = request.initiator_task_tag;
        self.managements.under_way.push(Management { tag, holds_number: is_numbered });
        batch.push(Effect::Manage { tag, function: request.function, lun: request.lun, tasks });
    }

    fn decide(&mut self, tag: u32, response: u8, is_numbered: bool, batch: &mut Batch<'_>) {
        self.release_if(is_numbered);
        let response = self.management_response(tag, response);
        batch.send(Response::TaskManagement(response), Vec::new());
    }
}

/// Two forms of a LUN may mean one unit.
pub(super) fn same_unit(a: Lun, b: Lun) -> bool {
    a == b || a.number().is_some_and(|number| b.number() == Some(number))
}
