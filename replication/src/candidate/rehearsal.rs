//! What an operator's wish to promote would come to, as far as the others have told of themselves.
//!
//! Its one rule: nothing is promised, asked or written.

use super::{Candidate, Promised};
use crate::base::Base;
use crate::coordinator::{Coordination, Record};
use crate::fault::Refusal;
use crate::history::History;
use crate::id::{CommandId, Epoch, ReplicaId, ReplicaSet};
use crate::message::Hello;

impl Candidate {
    /// Why it would be refused, if so.
    pub(crate) fn rehearse(base: &Base) -> Result<(), Refusal> {
        if let Some(leader) = base.later_leader() {
            return Err(Refusal::LeaderAlive(leader));
        }
        let mut candidate = Candidate::new(Some(CommandId(0)), false, base);
        if base.config.coordination == Coordination::External {
            return candidate.qualify(base.record(), base).map(|_| ());
        }
        let hellos = base.peers().iter().filter_map(|peer| base.hello(peer));
        candidate.promised = hellos.map(as_promised).collect();
        candidate.verdict(base).map(|_| ())
    }
}

fn as_promised(hello: &Hello) -> Promised {
    let Hello { replica, record, history, unbroken, .. } = hello.clone();
    Promised { by: replica, record, history, unbroken }
}

/// Who has the latest copy, of all that are linked and ourselves; members before others.
pub(crate) fn latest_copy(base: &Base) -> ReplicaId {
    let own = base.own();
    let superblock = base.journal.superblock();
    let mut latest = (rank(own, superblock.record, &base.journal.history()), own);
    for peer in base.peers().iter() {
        let Some(hello) = base.hello(peer) else { continue };
        let its = rank(peer, hello.record, &hello.history);
        if its > latest.0 {
            latest = (its, peer);
        }
    }
    latest.1
}

fn rank(of: ReplicaId, record: Option<Record>, history: &History) -> (bool, Epoch, Epoch) {
    let in_sync = record.map_or(ReplicaSet::EMPTY, |record| record.in_sync);
    (in_sync.contains(of), history.last_epoch(), record.map_or(Epoch(0), |record| record.epoch))
}
