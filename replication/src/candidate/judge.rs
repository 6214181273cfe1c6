//! Whether those who have promised are enough, and what the term begins with.
//!
//! Its one rule: where this may lose an acknowledged write, it is refused with the reason, unless it is forced.

use super::{Candidate, Outcome, Promised};
use crate::base::Base;
use crate::config::{OnPeerLoss, Sabotage};
use crate::coordinator::Record;
use crate::fault::Refusal;
use crate::history::{Comparison, History};
use crate::id::{ReplicaId, ReplicaSet};
use crate::primary::Beginning;

/// What is known once everybody has answered who will.
struct Known {
    /// The latest record of all that count.
    latest: Option<Record>,
    /// Promised, and of our line of history, ourselves included.
    with_us: ReplicaSet,
    /// Promised, and never been part of a volume; or they have forgotten it, with their disk.
    new: ReplicaSet,
    /// The longest history of our line.
    history: History,
    diverged: Option<ReplicaId>,
    /// Has all that was acknowledged, flushed or not.
    unbroken: Option<ReplicaId>,
}

impl Candidate {
    pub(super) fn judge(&self, base: &Base) -> Outcome {
        match self.verdict(base) {
            Ok(beginning) => Outcome::Begin(Box::new(beginning)),
            Err(reason) => Outcome::Over(self.command, reason),
        }
    }

    pub(super) fn verdict(&self, base: &Base) -> Result<Beginning, Refusal> {
        let known = survey(&self.promised, base);
        match known.latest {
            None => self.first_ever(&known, base),
            Some(latest) if self.forced => Ok(self.forcibly(latest, &known, base)),
            Some(latest) => self.rightly(latest, &known, base),
        }
    }

    /// Whether our last run ended uncleanly, so that our disk may have forgotten what others still have.
    pub(super) fn may_lack_unflushed(&self, base: &Base) -> bool {
        !base.config.cache_kept && base.journal.unclean && !base.witness.is_unbroken()
    }

    fn record(&self, in_sync: ReplicaSet, base: &Base) -> Record {
        let (epoch, incarnation) = (self.epoch, base.config.incarnation);
        Record { epoch, term: epoch, leader: Some(base.own()), incarnation, in_sync }
    }

    /// Nobody has ever led: this copy is the volume.
    fn first_ever(&self, known: &Known, base: &Base) -> Result<Beginning, Refusal> {
        let unreachable = base.config.all().minus(known.with_us.union(known.new));
        if !unreachable.is_empty() && !self.forced {
            return Err(Refusal::NewAndAlone { unreachable });
        }
        let record = self.record(ReplicaSet::only(base.own()), base);
        let full = if base.config.blank { ReplicaSet::EMPTY } else { base.peers() };
        let required = ReplicaSet::EMPTY;
        let (history, loses) = (History::default(), true);
        Ok(Beginning { record, history, required, loses, full, command: self.command })
    }

    fn rightly(&self, latest: Record, known: &Known, base: &Base) -> Result<Beginning, Refusal> {
        let own = base.own();
        let superblock = base.journal.superblock();
        if let Some(peer) = known.diverged.filter(|_| self.command.is_some()) {
            return Err(Refusal::SplitBrain(peer));
        }
        let stale = base.sabotaged(Sabotage::PromoteStale);
        if superblock.mixed && !stale {
            return Err(Refusal::Mixed);
        }
        // One that has no record of its own has lost its copy, whatever others say of it.
        if (!latest.in_sync.contains(own) || superblock.record.is_none()) && !stale {
            let since = base.journal.history().last_epoch();
            return Err(Refusal::NotInSync { since, in_sync: latest.in_sync });
        }
        if !stale {
            self.enough(latest, known, base)?;
        }
        let mut history = known.history.clone();
        let counts = self.may_have_counted(latest, base);
        if counts.epoch > history.last_epoch() {
            history.extend(&counts);
        }
        let mut record = self.record(latest.in_sync.and(known.with_us).with(own), base);
        let required = known.with_us.without(own);
        let mut loses = self.may_lack_unflushed(base);
        if let Some(peer) = known.unbroken.filter(|&peer| loses && record.in_sync.contains(peer)) {
            if self.command.is_some() {
                return Err(Refusal::MayLackUnflushed(peer));
            }
            record.leader = Some(peer);
            record.in_sync = record.in_sync.without(own);
            loses = false;
        }
        Ok(Beginning { record, history, required, loses, full: ReplicaSet::EMPTY, command: self.command })
    }

    /// Whether nobody who has not promised can have gone on from this record, or from one before it.
    fn enough(&self, latest: Record, known: &Known, base: &Base) -> Result<(), Refusal> {
        let superblock = base.journal.superblock();
        let is_ours = superblock.in_force && superblock.record == Some(latest);
        if is_ours && latest.in_sync == ReplicaSet::only(base.own()) {
            // The only copy: nobody else may lead by this record, and only who leads by it lets others in.
            return Ok(());
        }
        let replicas = base.config.names.len();
        let reachable = known.with_us.count();
        let is_majority = base.config.is_majority(reachable);
        if base.config.on_peer_loss == OnPeerLoss::Suspend {
            return if is_majority { Ok(()) } else { Err(Refusal::NoMajority { reachable, replicas }) };
        }
        let mut record = latest;
        loop {
            let needed = match record.leader {
                Some(leader) => ReplicaSet::only(leader),
                None if is_majority => ReplicaSet::EMPTY,
                None => record.in_sync,
            };
            let unreachable = needed.minus(known.with_us).minus(known.new);
            if !unreachable.is_empty() {
                return Err(Refusal::MayHaveGoneOn { unreachable });
            }
            let by = needed.and(known.new);
            if !by.is_empty() {
                return Err(Refusal::CopyLost { by });
            }
            match self.given_up(record, base) {
                // Its leader was a member before, so its own record is the last in force, or later; and whoever led by
                // that may have gone on.
                Some(its) => record = its,
                None => return Ok(()),
            }
        }
    }

    /// The latest record that may have been in force, as far as the leaders that have promised know.
    fn may_have_counted(&self, latest: Record, base: &Base) -> Record {
        let mut record = latest;
        while let Some(its) = self.given_up(record, base) {
            record = its;
        }
        record
    }

    /// What the leader of a term's first record knows, if it never wrote that down: so it was never in force.
    fn given_up(&self, record: Record, base: &Base) -> Option<Record> {
        let leader = record.leader.filter(|_| record.epoch == record.term)?;
        self.record_of(leader, base).filter(|its| its.rank() < record.rank())
    }

    /// The latest record that one knows who has promised.
    fn record_of(&self, replica: ReplicaId, base: &Base) -> Option<Record> {
        if replica == base.own() {
            return base.journal.superblock().record;
        }
        self.promised.iter().find(|promised| promised.by == replica)?.record
    }

    /// An operator takes the loss: of our own copy only what it surely holds is claimed.
    fn forcibly(&self, latest: Record, known: &Known, base: &Base) -> Beginning {
        let own = base.own();
        let superblock = base.journal.superblock();
        let mut history = base.journal.history();
        let own_latest = superblock.record.filter(|record| record.in_sync.contains(own));
        let is_member = latest.in_sync.contains(own) && own_latest == Some(latest) && !superblock.mixed;
        if is_member {
            history.extend(&latest);
        }
        let others = if is_member { latest.in_sync.and(known.with_us) } else { ReplicaSet::EMPTY };
        let full = if is_member { ReplicaSet::EMPTY } else { base.peers() };
        let record = self.record(others.with(own), base);
        let required = ReplicaSet::EMPTY;
        Beginning { record, history, required, loses: true, full, command: self.command }
    }
}

/// Puts together what all have said.
fn survey(promised: &[Promised], base: &Base) -> Known {
    let own = base.own();
    let history = base.journal.history();
    let latest = base.journal.superblock().record;
    // What we have heard of counts where one replica alone may go on. (By majority, those that promise know enough.)
    let by_one = base.config.on_peer_loss == OnPeerLoss::Continue;
    let heard =
        base.heard.filter(|heard| by_one && latest.is_some_and(|latest| heard.rank() > latest.rank()));
    let mut known = Known {
        latest: heard.or(latest),
        with_us: ReplicaSet::only(own),
        new: ReplicaSet::EMPTY,
        history,
        diverged: None,
        unbroken: None,
    };
    for Promised { by, record, history, unbroken } in promised {
        if record.is_none() {
            known.new = known.new.with(*by);
            continue;
        }
        match known.history.compare(history) {
            Comparison::Diverged => {
                known.diverged = Some(*by);
                continue;
            }
            Comparison::Behind => known.history = history.clone(),
            Comparison::Same | Comparison::Ahead => {}
        }
        known.with_us = known.with_us.with(*by);
        if record.map(|record| record.rank()) > known.latest.map(|latest| latest.rank()) {
            known.latest = *record;
        }
        if *unbroken && *record == latest && latest.is_some_and(|latest| latest.in_sync.contains(*by)) {
            known.unbroken = Some(*by);
        }
    }
    known
}
