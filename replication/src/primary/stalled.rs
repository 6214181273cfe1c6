//! Jobs that have their range and lack something else, by what that is.
//!
//! Its one rule: each cause has its queue and its trigger, so that nothing walks over those that wait for another.

use std::collections::VecDeque;

use super::Primary;
use super::job::Stage;
use crate::base::Base;
use crate::id::Seq;

/// Why a job cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacks {
    /// A peer has too much on its way.
    Room,
    /// Its mark is not on disk yet.
    Mark,
    /// The activity log is full of marks that are needed.
    Space,
    /// Somebody else might lead.
    Lease,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stalled {
    room: VecDeque<Seq>,
    mark: VecDeque<Seq>,
    space: VecDeque<Seq>,
    lease: VecDeque<Seq>,
    room_freed: bool,
    journal_advanced: bool,
    lease_granted: bool,
    /// Those that wait are being tried again: the one in question is first of its queue.
    retrying: bool,
}

impl Stalled {
    pub(super) fn room_freed(&mut self) {
        self.room_freed |= !self.room.is_empty();
    }

    pub(super) fn journal_advanced(&mut self) {
        self.journal_advanced |= !self.mark.is_empty() || !self.space.is_empty();
    }

    pub(super) fn lease_granted(&mut self) {
        self.lease_granted |= !self.lease.is_empty();
    }

    /// Whether a job has to queue up behind others that wait for room.
    #[inline]
    pub(super) fn queues_for_room(&self) -> bool {
        !self.retrying && !self.room.is_empty()
    }

    /// Whether a job has to queue up behind others that wait for space in the log.
    #[inline]
    pub(super) fn queues_for_space(&self) -> bool {
        !self.retrying && !self.space.is_empty()
    }

    #[inline]
    pub(super) fn has_due(&self) -> bool {
        self.room_freed || self.journal_advanced || self.lease_granted
    }

    fn queue(&mut self, lacks: Lacks) -> &mut VecDeque<Seq> {
        match lacks {
            Lacks::Room => &mut self.room,
            Lacks::Mark => &mut self.mark,
            Lacks::Space => &mut self.space,
            Lacks::Lease => &mut self.lease,
        }
    }
}

impl Primary {
    pub(super) fn stall(&mut self, seq: Seq, lacks: Lacks) {
        self.jobs.get_mut(&seq).expect("a job that did not start is there").stage = Stage::Stalled;
        self.stalled.queue(lacks).push_back(seq);
    }

    /// Tries those again whose cause may be gone; all of them if `all`.
    pub(super) fn retry_stalled(&mut self, all: bool, base: &mut Base) {
        let stalled = &mut self.stalled;
        let lease = std::mem::take(&mut stalled.lease_granted) || all;
        let journal = std::mem::take(&mut stalled.journal_advanced) || all;
        let room = std::mem::take(&mut stalled.room_freed) || all;
        if lease {
            for seq in std::mem::take(&mut self.stalled.lease) {
                self.try_start(seq, base);
            }
        }
        if journal {
            for seq in std::mem::take(&mut self.stalled.mark) {
                self.try_start(seq, base);
            }
            self.retry_in_turn(Lacks::Space, base);
        }
        if room {
            self.retry_in_turn(Lacks::Room, base);
        }
    }

    /// From the first on, until one still lacks it.
    fn retry_in_turn(&mut self, lacks: Lacks, base: &mut Base) {
        while let Some(seq) = self.stalled.queue(lacks).pop_front() {
            self.stalled.retrying = true;
            let result = self.start(seq, base);
            self.stalled.retrying = false;
            match result {
                Ok(()) => {}
                Err(again) if again == lacks => return self.stalled.queue(lacks).push_front(seq),
                Err(other) => self.stall(seq, other),
            }
        }
    }
}
