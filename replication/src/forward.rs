//! Clients' requests of a node that does not lead: sent to the one that does, and kept until it has answered.
//!
//! ```text
//! submit ─▶ waits for a leader ─▶ sent ─▶ Forwarded ─▶ completed
//!               ▲                  │ link lost, leader changed
//!               └──────────────────┘ a write is sent again with the epoch in which it was sent first
//! ```
//! Its one rule: a write is never sent again as if it were new.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Base;
use crate::event::Operation;
use crate::fault::Fault;
use crate::id::{DataId, Epoch, ForwardId, ReplicaId, RequestId, Session, Time};
use crate::message::Message;
use crate::primary::Returned;

/// From the oldest request that is not answered to the latest that is sent: at most so many.
const WINDOW: u64 = 32_768;

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    pub(crate) operation: Operation,
    pub(crate) data: Option<DataId>,
    sent: Option<Session>,
    /// A write that has been sent: in which epoch first.
    pub(crate) sent_before: Option<Epoch>,
    since: Time,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Forward {
    pending: BTreeMap<ForwardId, Pending>,
    /// Those that are not sent.
    unsent: BTreeSet<ForwardId>,
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
        self.unsent.insert(id);
    }

    /// Requests that a leader gives back at its end.
    pub(crate) fn take_back(&mut self, returned: Vec<Returned>, now: Time) {
        for Returned { request, id, operation, data, sent_before } in returned {
            self.insert(id, request, operation, data, sent_before, now);
        }
    }

    /// All requests, in order, for us to carry out: we lead now.
    pub(crate) fn take_all(&mut self) -> BTreeMap<ForwardId, Pending> {
        self.unsent.clear();
        std::mem::take(&mut self.pending)
    }

    /// Sends what waits, to the leader of the record of this epoch.
    pub(crate) fn pump(&mut self, leader: Option<(ReplicaId, Session)>, epoch: Epoch, base: &mut Base) {
        let Some((to, session)) = leader else { return };
        if self.unsent.is_empty() || base.now < self.not_before {
            return;
        }
        let Some((&answered_below, _)) = self.pending.first_key_value() else { return };
        // What the leader must remember of us is bounded: beyond this the oldest comes first.
        let end = ForwardId(answered_below.0 + WINDOW);
        while let Some(&id) = self.unsent.first().filter(|&&id| id < end) {
            self.unsent.remove(&id);
            let pending = self.pending.get_mut(&id).expect("what is not sent is there");
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
            self.unsent.insert(id);
            self.not_before = base.now.after(base.config.timing.ping / 4);
        }
    }

    /// A leader has begun: no need to wait.
    pub(crate) fn leader_serves(&mut self) {
        self.not_before = Time(0);
    }

    /// A link is gone, and what was sent over it is to be sent again.
    pub(crate) fn lost(&mut self, session: Session) {
        for (&id, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.sent == Some(session)) {
            pending.sent = None;
            self.unsent.insert(id);
        }
    }

    /// Fails what has waited for too long.
    pub(crate) fn tick(&mut self, base: &mut Base) {
        let wait = base.config.timing.leader_wait;
        let late = |id: &&ForwardId| base.now.since(self.pending[id].since) > wait;
        let ids: Vec<ForwardId> = self.unsent.iter().filter(late).copied().collect();
        for id in ids {
            self.unsent.remove(&id);
            let pending = self.pending.remove(&id).expect("what is not sent is there");
            base.release(pending.data);
            let fault = if pending.sent_before.is_some() { Fault::Indeterminate } else { Fault::NoLeader };
            base.complete(pending.request, Err(fault));
        }
    }

    pub(crate) fn wake_at(&self, base: &Base) -> Option<Time> {
        // Numbers grow with time, so the first has waited longest.
        let first = &self.pending[self.unsent.first()?];
        let late = first.since.after(base.config.timing.leader_wait + 1);
        Some(if self.not_before > base.now { late.min(self.not_before) } else { late })
    }
}
