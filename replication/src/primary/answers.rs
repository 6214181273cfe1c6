//! Answers to forwarded writes, kept until their origin has them: a write that comes twice is answered twice.
//!
//! Its one rule: how much is kept is bounded by how far a forwarding replica goes beyond its oldest request.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::id::{ForwardId, Incarnation, ReplicaId};

#[derive(Clone, Debug)]
struct Run {
    incarnation: Incarnation,
    answers: BTreeMap<ForwardId, Result<(), Fault>>,
}

/// For each replica, those to its latest run.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    runs: BTreeMap<ReplicaId, Run>,
}

impl Answers {
    /// A run has the answers to all before this; an earlier run asks for nothing any more.
    #[inline]
    pub(super) fn forget(&mut self, replica: ReplicaId, incarnation: Incarnation, below: ForwardId) {
        let Some(run) = self.runs.get_mut(&replica) else { return };
        if run.incarnation != incarnation {
            self.runs.remove(&replica);
            return;
        }
        while let Some(first) = run.answers.first_entry().filter(|first| *first.key() < below) {
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
        let run = self.runs.entry(replica).or_insert_with(|| Run { incarnation, answers: BTreeMap::new() });
        if run.incarnation == incarnation {
            run.answers.insert(id, result);
        }
    }

    pub(super) fn get(
        &self,
        replica: ReplicaId,
        incarnation: Incarnation,
        id: ForwardId,
    ) -> Option<Result<(), Fault>> {
        let run = self.runs.get(&replica).filter(|run| run.incarnation == incarnation)?;
        run.answers.get(&id).copied()
    }
}
