//! What a leader has under way: one thing with a range.

use crate::event::{Change, Operation};
use crate::fault::DiskFault;
use crate::id::{DataId, Epoch, FlushId, ForwardId, Incarnation, ReplicaId, ReplicaSet, RequestId, Time};
use crate::message::Origin;
use crate::region::ByteRange;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client of this node. By `id` others know the request.
    Local { request: RequestId, id: ForwardId },
    /// A client of another.
    Forwarded { peer: ReplicaId, incarnation: Incarnation, id: ForwardId },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Write {
        source: Source,
        change: Change,
        durable: bool,
        data: Option<DataId>,
        origin: Option<Origin>,
    },
    Read {
        source: Source,
    },
    Resync {
        to: ReplicaId,
        data: Option<DataId>,
    },
    Compare,
    /// A write that an earlier leader has carried out: answered once all members have its bytes.
    Confirm {
        source: Source,
        durable: bool,
        data: Option<DataId>,
        change: Change,
        epoch: Epoch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// May not ask for its range.
    Gated,
    /// Waits for its range.
    Ordered,
    /// Has it, and waits for room, mark or lease.
    Stalled,
    Running,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) range: ByteRange,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
    /// In which epoch it was started, by the last record in force.
    pub(super) epoch: Epoch,
    /// When it was asked for, then when it was started.
    pub(super) since: Time,
    /// To whom it went, ourselves included.
    pub(super) sent: ReplicaSet,
    /// Who has it.
    pub(super) acked: ReplicaSet,
    /// Its local part runs.
    pub(super) local_pending: bool,
    /// The last flush that had begun when it was started.
    pub(super) round: FlushId,
    /// Its client has the answer.
    pub(super) answered: bool,
    /// Our disk has failed it.
    pub(super) own_fault: Option<DiskFault>,
}

impl Job {
    pub(super) fn new(range: ByteRange, kind: Kind, now: Time) -> Job {
        Job {
            range,
            kind,
            stage: Stage::Gated,
            epoch: Epoch(0),
            since: now,
            sent: ReplicaSet::EMPTY,
            acked: ReplicaSet::EMPTY,
            local_pending: false,
            round: FlushId(0),
            answered: false,
            own_fault: None,
        }
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.kind, Kind::Write { .. } | Kind::Read { .. } | Kind::Confirm { .. })
    }

    #[inline]
    pub(super) fn is_write(&self) -> bool {
        matches!(self.kind, Kind::Write { .. })
    }

    pub(super) fn is_shared(&self) -> bool {
        !self.is_write()
    }

    /// What a write counts for at a peer's limit.
    #[inline]
    pub(super) fn bytes_sent(&self) -> u64 {
        match self.kind {
            Kind::Write { change: Change::Zero { .. }, .. } => 512,
            _ => self.range.bytes,
        }
    }

    /// The payload that it holds.
    pub(super) fn data(&self) -> Option<DataId> {
        match self.kind {
            Kind::Write { data, .. } | Kind::Resync { data, .. } | Kind::Confirm { data, .. } => data,
            Kind::Read { .. } | Kind::Compare => None,
        }
    }

    /// What its client asked.
    pub(super) fn operation(&self) -> Operation {
        match self.kind {
            Kind::Write { change, durable, .. } | Kind::Confirm { change, durable, .. } => {
                Operation::Write { range: self.range, change, durable }
            }
            _ => Operation::Read { range: self.range },
        }
    }
}
