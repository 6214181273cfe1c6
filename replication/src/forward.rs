//! Clients' requests of a node that does not lead: sent to the one that does, and kept until it has answered.
//!
//! ```text
//! submit ─▶ waits for a leader ─▶ sent ─▶ Forwarded ─▶ completed
//!               ▲                  │ link lost, leader changed
//!               └──────────────────┘ a write is sent again with the epoch in which it was sent first
//! ```
//! Its one rule: a write is never sent again as if it were new.

use std::collections::BTreeMap;

use crate::base::Base;
use crate::event::Operation;
use crate::fault::Fault;
use crate::id::{DataId, Epoch, ForwardId, ReplicaId, RequestId, Session, Time};
use crate::message::Message;
use crate::primary::Returned;

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    pub(crate) operation: Operation,
    pub(crate) data: Option<DataId>,
    sent: Option<Session>,
    /// A write that has been sent: in which epoch first.
    pub(crate) sent_before: Option<Epoch>,
    since: Time,
}

#[derive(Debug, Default)]
pub(crate) struct Forward {
    pending: BTreeMap<ForwardId, Pending>,
    /// Some are not sent.
    waiting: bool,
    /// The leader serves nobody now: ask again at this time.
    not_before: Time,
}

impl Forward {
    pub(crate) fn count(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn submit(
        &mut self,
        request: RequestId,
        operation: Operation,
        data: Option<DataId>,
        base: &mut Base,
    ) {
        if self.pending.len() >= base.config.limits.requests_max {
            base.release(data);
            return base.complete(request, Err(Fault::Busy));
        }
        let id = base.next_forward();
        self.insert(id, request, operation, data, None, base.now);
    }

    fn insert(
        &mut self,
        id: ForwardId,
        request: RequestId,
        operation: Operation,
        data: Option<DataId>,
        sent_before: Option<Epoch>,
        since: Time,
    ) {
        self.pending.insert(id, Pending { request, operation, data, sent: None, sent_before, since });
        self.waiting = true;
    }

    /// Requests that a leader gives back at its end.
    pub(crate) fn take_back(&mut self, returned: Vec<Returned>, now: Time) {
        for Returned { request, id, operation, data, sent_before } in returned {
            self.insert(id, request, operation, data, sent_before, now);
        }
    }

    /// All requests, in order, for us to carry out: we lead now.
    pub(crate) fn take_all(&mut self) -> BTreeMap<ForwardId, Pending> {
        self.waiting = false;
        std::mem::take(&mut self.pending)
    }

    /// Sends what waits.
    pub(crate) fn pump(&mut self, leader: Option<(ReplicaId, Session)>, epoch: Epoch, base: &mut Base) {
        let Some((to, session)) = leader else { return };
        if !self.waiting || base.now < self.not_before {
            return;
        }
        self.waiting = false;
        let Some((&answered_below, _)) = self.pending.first_key_value() else { return };
        for (&id, pending) in &mut self.pending {
            if pending.sent.is_some() {
                continue;
            }
            pending.sent = Some(session);
            let Pending { operation, data, sent_before, .. } = *pending;
            let message = Message::Forward { id, answered_below, sent_before, operation };
            base.out.push(crate::effect::Effect::Send { to, session, message, data });
            if matches!(operation, Operation::Write { .. }) {
                pending.sent_before.get_or_insert(epoch);
            }
        }
    }

    /// The leader has answered. A read's bytes are the client's now.
    pub(crate) fn answered(
        &mut self,
        session: Session,
        id: ForwardId,
        result: Result<(), Fault>,
        data: Option<DataId>,
        base: &mut Base,
    ) {
        if self.pending.get(&id).is_none_or(|pending| pending.sent != Some(session)) {
            return base.release(data);
        }
        let pending = self.pending.remove(&id).expect("it is there");
        base.release(pending.data);
        if result.is_err() {
            base.release(data);
        }
        base.complete(pending.request, result.map(|()| data));
    }

    /// The leader serves nobody now, and has not carried it out.
    pub(crate) fn not_leading(&mut self, session: Session, id: ForwardId, base: &Base) {
        if let Some(pending) = self.pending.get_mut(&id).filter(|pending| pending.sent == Some(session)) {
            pending.sent = None;
            self.waiting = true;
            self.not_before = base.now.after(base.config.timing.ping / 4);
        }
    }

    /// A leader has begun: no need to wait.
    pub(crate) fn leader_serves(&mut self) {
        self.not_before = Time(0);
    }

    /// A link is gone, and what was sent over it is to be sent again.
    pub(crate) fn lost(&mut self, session: Session) {
        for pending in self.pending.values_mut().filter(|pending| pending.sent == Some(session)) {
            pending.sent = None;
            self.waiting = true;
        }
    }

    /// Fails what has waited for too long.
    pub(crate) fn tick(&mut self, base: &mut Base) {
        let wait = base.config.timing.leader_wait;
        let now = base.now;
        let late = |pending: &Pending| pending.sent.is_none() && now.since(pending.since) > wait;
        let ids: Vec<ForwardId> =
            self.pending.iter().filter(|(_, pending)| late(pending)).map(|(&id, _)| id).collect();
        for id in ids {
            let pending = self.pending.remove(&id).expect("it is there");
            base.release(pending.data);
            let fault = if pending.sent_before.is_some() { Fault::Indeterminate } else { Fault::NoLeader };
            base.complete(pending.request, Err(fault));
        }
    }

    pub(crate) fn wake_at(&self, base: &Base) -> Option<Time> {
        let waiting = self.pending.values().filter(|pending| pending.sent.is_none());
        let late = waiting.map(|pending| pending.since.after(base.config.timing.leader_wait + 1)).min()?;
        Some(if self.not_before > base.now { late.min(self.not_before) } else { late })
    }
}
