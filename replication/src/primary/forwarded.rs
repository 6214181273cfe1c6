//! Requests of other nodes' clients, and those that an earlier leader had.
//!
//! Its one rule: a write that may have been carried out is never carried out again.

use super::job::Kind;
use super::{Primary, Source};
use crate::base::Base;
use crate::event::Operation;
use crate::fault::Fault;
use crate::id::{DataId, Epoch, ForwardId, ReplicaId};
use crate::message::{Message, Origin};

impl Primary {
    /// A peer's client asks something.
    pub(crate) fn forwarded(
        &mut self,
        peer: ReplicaId,
        id: ForwardId,
        answered_below: ForwardId,
        sent_before: Option<Epoch>,
        request: (Operation, Option<DataId>),
        base: &mut Base,
    ) {
        let (operation, data) = request;
        let Some(incarnation) = base.hello(peer).map(|hello| hello.incarnation) else {
            return base.release(data);
        };
        let origin = Origin { replica: peer, incarnation, id, answered_below };
        self.answers.forget(peer, incarnation, answered_below);
        let source = Source::Forwarded { peer, incarnation, id };
        if !self.serves() {
            base.release(data);
            return base.send(peer, Message::NotLeading { id });
        }
        let is_write = matches!(operation, Operation::Write { .. });
        let Some(epoch) = sent_before.filter(|_| is_write) else {
            return self.submit(source, Some(origin), operation, data, base);
        };
        if let Some(result) = self.answers.get(peer, incarnation, id) {
            base.release(data);
            base.send(peer, Message::Forwarded { id, result });
        } else if self.is_under_way(source) {
            base.release(data);
        } else if epoch < self.members.term() {
            self.repeated(source, origin, epoch, request, base);
        } else {
            self.submit(source, Some(origin), operation, data, base);
        }
    }

    /// A write that was sent to an earlier leader: whether its bytes are here decides, if we can know that.
    pub(crate) fn repeated(
        &mut self,
        source: Source,
        origin: Origin,
        epoch: Epoch,
        (operation, data): (Operation, Option<DataId>),
        base: &mut Base,
    ) {
        let Operation::Write { range, change, durable } = operation else { unreachable!("a repeated write") };
        match base.witness.saw(&origin, epoch) {
            Some(false) => {
                if let Source::Local { id, .. } = source {
                    // Should this term end before it is carried out, it is still one that was sent before.
                    self.repeats.insert(id, epoch);
                }
                self.submit(source, Some(origin), operation, data, base);
            }
            Some(true) => {
                self.clients += 1;
                self.add_job(range, Kind::Confirm { source, durable, data, change, epoch }, base);
            }
            None => {
                base.release(data);
                self.reply(source, Err(Fault::Indeterminate), None, base);
            }
        }
    }

    /// Whether the answer to a write is still to come.
    fn is_under_way(&self, source: Source) -> bool {
        let is_it = |job: &super::Job| match job.kind {
            Kind::Write { source: of, .. } => of == source && !job.answered,
            Kind::Confirm { source: of, .. } => of == source,
            _ => false,
        };
        self.jobs.values().any(is_it) || self.rounds.has(source)
    }
}
