//! How a replica gets to lead without a service that decides: by promises.
//!
//! ```text
//! Settle (a restarted leader waits for the others) ─▶ Promise (own, on disk) ─▶ Ask ─▶ judged ─▶ a term begins
//! ```
//! Who may be left out: with `Continue` the last leader must have promised, since it may have gone on alone; with
//! `Suspend` a majority, since nobody has gone on without one. So two terms never begin from one record unless an
//! operator forces it.
//! Its one rule: only a member of the latest in-sync set among all that promised may lead (rule 3).

mod judge;
mod rehearsal;

pub(crate) use rehearsal::latest_copy;

use crate::base::Base;
use crate::coordinator::{Coordination, Decision, Record};
use crate::fault::Refusal;
use crate::history::History;
use crate::id::{CommandId, Epoch, ReplicaId, ReplicaSet, Time};
use crate::journal::Version;
use crate::message::Message;
use crate::primary::Beginning;
use crate::secondary::leases_count;

/// In units of `peer_timeout`.
const SETTLE_LONG: u64 = 5;

/// Two candidates do not outbid each other for ever.
const OUTBID_MAX: u32 = 4;

/// What has been promised by one replica.
#[derive(Clone, Debug)]
struct Promised {
    by: ReplicaId,
    record: Option<Record>,
    history: History,
    unbroken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Others may still come.
    Settle,
    /// Our own promise is written.
    Promise(Version),
    /// The others are asked.
    Ask,
    /// The external coordinator is asked.
    Propose,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Whose wish. None: a leader has restarted, or was named by its predecessor.
    command: Option<CommandId>,
    forced: bool,
    stage: Stage,
    epoch: Epoch,
    asked: ReplicaSet,
    promised: Vec<Promised>,
    deadline: Time,
    ask_again: Time,
    /// How often somebody had promised more already.
    outbid: u32,
    proposed: Option<(u64, Beginning)>,
}

/// How a candidacy stands.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It goes on.
    Pending,
    /// A term begins.
    Begin(Box<Beginning>),
    /// It is over.
    Over(Option<CommandId>, Refusal),
}

impl Candidate {
    /// An operator's wish.
    pub(crate) fn commanded(command: CommandId, forced: bool, base: &mut Base) -> Candidate {
        let mut candidate = Candidate::new(Some(command), forced, base);
        candidate.promise(base);
        candidate
    }

    /// The first of a new volume's replicas, all of which are empty: nobody need be asked.
    pub(crate) fn first(base: &mut Base) -> Candidate {
        let mut candidate = Candidate::new(None, false, base);
        candidate.promise(base);
        candidate
    }

    /// A leader that has restarted: the others have a moment to come; longer if they may hold what it has lost.
    pub(crate) fn resumed(base: &mut Base) -> Candidate {
        let mut candidate = Candidate::new(None, false, base);
        if candidate.may_lack_unflushed(base) {
            candidate.deadline = base.now.after(SETTLE_LONG * base.config.timing.peer_timeout);
        }
        candidate
    }

    fn new(command: Option<CommandId>, forced: bool, base: &Base) -> Candidate {
        Candidate {
            command,
            forced,
            stage: Stage::Settle,
            epoch: Epoch(0),
            asked: ReplicaSet::EMPTY,
            promised: Vec::new(),
            deadline: base.now.after(base.config.timing.peer_timeout),
            ask_again: base.now,
            outbid: 0,
            proposed: None,
        }
    }

    pub(crate) fn is_commanded(&self) -> bool {
        self.command.is_some()
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Gives up: somebody else is to lead.
    pub(crate) fn cancel(self) -> Option<CommandId> {
        self.command
    }

    /// Promises itself an epoch beyond all that are known.
    fn promise(&mut self, base: &mut Base) {
        let superblock = base.journal.superblock();
        let mut epoch = superblock.promised.max(superblock.record.map_or(Epoch(0), |record| record.epoch));
        epoch = epoch.max(base.external.map_or(Epoch(0), |record| record.epoch));
        for peer in base.greeted().iter() {
            let hello = base.hello(peer).expect("it has greeted");
            epoch = epoch.max(hello.promised).max(hello.record.map_or(Epoch(0), |record| record.epoch));
        }
        self.epoch = epoch.next();
        let epoch = self.epoch;
        if base.config.coordination == Coordination::External {
            // The coordinator's epoch is the coordinator's to give. A first record is ours only if we remember it.
            let (volume, is_new) = (base.config.new_volume, base.record().is_none());
            let version = base.journal.edit(|superblock| {
                if is_new {
                    superblock.volume.get_or_insert(volume);
                }
            });
            self.stage = Stage::Promise(version);
        } else {
            self.stage = Stage::Promise(base.journal.edit(|superblock| superblock.promised = epoch));
        }
        self.deadline = base.now.after(base.config.timing.peer_timeout.max(base.config.timing.lease) + 1);
    }

    /// Goes as far as it can.
    pub(crate) fn advance(&mut self, base: &mut Base) -> Outcome {
        if let Some(leader) = base.later_leader().filter(|_| !self.forced) {
            return Outcome::Over(self.command, Refusal::LeaderAlive(leader));
        }
        if self.stage == Stage::Settle {
            let members =
                base.record().map_or(ReplicaSet::EMPTY, |record| record.in_sync).without(base.own());
            if !base.greeted().covers(members) && base.now < self.deadline {
                return Outcome::Pending;
            }
            self.promise(base);
        }
        if let Stage::Promise(version) = self.stage {
            let lease_out = leases_count(base) && !self.forced && base.granted.is_out(base.now);
            if !base.journal.is_durable(version) || lease_out || !base.is_drained() {
                return Outcome::Pending;
            }
            if base.config.coordination == Coordination::External {
                return self.propose(base);
            }
            self.stage = Stage::Ask;
            self.deadline = base.now.after(base.config.timing.peer_timeout.max(base.config.timing.lease) + 1);
            self.ask(base);
        }
        if self.stage == Stage::Ask {
            let promised = base.journal.superblock().promised;
            if promised > self.epoch {
                // A leader's later record is being adopted.
                return Outcome::Over(self.command, Refusal::OldEpoch(promised));
            }
            let answered =
                self.promised.iter().fold(ReplicaSet::EMPTY, |set, promised| set.with(promised.by));
            if answered.covers(self.asked.union(base.greeted())) || base.now >= self.deadline {
                return self.judge(base);
            }
            if base.now >= self.ask_again {
                self.ask(base);
            }
        }
        Outcome::Pending
    }

    fn ask(&mut self, base: &mut Base) {
        self.ask_again = base.now.after(base.config.timing.ping);
        for peer in base.greeted().iter() {
            if !self.promised.iter().any(|promised| promised.by == peer) {
                self.asked = self.asked.with(peer);
                base.send(peer, Message::Prepare { epoch: self.epoch, forced: self.forced });
            }
        }
    }

    /// A peer has said who it is: it is asked, too.
    pub(crate) fn greeted(&mut self) {
        self.ask_again = Time(0);
    }

    /// A peer is gone: its promise counts, but it cannot take part.
    pub(crate) fn lost(&mut self, peer: ReplicaId) {
        self.asked = self.asked.without(peer);
        self.promised.retain(|promised| promised.by != peer);
    }

    /// A peer has promised.
    pub(crate) fn promised(
        &mut self,
        by: ReplicaId,
        epoch: Epoch,
        record: Option<Record>,
        history: History,
        unbroken: bool,
    ) {
        if self.stage == Stage::Ask
            && epoch == self.epoch
            && !self.promised.iter().any(|promised| promised.by == by)
        {
            self.promised.push(Promised { by, record, history, unbroken });
        }
    }

    /// A peer does not.
    pub(crate) fn refused(&mut self, epoch: Epoch, reason: Refusal, base: &mut Base) -> Outcome {
        if self.stage != Stage::Ask || epoch != self.epoch {
            return Outcome::Pending;
        }
        match reason {
            // It runs out: asked again until the deadline.
            Refusal::LeaseOut if base.now < self.deadline => Outcome::Pending,
            Refusal::OldEpoch(promised) if promised >= self.epoch && self.outbid < OUTBID_MAX => {
                // Somebody has been promised more in the past: beyond that.
                let version =
                    base.journal.edit(|superblock| superblock.promised = superblock.promised.max(promised));
                self.outbid += 1;
                self.promised.clear();
                self.asked = ReplicaSet::EMPTY;
                self.epoch = promised.next();
                let epoch = self.epoch;
                self.stage =
                    Stage::Promise(base.journal.edit(|superblock| superblock.promised = epoch).max(version));
                Outcome::Pending
            }
            reason => Outcome::Over(self.command, reason),
        }
    }

    fn propose(&mut self, base: &mut Base) -> Outcome {
        let latest = base.record();
        let own = base.own();
        let is_member = match self.qualify(latest, base) {
            Ok(is_member) => is_member,
            Err(reason) => return Outcome::Over(self.command, reason),
        };
        let superblock = base.journal.superblock();
        let successor = self.successor(latest, base);
        let expected = latest.map_or(Epoch(0), |record| record.epoch);
        let in_sync = match latest {
            Some(record) if is_member => record.in_sync,
            _ => ReplicaSet::only(own),
        };
        let record = Record {
            epoch: expected.next(),
            term: expected.next(),
            leader: Some(successor.unwrap_or(own)),
            incarnation: base.config.incarnation,
            in_sync: if successor.is_some() { in_sync.without(own) } else { in_sync },
        };
        let mut history = base.journal.history();
        // A record that a member has not adopted was never in force; one that it has may have been. Whoever has become
        // one in the same term was let in by a leader whose records without it were.
        let goes_on = |record: &Record| {
            let is_same = |latest: Record| (latest.leader, latest.term) == (record.leader, record.term);
            record.in_sync.contains(own) || latest.is_some_and(is_same)
        };
        if let Some(adopted) = superblock.record.filter(|record| is_member && goes_on(record)) {
            history.extend(&adopted);
        }
        let is_fresh = latest.is_none() && base.config.blank;
        let full = if is_member && latest.is_some() || is_fresh { ReplicaSet::EMPTY } else { base.peers() };
        let loses = self.forced || successor.is_none() && self.may_lack_unflushed(base);
        let required = ReplicaSet::EMPTY;
        let beginning = Beginning { record, history, required, loses, full, command: self.command };
        if let Some(proposal) = base.propose(expected, record) {
            self.proposed = Some((proposal, beginning));
            self.stage = Stage::Propose;
        }
        Outcome::Pending
    }

    /// Whether this replica is a member of the coordinator's record; one that is not leads by force only.
    fn qualify(&self, latest: Option<Record>, base: &Base) -> Result<bool, Refusal> {
        let own = base.own();
        let superblock = base.journal.superblock();
        // One that has no record of its own has lost its copy, whatever the coordinator says of it.
        let intends = |record: Record| record.leader == Some(own) && record.in_sync == ReplicaSet::only(own);
        let began = superblock.record.is_some() || superblock.volume.is_some() && latest.is_some_and(intends);
        let has_copy = began && !superblock.mixed;
        let is_member = latest.is_none_or(|record| record.in_sync.contains(own) && has_copy);
        if !is_member && !self.forced && !base.sabotaged(crate::config::Sabotage::PromoteStale) {
            let since = base.journal.history().last_epoch();
            let in_sync = latest.map_or(ReplicaSet::EMPTY, |record| record.in_sync);
            return Err(Refusal::NotInSync { since, in_sync });
        }
        match self.successor(latest, base).filter(|_| self.command.is_some()) {
            Some(peer) => Err(Refusal::MayLackUnflushed(peer)),
            None => Ok(is_member),
        }
    }

    /// Who leads in our place, if our copy may lack what its copy has.
    fn successor(&self, latest: Option<Record>, base: &Base) -> Option<ReplicaId> {
        unbroken_peer(latest, base).filter(|_| self.may_lack_unflushed(base) && !self.forced)
    }

    /// The external coordinator's answer.
    pub(crate) fn decided(&mut self, proposal: u64, decision: Decision) -> Outcome {
        let Some((_, beginning)) = self.proposed.take_if(|(number, _)| *number == proposal) else {
            return Outcome::Pending;
        };
        match decision {
            Decision::Accepted => Outcome::Begin(Box::new(beginning)),
            Decision::Superseded(record) if record == beginning.record => Outcome::Begin(Box::new(beginning)),
            Decision::Superseded(_) | Decision::Unavailable => {
                Outcome::Over(self.command, Refusal::Coordinator)
            }
        }
    }

    /// When time alone takes it further.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        match self.stage {
            Stage::Settle => Some(self.deadline),
            // It waits for the disk; or for our grant, which wakes by itself.
            Stage::Promise(_) => None,
            Stage::Ask => Some(self.deadline.min(self.ask_again)),
            Stage::Propose => None,
        }
    }
}

/// A member by this record that is linked and has been one without a break.
fn unbroken_peer(latest: Option<Record>, base: &Base) -> Option<ReplicaId> {
    let is_unbroken =
        |&peer: &ReplicaId| base.hello(peer).is_some_and(|hello| hello.unbroken && hello.record.is_some());
    latest?.in_sync.without(base.own()).iter().find(is_unbroken)
}
