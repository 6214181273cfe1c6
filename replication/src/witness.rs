//! Which clients' writes of other nodes have been seen here, so that none is carried out twice under two leaders.
//!
//! A write that a leader has let out is seen by every member. A member that has been one without a break since the
//! write was sent can therefore say for certain whether an earlier leader has carried it out.
//! Its one rule: what cannot be said for certain is not said.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Epoch, ForwardId, Incarnation, ReplicaId};
use crate::message::Origin;

/// So many writes are remembered of each run of each node.
const SEEN_MAX: usize = 8192;

#[derive(Clone, Debug, Default)]
struct Seen {
    ids: BTreeSet<ForwardId>,
    /// Before this, nothing is known.
    floor: ForwardId,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// A member without a break since this epoch.
    since: Option<Epoch>,
    seen: BTreeMap<(ReplicaId, Incarnation), Seen>,
}

impl Witness {
    /// Whether this replica is a member as of this epoch.
    pub(crate) fn is_member(&mut self, epoch: Epoch, is_member: bool) {
        if !is_member {
            *self = Witness::default();
        } else if self.since.is_none() {
            self.since = Some(epoch);
        }
    }

    /// Whether this replica has been a member since some epoch, without a restart.
    pub(crate) fn is_unbroken(&self) -> bool {
        self.since.is_some()
    }

    /// A write is being carried out.
    pub(crate) fn note(&mut self, origin: &Origin) {
        let seen = self.seen.entry((origin.replica, origin.incarnation)).or_default();
        seen.ids.insert(origin.id);
        if seen.ids.len() > SEEN_MAX
            && let Some(first) = seen.ids.pop_first()
        {
            seen.floor = ForwardId(first.0 + 1);
        }
    }

    /// Whether a write that was sent in this epoch has been carried out.
    pub(crate) fn saw(&self, origin: &Origin, sent_in: Epoch) -> Option<bool> {
        let seen = self.seen.get(&(origin.replica, origin.incarnation));
        if seen.is_some_and(|seen| seen.ids.contains(&origin.id)) {
            return Some(true);
        }
        let is_certain = self.since.is_some_and(|since| since <= sent_in)
            && seen.is_none_or(|seen| origin.id >= seen.floor);
        is_certain.then_some(false)
    }

    /// Forgets earlier runs of a node: nobody asks for them any more.
    pub(crate) fn forget_runs_before(&mut self, replica: ReplicaId, incarnation: Incarnation) {
        self.seen.retain(|&(of, run), _| of != replica || run == incarnation);
    }
}
