//! What a whole PDU leads to: requests in their turn, data to its task, answers out.
//!
//! Its one rule: a number is given back before the answer that ends its request is stamped, so that the answer
//! itself opens the window.

use super::data_out::Outcome;
use super::effect::Batch;
use super::order::Work;
use super::receive::{Pending, Refused, Turn};
use super::{Effect, SendTargets, Session, TaskId, Violation};
use crate::iscsi::pdu::code::{logout_reason, logout_response};
use crate::iscsi::pdu::{LogoutRequest, Lun, NO_TAG, NopIn, NopOut, Reject, RejectReason, Response};

impl Session {
    #[inline]
    pub(super) fn perform(
        &mut self,
        pending: Pending,
        data: &[u8],
        sends: &dyn SendTargets,
        batch: &mut Batch<'_>,
    ) {
        match pending {
            Pending::Request(turn, mut work) => {
                match &mut work {
                    Work::Nop(_, kept) | Work::Text(_, kept) => kept.extend_from_slice(data),
                    // Aborted while its data came in.
                    Work::Task(task) if !self.tasks.is_wanted(*task) => work = Work::Nothing,
                    _ => {}
                }
                self.arrive(turn, work, sends, batch);
            }
            Pending::Data { task, tag, bytes, is_final } => {
                if self.tasks.is_wanted(task) {
                    let outcome = self.tasks.get_mut(task).data.arrived(tag, bytes, is_final);
                    tell(task, outcome, batch);
                }
            }
            Pending::Pong(tag) => self.pong(tag),
            Pending::Refused(refused) => self.refuse(*refused, sends, batch),
            Pending::Ignored => {}
            Pending::Nothing => panic!("a header comes before what it announces"),
        }
    }

    /// Carries a request out if it is its turn, and then those that waited for it.
    #[inline]
    fn arrive(&mut self, turn: Turn, work: Work, sends: &dyn SendTargets, batch: &mut Batch<'_>) {
        match turn {
            Turn::Now => self.run(work, false, sends, batch),
            Turn::Number(cmd_sn) if self.order.is_next(cmd_sn) => {
                self.order.take();
                self.run(work, true, sends, batch);
            }
            Turn::Number(cmd_sn) => {
                self.order.hold(cmd_sn, work);
                if self.order.held_bytes() > self.settings.collect_bytes_max as usize {
                    batch.push(Effect::Close(Violation::TooMuchHeldBack));
                }
            }
        }
        while let Some(work) = self.order.next_held() {
            self.run(work, true, sends, batch);
        }
        self.manage_waiting(batch);
    }

    #[inline]
    fn run(&mut self, work: Work, is_numbered: bool, sends: &dyn SendTargets, batch: &mut Batch<'_>) {
        match work {
            Work::Task(task) if self.leaving.is_none() => self.start(task, is_numbered, batch),
            Work::Manage(request) if self.leaving.is_none() => self.manage(request, is_numbered, batch),
            work => {
                self.release_if(is_numbered);
                self.answer(work, sends, batch);
            }
        }
    }

    #[inline]
    fn start(&mut self, task: TaskId, is_numbered: bool, batch: &mut Batch<'_>) {
        let slot = self.tasks.get_mut(task);
        slot.holds_number = is_numbered;
        batch.push(Effect::Start(task));
        let outcome = slot.data.start();
        tell(task, outcome, batch);
    }

    /// What ends as soon as it has begun.
    #[cold]
    fn answer(&mut self, work: Work, sends: &dyn SendTargets, batch: &mut Batch<'_>) {
        if self.leaving.is_some() {
            return;
        }
        match work {
            Work::Nothing | Work::Task(_) => {}
            Work::Nop(nop, data) => self.echo(&nop, data, batch),
            Work::Text(request, data) => self.text(&request, &data, sends, batch),
            Work::Logout(request) => self.log_out(&request, batch),
            Work::Manage(_) => unreachable!("managed in its turn"),
        }
    }

    fn pong(&mut self, tag: u32) {
        self.ping_tag = self.ping_tag.filter(|ping| *ping != tag);
    }

    /// It may answer our ping at the same time (§11.18.2).
    fn echo(&mut self, nop: &NopOut, mut data: Vec<u8>, batch: &mut Batch<'_>) {
        self.pong(nop.target_transfer_tag);
        data.truncate(self.parameters.max_recv_data_segment_length as usize);
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        let response = NopIn {
            lun: Lun::default(),
            initiator_task_tag: nop.initiator_task_tag,
            target_transfer_tag: NO_TAG,
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
        };
        batch.send(Response::NopIn(response), data);
    }

    /// With one connection, closing it closes the session; a connection cannot be recovered at level 0.
    fn log_out(&mut self, request: &LogoutRequest, batch: &mut Batch<'_>) {
        let refusal = match request.reason {
            logout_reason::REMOVE_FOR_RECOVERY => Some(logout_response::RECOVERY_NOT_SUPPORTED),
            logout_reason::CLOSE_CONNECTION if request.cid != self.cid => {
                Some(logout_response::CID_NOT_FOUND)
            }
            _ => None,
        };
        if let Some(response) = refusal {
            let response = self.logout_response(request.initiator_task_tag, response);
            return batch.send(Response::Logout(response), Vec::new());
        }
        let tasks = self.abort_all();
        self.leaving = Some(request.initiator_task_tag);
        batch.push(Effect::Logout { reason: request.reason, tasks });
    }

    #[cold]
    fn refuse(&mut self, refused: Refused, sends: &dyn SendTargets, batch: &mut Batch<'_>) {
        self.arrive(refused.turn, Work::Nothing, sends, batch);
        self.reject(refused.reason, refused.bhs.to_vec(), batch);
        if let Some(violation) = refused.ends {
            batch.push(Effect::Close(violation));
        }
    }

    pub(super) fn reject(&mut self, reason: RejectReason, bhs: Vec<u8>, batch: &mut Batch<'_>) {
        let (stat_sn, exp_cmd_sn, max_cmd_sn) = self.stamp();
        let reject = Reject { reason, stat_sn, exp_cmd_sn, max_cmd_sn, data_sn_or_r2t_sn: 0 };
        batch.send(Response::Reject(reject), bhs);
    }

    #[inline]
    pub(super) fn release_if(&mut self, is_numbered: bool) {
        if is_numbered {
            self.order.release();
        }
    }

    /// A task that is to end without a response.
    pub(super) fn abort(&mut self, task: TaskId) {
        if self.tasks.abort(task, self.order.depth()) {
            self.order.release();
        }
        let aborted = &self.tasks.get(task).task;
        if !aborted.immediate {
            self.order.drop_task(aborted.cmd_sn, task);
        }
    }
}

#[inline]
fn tell(task: TaskId, outcome: Option<Outcome>, batch: &mut Batch<'_>) {
    match outcome {
        Some(Outcome::Burst { start, end }) => batch.push(Effect::Burst { task, start, end }),
        Some(Outcome::Failed(fault)) => batch.push(Effect::DataFailed(task, fault)),
        None => {}
    }
}
