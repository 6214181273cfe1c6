//! Which clients' writes of other nodes have been seen here, so that none is carried out twice under two leaders.
//!
//! A write that a leader has let out is seen by every member. A member that has been one without a break since the
//! write was sent can therefore say for certain whether an earlier leader has carried it out.
//! Its one rule: what cannot be said for certain is not said.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Epoch, ForwardId, Incarnation, ReplicaId};
use crate::message::Origin;

/// So many of its latest requests are remembered of each run of each node; more than it has under way.
const WINDOW: u64 = 65_536;

/// So many writes that have failed here are remembered; after more, nothing is certain.
const FAILED_MAX: usize = 1024;

/// The last so many numbers of one run of one node, a bit each.
#[derive(Clone, Debug)]
struct Seen {
    bits: Vec<u64>,
    /// The highest that was seen.
    last: ForwardId,
}

impl Seen {
    fn new() -> Seen {
        Seen { bits: vec![0; WINDOW as usize / 64], last: ForwardId(0) }
    }

    fn slot(id: ForwardId) -> (usize, u64) {
        ((id.0 % WINDOW / 64) as usize, 1 << (id.0 % 64))
    }

    /// Numbers are remembered from here on.
    fn floor(&self) -> u64 {
        self.last.0.saturating_sub(WINDOW - 1)
    }

    #[inline]
    fn note(&mut self, id: ForwardId) {
        if id.0 < self.floor() {
            return;
        }
        if id > self.last {
            self.forget(self.last.0 + 1, id.0);
            self.last = id;
        }
        let (word, bit) = Seen::slot(id);
        self.bits[word] |= bit;
    }

    /// Frees the slots of `from..=to`, for these numbers.
    fn forget(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            return self.bits.fill(0);
        }
        for id in from..=to {
            let (word, bit) = Seen::slot(ForwardId(id));
            self.bits[word] &= !bit;
        }
    }

    fn contains(&self, id: ForwardId) -> bool {
        let (word, bit) = Seen::slot(id);
        id <= self.last && id.0 >= self.floor() && self.bits[word] & bit != 0
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// A member without a break, and without a restart.
    is_unbroken: bool,
    /// All writes since this epoch have been seen, and what was seen is in the copy: nobody else's term came between.
    since: Option<Epoch>,
    seen: BTreeMap<(ReplicaId, Incarnation), Seen>,
    /// Of those that were seen, the ones whose bytes may be here in part: carried out or not, nobody can say.
    failed: BTreeSet<(ReplicaId, Incarnation, ForwardId)>,
}

impl Witness {
    /// Whether this replica is a member as of this epoch; `begins` another's term.
    pub(crate) fn is_member(&mut self, epoch: Epoch, is_member: bool, begins: bool) {
        if !is_member || begins {
            // The new leader's bytes may have taken the place of what was seen.
            self.seen.clear();
            self.failed.clear();
            self.since = None;
        }
        if is_member {
            self.since.get_or_insert(epoch);
        }
        // Whoever was in sync when another's term began may have lost power just before, and is to be mended.
        self.is_unbroken = is_member && (self.is_unbroken || !begins);
    }

    /// This replica is about to lead. (Whether it has all that was acknowledged shows when its term is in force.)
    pub(crate) fn begins(&mut self, epoch: Epoch) {
        self.since.get_or_insert(epoch);
    }

    /// All members are equal, or what this replica leads with is the volume from now on.
    pub(crate) fn mended(&mut self) {
        self.is_unbroken = self.since.is_some();
    }

    /// Whether this replica has been a member since some epoch, without a restart.
    pub(crate) fn is_unbroken(&self) -> bool {
        self.is_unbroken
    }

    /// A write is being carried out.
    #[inline]
    pub(crate) fn note(&mut self, origin: &Origin) {
        self.seen.entry((origin.replica, origin.incarnation)).or_insert_with(Seen::new).note(origin.id);
    }

    /// A write that was seen has failed here.
    pub(crate) fn failed(&mut self, origin: &Origin) {
        self.failed.insert((origin.replica, origin.incarnation, origin.id));
        if self.failed.len() > FAILED_MAX {
            self.doubt();
        }
    }

    /// Something has failed here, and it is not known what.
    pub(crate) fn doubt(&mut self) {
        *self = Witness::default();
    }

    /// Whether a write that was sent in this epoch has been carried out.
    pub(crate) fn saw(&self, origin: &Origin, sent_in: Epoch) -> Option<bool> {
        if self.failed.contains(&(origin.replica, origin.incarnation, origin.id)) {
            return None;
        }
        let seen = self.seen.get(&(origin.replica, origin.incarnation));
        if seen.is_some_and(|seen| seen.contains(origin.id)) {
            return Some(true);
        }
        let is_certain = self.since.is_some_and(|since| since <= sent_in)
            && seen.is_none_or(|seen| origin.id.0 >= seen.floor());
        is_certain.then_some(false)
    }

    /// Forgets earlier runs of a node: nobody asks for them any more.
    pub(crate) fn forget_runs_before(&mut self, replica: ReplicaId, incarnation: Incarnation) {
        self.seen.retain(|&(of, run), _| of != replica || run == incarnation);
        self.failed.retain(|&(of, run, _)| of != replica || run == incarnation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk had failed it in part, which was seen; taken for one that was not carried out, it came over a later write.
    #[test]
    fn of_a_write_that_has_failed_nothing_is_certain() {
        let origin = |id| Origin {
            replica: ReplicaId(1),
            incarnation: Incarnation(7),
            id: ForwardId(id),
            answered_below: ForwardId(0),
        };
        let mut witness = Witness::default();
        witness.is_member(Epoch(1), true, false);
        witness.note(&origin(1));
        witness.note(&origin(2));
        witness.failed(&origin(2));
        let saw = [1, 2, 3].map(|id| witness.saw(&origin(id), Epoch(1)));
        assert_eq!(saw, [Some(true), None, Some(false)]);
    }
}
