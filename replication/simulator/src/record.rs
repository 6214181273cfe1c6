//! The external coordinator: a register with compare-and-swap, late answers, and a watch that may miss things.
//!
//! Its one rule: whatever is answered, the register itself changes only from the very record it replaces.

use replication::{Decision, Epoch, Record};

#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    pub(crate) record: Option<Record>,
    /// Nobody is answered.
    pub(crate) away: bool,
    /// Proposals under way.
    proposals: Vec<Option<Proposal>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub(crate) node: usize,
    pub(crate) run: u32,
    pub(crate) expected: Epoch,
    pub(crate) record: Record,
    pub(crate) decision: Option<Decision>,
}

impl Register {
    pub(crate) fn put(&mut self, proposal: Proposal) -> u32 {
        let free = self.proposals.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.proposals.push(None);
            self.proposals.len() - 1
        });
        self.proposals[index] = Some(proposal);
        index as u32
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut Proposal {
        self.proposals[index as usize].as_mut().expect("a proposal is there until it is answered")
    }

    pub(crate) fn take(&mut self, index: u32) -> Proposal {
        self.proposals[index as usize].take().expect("a proposal is answered once")
    }

    /// A proposal has arrived: whether the register has changed.
    pub(crate) fn decide(&mut self, index: u32) -> bool {
        let latest = self.record.map_or(Epoch(0), |record| record.epoch);
        let proposal = self.get_mut(index);
        if latest == proposal.expected {
            let record = proposal.record;
            proposal.decision = Some(Decision::Accepted);
            self.record = Some(record);
            return true;
        }
        let record = self.record;
        let proposal = self.get_mut(index);
        proposal.decision = Some(record.map_or(Decision::Unavailable, Decision::Superseded));
        false
    }
}
