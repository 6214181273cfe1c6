//! Which leaders a copy's bytes have come from, so that copies that have diverged are known for it.
//!
//! ```text
//! a: [a#1 1..=4] [b#7 5..=5]       behind c: may be brought up to date from it
//! c: [a#1 1..=4] [b#7 5..=9]
//! b: [a#1 1..=4] [b#7 5..=9] [b#8 10..=10]   diverged from d: split brain
//! d: [a#1 1..=4] [b#7 5..=9] [a#3 10..=12]
//! ```
//! Its one rule: a term is one run of one leader, and its epochs follow one another in one line.

use crate::coordinator::Record;
use crate::id::{Epoch, Incarnation, ReplicaId};

/// The epochs of one run of one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Term {
    /// Who led.
    pub leader: ReplicaId,
    /// In which run of its process.
    pub incarnation: Incarnation,
    /// Its first epoch.
    pub first: Epoch,
    /// Its last epoch that this copy knows of.
    pub last: Epoch,
}

/// Of a term that is made of several runs of its leader.
const SEVERAL: Incarnation = Incarnation(0);

/// The terms of a copy, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    terms: Vec<Term>,
}

/// How one copy stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Comparison {
    /// The same terms to the same epoch.
    Same,
    /// The other has all of ours and more.
    Behind,
    /// We have all of the other's and more.
    Ahead,
    /// Each has what the other has not; or they have nothing in common.
    Diverged,
}

impl History {
    /// So many terms are remembered.
    pub const TERMS_MAX: usize = 64;

    /// From its terms, oldest first. The oldest beyond the limit are made fewer.
    pub fn from_terms(terms: Vec<Term>) -> History {
        let mut history = History { terms };
        history.shorten();
        history
    }

    /// Its terms, oldest first.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether the copy has never been anybody's.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The epoch to which the copy is whole.
    pub fn last_epoch(&self) -> Epoch {
        self.terms.last().map_or(Epoch(0), |term| term.last)
    }

    /// Goes on into a record's epoch. A record without a leader is of no term.
    pub fn extend(&mut self, record: &Record) {
        let Some(leader) = record.leader else { return };
        match self.terms.last_mut() {
            Some(last) if last.leader == leader && last.incarnation == record.incarnation => {
                last.last = last.last.max(record.epoch);
            }
            _ => {
                let term =
                    Term { leader, incarnation: record.incarnation, first: record.epoch, last: record.epoch };
                self.terms.push(term);
            }
        }
        self.shorten();
    }

    /// How this copy stands to another.
    pub fn compare(&self, other: &History) -> Comparison {
        match (self.is_prefix_of(other), other.is_prefix_of(self)) {
            (true, true) => Comparison::Same,
            (true, false) => Comparison::Behind,
            (false, true) => Comparison::Ahead,
            (false, false) => Comparison::Diverged,
        }
    }

    /// Whether the epoch of a record is of our line. (In one that nobody leads nothing is written.)
    pub fn includes(&self, record: &Record) -> bool {
        let epoch = if record.leader.is_none() { Epoch(record.epoch.0 - 1) } else { record.epoch };
        self.terms.iter().any(|term| {
            let same_run = term.incarnation == record.incarnation
                || term.incarnation == SEVERAL && record.leader == Some(term.leader);
            same_run && term.first <= epoch && epoch <= term.last
        })
    }

    /// Whether all that went into this copy went into the other as well.
    fn is_prefix_of(&self, other: &History) -> bool {
        let Some(tail) = self.terms.last() else { return true };
        other.terms.iter().any(|term| term.covers(tail))
    }

    /// Runs of one leader that follow one another become one; if there are none, the oldest is forgotten.
    fn shorten(&mut self) {
        while self.terms.len() > Self::TERMS_MAX {
            let pair = self.terms.windows(2).position(|pair| pair[0].leader == pair[1].leader);
            let next = self.terms.remove(pair.unwrap_or(0));
            if let Some(index) = pair {
                let folded = &mut self.terms[index];
                folded.first = next.first;
                folded.incarnation = SEVERAL;
            }
        }
    }
}

impl Term {
    /// Whether this has all of a term. (A leader that restarts goes on from all that it had, so its runs do not fork.)
    fn covers(&self, other: &Term) -> bool {
        let same_run =
            self.incarnation == other.incarnation || self.incarnation == SEVERAL && self.first <= other.last;
        self.leader == other.leader && same_run && other.last <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReplicaSet;

    fn history(epochs: &[(u8, u64, u64)]) -> History {
        let mut history = History::default();
        for &(leader, incarnation, epoch) in epochs {
            history.extend(&Record {
                epoch: Epoch(epoch),
                term: Epoch(epoch),
                leader: Some(ReplicaId(leader)),
                incarnation: Incarnation(incarnation),
                in_sync: ReplicaSet::only(ReplicaId(leader)),
            });
        }
        history
    }

    #[test]
    fn a_copy_that_left_within_a_term_is_behind() {
        let left = history(&[(0, 1, 1)]);
        let went_on = history(&[(0, 1, 1), (0, 1, 2), (1, 5, 3)]);
        assert_eq!(left.compare(&went_on), Comparison::Behind);
        assert_eq!(went_on.compare(&left), Comparison::Ahead);
    }

    #[test]
    fn what_a_leader_did_after_another_took_over_is_not_included() {
        let own = history(&[(0, 1, 1), (0, 1, 2), (1, 5, 3)]);
        let record = |epoch, leader: Option<u8>| Record {
            epoch: Epoch(epoch),
            term: Epoch(1),
            leader: leader.map(ReplicaId),
            incarnation: Incarnation(1),
            in_sync: ReplicaSet::only(ReplicaId(0)),
        };
        assert!(own.includes(&record(2, Some(0))) && own.includes(&record(3, None)));
        assert!(!own.includes(&record(3, Some(0))) && !own.includes(&record(4, None)));
    }

    #[test]
    fn an_epoch_that_the_next_leader_never_saw_is_a_divergence() {
        let saw_it = history(&[(0, 1, 1), (0, 1, 2)]);
        let did_not = history(&[(0, 1, 1), (1, 5, 3)]);
        assert_eq!(saw_it.compare(&did_not), Comparison::Diverged);
    }

    #[test]
    fn two_leaders_of_one_epoch_have_diverged() {
        assert_eq!(
            history(&[(0, 1, 1), (0, 2, 2)]).compare(&history(&[(0, 1, 1), (1, 3, 2)])),
            Comparison::Diverged
        );
    }

    #[test]
    fn a_copy_that_was_never_anybodys_is_behind_all() {
        assert_eq!(history(&[]).compare(&history(&[(0, 1, 1)])), Comparison::Behind);
        assert_eq!(history(&[]).compare(&history(&[])), Comparison::Same);
    }

    #[test]
    fn a_leader_that_restarts_often_does_not_lose_who_was_away() {
        let epochs: Vec<_> = (1..200).map(|epoch| (0, epoch, epoch)).collect();
        let long = history(&epochs);
        assert_eq!(long.terms().len(), History::TERMS_MAX);
        assert_eq!(history(&epochs[..7]).compare(&long), Comparison::Behind);
        let other = history(&[(0, 1, 1), (1, 2, 2)]);
        assert_eq!(other.compare(&long), Comparison::Diverged);
    }

    #[test]
    fn leaders_in_turn_are_forgotten_in_the_end() {
        let epochs: Vec<_> = (1..200).map(|epoch| ((epoch % 2) as u8, epoch, epoch)).collect();
        let long = history(&epochs);
        assert_eq!(long.terms().len(), History::TERMS_MAX);
        assert_eq!(history(&epochs[..7]).compare(&long), Comparison::Diverged);
    }
}
