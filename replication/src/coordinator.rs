//! Who keeps {epoch, leader, in-sync set} of a volume, and how a machine asks for a change.
//!
//! ```text
//! External:  Effect::Propose{expected, record} ─▶ compare-and-swap ─▶ Event::Decided
//!            Event::RecordChanged whenever somebody else has changed it
//! Static:    the record lies in the superblocks; the machines agree on it by messages (promise, lead)
//! ```
//! Its one rule: a record is replaced only by one of a higher epoch, made from the very record it replaces.

use crate::id::{Epoch, Incarnation, ReplicaId, ReplicaSet};

/// What a coordinator keeps of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows with every change.
    pub epoch: Epoch,
    /// The first epoch of the term in which it was made: what its leader was promised.
    pub term: Epoch,
    /// Who leads. None: an operator has demoted the last leader.
    pub leader: Option<ReplicaId>,
    /// Which run of the leader's process: tells two leaders of one epoch apart (after forced promotions).
    pub incarnation: Incarnation,
    /// The replicas that hold every acknowledged write. Never empty.
    pub in_sync: ReplicaSet,
}

impl Record {
    /// The later of two records by this was made by the later leader. (One that was overtaken may still count its
    /// epochs up; nobody follows it.)
    pub fn rank(&self) -> (Epoch, Epoch) {
        (self.term, self.epoch)
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coordination {
    /// Nobody but the replicas: an operator names the leader. See `OnPeerLoss` for what needs whose agreement.
    #[default]
    Static,
    /// A service with compare-and-swap. Any member of the in-sync set may be made leader there, without the
    /// consent of the old one; so a leader reads only under leases.
    External,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The record is now the proposed one.
    Accepted,
    /// It was not the expected one but this.
    Superseded(Record),
    /// Nobody answered. Unknown whether it was taken; it is asked again.
    Unavailable,
}
