//! Answers to forwarded writes, kept until their origin has them: a write that comes twice is answered twice.
//!
//! Its one rule: how much is kept is bounded by how far a forwarding replica goes beyond its oldest request.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::id::{ForwardId, Incarnation, ReplicaId};

/// For each run of each replica. Of an earlier run only what ended after the latest one had begun, until that asks
/// again.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    runs: BTreeMap<(ReplicaId, Incarnation), BTreeMap<ForwardId, Result<(), Fault>>>,
}

impl Answers {
    /// A run has the answers to all before this; an earlier run asks for nothing any more.
    #[inline]
    pub(super) fn forget(&mut self, replica: ReplicaId, incarnation: Incarnation, below: ForwardId) {
        if self.runs.len() > 1 {
            self.runs.retain(|&(of, run), _| of != replica || run == incarnation);
        }
        let Some(answers) = self.runs.get_mut(&(replica, incarnation)) else { return };
        while let Some(first) = answers.first_entry().filter(|first| *first.key() < below) {
            let _ = first.remove();
        }
    }

    #[inline]
    pub(super) fn note(
        &mut self,
        replica: ReplicaId,
        incarnation: Incarnation,
        id: ForwardId,
        result: Result<(), Fault>,
    ) {
        self.runs.entry((replica, incarnation)).or_default().insert(id, result);
    }

    pub(super) fn get(
        &self,
        replica: ReplicaId,
        incarnation: Incarnation,
        id: ForwardId,
    ) -> Option<Result<(), Fault>> {
        self.runs.get(&(replica, incarnation))?.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run that was gone had left under way ended, and then no answer to the next run was kept: it asked
    /// again, and its write was carried out twice.
    #[test]
    fn a_late_end_for_an_earlier_run_costs_the_latest_no_answer() {
        let (of, old, new) = (ReplicaId(1), Incarnation(1), Incarnation(2));
        let mut answers = Answers::default();
        answers.note(of, old, ForwardId(7), Ok(()));
        answers.forget(of, new, ForwardId(1));
        answers.note(of, old, ForwardId(8), Ok(()));
        answers.note(of, new, ForwardId(1), Ok(()));
        assert_eq!(answers.get(of, new, ForwardId(1)), Some(Ok(())));
        answers.forget(of, new, ForwardId(2));
        assert_eq!(answers.get(of, old, ForwardId(8)), None);
        assert_eq!(answers.get(of, new, ForwardId(1)), None);
    }
}
