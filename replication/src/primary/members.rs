//! The record of a term: who is in the in-sync set, and when a change of it is in force.
//!
//! ```text
//! a term begins, static:    Spread (all who consented adopt it) ─▶ Store (own superblock) ─▶ in force
//! a term begins, external:  (the coordinator has decided)  Store ─▶ Spread ─▶ in force     (also one of another's)
//! a change:                 [Propose ─▶] Store ─▶ Spread (all members of it; suspend: and a majority) ─▶ in force
//! ```
//! Own superblock first, so that a leader that crashes knows of every epoch it may have counted on; but at a term's
//! beginning last, so that a leader that crashes does not believe in a term that nobody consented to.
//! Its one rule: no write completes without a replica until a record without it is in force (rule 6).

use crate::coordinator::Record;
use crate::history::History;
use crate::id::{CommandId, Epoch, ReplicaSet, Time};
use crate::journal::Version;

/// With what a term begins.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) record: Record,
    /// Of all that the new leader's copy holds.
    pub(crate) history: History,
    /// Who must adopt the record before it is in force, beside its in-sync set.
    pub(crate) required: ReplicaSet,
    /// Acknowledged writes that nobody had flushed may be lost: a new era begins.
    pub(crate) loses: bool,
    /// Replicas that lack everything, as far as we know.
    pub(crate) full: ReplicaSet,
    /// Whose command it is.
    pub(crate) command: Option<CommandId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The external coordinator is asked.
    Propose,
    /// Our superblock is written.
    Store(Version),
    /// The others adopt it.
    Spread,
    /// Our superblock says that it is in force.
    Seal(Version),
}

/// With which record a term ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Nobody leads; the members stay.
    Nobody,
    /// Another member leads; we stay one.
    Another,
    /// Another member leads, and we are none.
    WithoutUs,
}

#[derive(Clone, Debug)]
pub(super) struct Members {
    /// The first epoch of the term.
    term: Epoch,
    era: u64,
    /// The latest record, in force or not.
    pub(super) record: Record,
    pub(super) in_force: Option<Record>,
    /// How far the latest record is, if it is not in force.
    pub(super) stage: Option<Stage>,
    /// Members of any record since the last one in force.
    pub(super) pending: ReplicaSet,
    /// The epoch that the coordinator's record must have, for the proposal of the latest.
    pub(super) expected: Epoch,
    /// The proposal that is not answered.
    pub(super) proposal: Option<u64>,
    /// Not to be made before.
    pub(super) propose_at: Time,
    /// The latest record, although not in force, must be taken to be: we may have gone on by it.
    pub(super) counts: bool,
    /// A record has been made: peers that were kept waiting for one may be let in.
    pub(super) greet: bool,
    /// Before the latest record.
    pub(super) history: History,
    pub(super) required: ReplicaSet,
    pub(super) command: Option<CommandId>,
    /// Somebody has promised a later epoch: ours has to be beyond.
    pub(super) outbid: Epoch,
    /// The record that ends the term, if one is wanted.
    pub(super) last: Option<Last>,
    pub(super) suspended: bool,
}

impl Members {
    pub(super) fn new(beginning: &Beginning, era_before: u64) -> Members {
        let record = &beginning.record;
        let goes_on = era_before != 0 && !beginning.loses;
        Members {
            term: record.epoch,
            era: if goes_on { era_before } else { new_era(record) },
            record: beginning.record,
            in_force: None,
            stage: None,
            pending: beginning.record.in_sync,
            expected: Epoch(0),
            counts: false,
            greet: false,
            proposal: None,
            propose_at: Time(0),
            history: beginning.history.clone(),
            required: beginning.required,
            command: beginning.command,
            outbid: Epoch(0),
            last: None,
            suspended: false,
        }
    }

    pub(super) fn term(&self) -> Epoch {
        self.term
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn in_force(&self) -> Option<&Record> {
        self.in_force.as_ref()
    }

    /// Whether the term has not been in force yet.
    pub(super) fn begins(&self) -> bool {
        self.in_force.is_none()
    }

    pub(super) fn is_spreading(&self) -> bool {
        self.stage == Some(Stage::Spread)
    }

    /// Whether the latest record is the coordinator's, and in our superblock.
    pub(super) fn may_be_told(&self) -> bool {
        !matches!(self.stage, Some(Stage::Propose | Stage::Store(_)))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.stage.is_none()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// In the in-sync set in force, or in one that somebody may have adopted since.
    #[inline]
    pub(super) fn must_hold(&self) -> ReplicaSet {
        self.in_force.map_or(ReplicaSet::EMPTY, |record| record.in_sync).union(self.pending)
    }

    pub(super) fn history_before(&self) -> &History {
        &self.history
    }

    /// What our copy holds.
    pub(super) fn history(&self) -> History {
        let mut history = self.history.clone();
        if self.counts {
            history.extend(&self.record);
        }
        history
    }
}

/// As random as the run that it begins in.
fn new_era(record: &Record) -> u64 {
    let mixed = record.incarnation.0 ^ record.epoch.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.max(1)
}
