//! One node's machine for one volume: a follower, a candidate beside it, or the leader.
//!
//! ```text
//!              promoted, resumed            promises               in force
//! Secondary ─────────────────▶ + Candidate ─────────▶ Primary(begins) ─▶ Primary(serves)
//!     ▲                             │ refused             │ aborted          │ demoted, overtaken, disk failed
//!     └─────────────────────────────┴────────────────────┴──────────────────┘
//! ```
//! Its one rule: an event is taken, everything that follows from it is done, and only then the next one is taken.

mod explain;
mod hear;

use crate::base::Base;
use crate::candidate::{Candidate, Outcome};
use crate::config::{OnPeerLoss, ReplicaConfig, Timing};
use crate::coordinator::{Coordination, Decision, Record};
use crate::effect::{DisconnectReason, Effect};
use crate::event::{Command, Event, Operation};
use crate::fault::{Fault, OpenError, Refusal};
use crate::forward::Forward;
use crate::history::History;
use crate::id::{CommandId, DataId, Epoch, ReplicaSet, RequestId, Time};
use crate::journal::{Journal, Version};
use crate::message::Origin;
use crate::primary::{Beginning, End, Primary, Source};
use crate::region::{ByteRange, Geometry};
use crate::secondary::Secondary;
use crate::status::RoleState;
use crate::superblock::{Stored, Superblock};

#[derive(Clone, Debug)]
enum Role {
    Secondary(Box<Secondary>),
    Primary(Box<Primary>),
}

/// A read that was begun without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAtOnce {
    range: ByteRange,
    /// Of the term in which it was begun.
    generation: u64,
}

/// One node's machine for one volume.
#[derive(Clone, Debug)]
pub struct Replica {
    base: Base,
    role: Role,
    candidate: Option<Candidate>,
    forward: Forward,
    /// A leader that could not resume tries again then.
    resume_at: Option<Time>,
    /// Commands to discard this copy, answered once the superblock says so.
    discarding: Vec<(CommandId, Version)>,
    /// The earliest `WakeAt` that has not come. A tick too early does no harm.
    woken_for: Option<Time>,
}

impl Replica {
    /// Begins with what was stored. No effects yet: the first `Tick` (due at once) brings them.
    pub fn open(config: ReplicaConfig, stored: Stored, now: Time) -> Result<Replica, OpenError> {
        config.check()?;
        if let Some(superblock) = &stored.superblock {
            check_stored(&config, superblock)?;
        }
        let journal =
            Journal::open(config.own, config.geometry, new_superblock(&config), stored, config.names.len());
        let mut base = Base::new(config, journal, now);
        let role = Role::Secondary(Box::new(Secondary::new(&mut base)));
        let led = base.journal.superblock().record.is_some_and(|record| record.leader == Some(base.own()));
        let resume_at = led.then_some(now);
        let (candidate, forward, discarding) = (None, Forward::default(), Vec::new());
        Ok(Replica { base, role, candidate, forward, resume_at, discarding, woken_for: None })
    }

    /// Whether a client's read may be tried at once: read the local bytes, then ask `may_answer`. A read that may not,
    /// or fails, is submitted.
    pub fn reads_at_once(&self, range: ByteRange) -> Option<ReadAtOnce> {
        let Role::Primary(primary) = &self.role else { return None };
        let may = is_within(Operation::Read { range }, self.base.geometry())
            && primary.reads_at_once(range, &self.base);
        may.then(|| ReadAtOnce { range, generation: self.base.generation() })
    }

    /// Whether what was read since `reads_at_once` is what the volume holds. `now` must be later than the read.
    pub fn may_answer(&mut self, read: ReadAtOnce, now: Time) -> bool {
        self.base.time_passes(now);
        let Role::Primary(primary) = &mut self.role else { return false };
        read.generation == self.base.generation() && primary.may_answer(read.range, &self.base)
    }

    /// Takes an event and answers with effects.
    pub fn step(&mut self, event: Event, now: Time, effects: &mut Vec<Effect>) {
        self.base.time_passes(now);
        self.notice_sleep();
        if matches!(event, Event::Tick) && self.woken_for.is_some_and(|at| at <= self.base.now) {
            self.woken_for = None;
        }
        std::mem::swap(&mut self.base.out, effects);
        self.take(event);
        self.settle();
        self.base.pump_journal();
        self.wake();
        self.check();
        std::mem::swap(&mut self.base.out, effects);
    }

    /// If a tick is much too late, we were asleep, or our clock has leapt: nobody else was silent.
    fn notice_sleep(&mut self) {
        let now = self.base.now;
        if self.woken_for.is_some_and(|at| now.since(at) > self.base.config.timing.peer_timeout / 2) {
            self.base.links.iter_mut().flatten().for_each(|link| link.heard = now);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Submit { request, operation, data } => self.submit(request, operation, data),
            Event::LocalDone { op, result } => self.local_done(op, result),
            Event::MetadataDone { op, result } => {
                self.base.journal.done(op, result);
                self.answer_discards();
                if let Role::Primary(primary) = &mut self.role {
                    primary.journal_advanced();
                }
            }
            Event::PeerUp { peer, session } => self.peer_up(peer, session),
            Event::PeerLost { peer, session } => self.peer_lost(peer, session),
            Event::Received { peer, session, message, data } => self.received(peer, session, message, data),
            Event::Heard { peer, session } => self.heard(peer, session),
            Event::Tick => self.tick(),
            Event::Decided { epoch, decision } => self.decided(epoch, decision),
            Event::RecordChanged(record) => self.record_changed(record),
            Event::Command { command, what } => self.command(command, what),
            Event::Reconfigured { on_peer_loss, timing } => self.reconfigure(on_peer_loss, timing),
        }
    }

    fn reconfigure(&mut self, on_peer_loss: OnPeerLoss, timing: Timing) {
        assert!(timing.lease_margin < timing.lease, "a leader can count on a part of a lease");
        let config = &mut self.base.config;
        config.timing = timing;
        // Of two, none is promoted without the other. Of more, a majority that has changed its mind could promote one while
        // a leader that has not goes on alone.
        if config.names.len() <= OnPeerLoss::RECONFIGURED_MAX {
            config.on_peer_loss = on_peer_loss;
        }
        if let Role::Primary(primary) = &mut self.role {
            primary.reconfigured(&self.base);
        }
    }

    fn decided(&mut self, epoch: Epoch, decision: Decision) {
        let Some(proposal) = self.base.decided(epoch, &decision) else { return };
        match &mut self.role {
            Role::Primary(primary) => primary.decided(proposal, decision, &mut self.base),
            Role::Secondary(_) => {
                let outcome = self.candidate.as_mut().map(|candidate| candidate.decided(proposal, decision));
                self.conclude(outcome);
                if self.candidate.is_none() && matches!(self.role, Role::Secondary(_)) {
                    // It may have been taken for one that has given up.
                    self.resume_at.get_or_insert(self.base.now);
                }
            }
        }
    }

    fn record_changed(&mut self, record: Record) {
        self.base.note_external(record);
        match &mut self.role {
            Role::Primary(primary) => primary.record_changed(&record, &self.base),
            // We were made the leader, or a proposal was taken whose answer was lost.
            Role::Secondary(_) if record.leader == Some(self.base.own()) => {
                self.resume_at = Some(self.base.now)
            }
            Role::Secondary(_) => {}
        }
    }

    fn submit(&mut self, request: RequestId, operation: Operation, data: Option<DataId>) {
        if !is_within(operation, self.base.geometry()) {
            self.base.release(data);
            return self.base.complete(request, Err(Fault::OutOfRange));
        }
        match &mut self.role {
            Role::Primary(primary) => {
                let id = self.base.next_forward();
                let origin = own_origin(&self.base, id);
                primary.submit(Source::Local { request, id }, Some(origin), operation, data, &mut self.base);
            }
            Role::Secondary(_) => self.forward.submit(request, operation, data, &mut self.base),
        }
    }

    fn command(&mut self, command: CommandId, what: Command) {
        let base = &mut self.base;
        let failed =
            base.journal.failed.or(base.disk_failed.filter(|_| what == Command::Promote { force: false }));
        if let Some(fault) = failed {
            return base.answer(command, Err(Refusal::Disk(fault)));
        }
        match (what, &mut self.role) {
            (Command::Promote { .. }, Role::Primary(_)) => base.answer(command, Err(Refusal::AlreadyLeads)),
            (Command::Promote { force }, Role::Secondary(secondary)) => {
                if self.candidate.as_ref().is_some_and(|candidate| candidate.is_commanded() || !force) {
                    return base.answer(command, Err(Refusal::Busy));
                }
                if let Some(Refusal::LeaderAlive(leader)) = secondary.refusal_to_promise(force, base) {
                    return base.answer(command, Err(Refusal::LeaderAlive(leader)));
                }
                secondary.unfollow(base);
                self.candidate = Some(Candidate::commanded(command, force, base));
            }
            (Command::Demote, Role::Primary(primary)) => primary.demote(command, base),
            (Command::HandOver, Role::Primary(primary)) => primary.hand_over(command, base),
            (Command::Verify { repair }, Role::Primary(primary)) => primary.verify(command, repair, base),
            (Command::Demote | Command::HandOver | Command::Verify { .. }, Role::Secondary(_)) => {
                base.answer(command, Err(Refusal::NotLeader));
            }
            // Where another copy is disputed, that one is there to take over; without it, this one may be the only one.
            (Command::Discard, Role::Primary(primary))
                if primary.role_state() == RoleState::Leads && !base.is_disputed() =>
            {
                base.answer(command, Err(Refusal::Leads));
            }
            (Command::Discard, _) => self.discard(command),
        }
    }

    /// A volume that nobody has led yet: if every copy is there and empty, its first replica leads.
    fn begins_by_itself(&self) -> bool {
        let base = &self.base;
        let is_blank = |peer| base.hello(peer).is_some_and(|hello| hello.blank && hello.record.is_none());
        base.own().index() == 0
            && base.config.coordination == Coordination::Static
            && base.config.blank
            && base.journal.superblock().joined_volume().is_none()
            && self.resume_at.is_none()
            && base.peers().iter().all(is_blank)
    }

    /// This copy yields: it is as new, and will be overwritten by whoever leads. Its own attempts to lead end; they may
    /// be in vain for ever.
    fn discard(&mut self, command: CommandId) {
        if self.candidate.as_ref().is_some_and(Candidate::is_commanded) {
            return self.base.answer(command, Err(Refusal::Busy));
        }
        self.candidate = None;
        if let Role::Primary(primary) = &mut self.role {
            primary.stop(End::Follow);
            self.end_term();
        }
        if let Role::Secondary(secondary) = &mut self.role {
            secondary.unfollow(&mut self.base);
        }
        self.base.config.blank = false;
        let version = self.base.journal.edit(|superblock| {
            superblock.volume = None;
            superblock.record = None;
            superblock.in_force = false;
            superblock.history = History::default();
            superblock.full = ReplicaSet::EMPTY;
            superblock.joined = ReplicaSet::EMPTY;
            superblock.mixed = false;
        });
        self.base.witness.is_member(Epoch(0), false, false);
        self.discarding.push((command, version));
        // Also to one whose own greeting is still on its way: ours of before is, too.
        for peer in self.base.peers().iter() {
            if let Some(link) = self.base.link_mut(peer) {
                link.diverged = None;
            }
            let hello = self.base.hello_message(false);
            self.base.send(peer, hello);
        }
        // It may have been given up before: then nothing is written.
        self.answer_discards();
    }

    fn answer_discards(&mut self) {
        for (command, version) in std::mem::take(&mut self.discarding) {
            match self.base.journal.failed {
                Some(fault) => self.base.answer(command, Err(Refusal::Disk(fault))),
                None if self.base.journal.is_durable(version) => self.base.answer(command, Ok(())),
                None => self.discarding.push((command, version)),
            }
        }
    }

    fn tick(&mut self) {
        match &mut self.role {
            Role::Primary(primary) => primary.tick(&mut self.base),
            Role::Secondary(secondary) => {
                secondary.tick(&mut self.base);
                if let Some(leader) = secondary.silent_leader(&self.base)
                    && let Some(session) = self.base.session(leader)
                {
                    let milliseconds = self.base.config.timing.patience() / 1_000_000;
                    self.base.hang_up(leader, DisconnectReason::Silent(milliseconds));
                    self.unlinked(leader, session);
                }
                if self.candidate.is_none() && self.resume_at.is_some_and(|at| at <= self.base.now) {
                    self.resume_at = None;
                    self.resume();
                }
                self.forward.tick(&mut self.base);
            }
        }
    }

    /// The record says that we lead: begin a term, if nobody else has.
    fn resume(&mut self) {
        let Role::Secondary(secondary) = &mut self.role else { return };
        let is_ours =
            |record: &Record| record.leader == Some(self.base.own()) || self.base.knows_nothing_of(record);
        let Some(record) = self.base.record().filter(is_ours).or(self.base.named_by()) else { return };
        let adopted = self.base.journal.superblock().record.map_or(Epoch(0), |record| record.epoch);
        if secondary.following(&self.base).is_some() {
            if adopted >= record.epoch {
                return;
            }
            // The coordinator knows better than whom we follow.
            secondary.unfollow(&mut self.base);
        }
        self.candidate = Some(Candidate::resumed(&mut self.base));
    }

    /// Does all that follows from an event.
    fn settle(&mut self) {
        if self.base.journal.failed.is_some() {
            return self.give_up();
        }
        loop {
            match &mut self.role {
                Role::Primary(primary) => {
                    primary.advance(&mut self.base);
                    if primary.end().is_none() {
                        return;
                    }
                    self.end_term();
                }
                Role::Secondary(secondary) => {
                    secondary.advance(&mut self.base);
                    self.follow_up();
                    let outcome = self.candidate.as_mut().map(|candidate| candidate.advance(&mut self.base));
                    if !self.conclude(outcome) {
                        return;
                    }
                }
            }
        }
    }

    /// What a follower's state means for its clients, and for itself if it was named as the next leader.
    fn follow_up(&mut self) {
        let Role::Secondary(secondary) = &mut self.role else { return };
        if secondary.take_named() && self.candidate.is_none() {
            secondary.unfollow(&mut self.base);
            self.candidate = Some(Candidate::resumed(&mut self.base));
            return;
        }
        if self.candidate.is_none() && self.begins_by_itself() {
            self.candidate = Some(Candidate::first(&mut self.base));
        }
        let Role::Secondary(secondary) = &mut self.role else { return };
        let leader = secondary.following(&self.base).map(|following| (following.leader, following.session));
        // Not the coordinator's: what the leader that we follow has told us.
        let epoch = self.base.journal.superblock().record.map_or(Epoch(0), |record| record.epoch);
        if leader.is_some()
            && let Some(command) = self.candidate.take().and_then(Candidate::cancel)
        {
            self.base.answer(command, Err(Refusal::OldEpoch(epoch)));
        }
        self.forward.pump(leader, epoch, &mut self.base);
    }

    /// Whether a candidacy has led to a change of role.
    fn conclude(&mut self, outcome: Option<Outcome>) -> bool {
        match outcome {
            None | Some(Outcome::Pending) => false,
            Some(Outcome::Over(command, reason)) => {
                let resumes = command.is_none();
                if let Some(command) = command {
                    self.base.answer(command, Err(reason));
                }
                self.candidate = None;
                if resumes {
                    // Not all at the same moment.
                    let turn = 1 + self.base.own().index() as u64;
                    self.resume_at = Some(self.base.now.after(turn * self.base.config.timing.ping));
                }
                false
            }
            Some(Outcome::Begin(beginning)) => {
                self.candidate = None;
                self.begin_term(*beginning);
                true
            }
        }
    }

    fn begin_term(&mut self, beginning: Beginning) {
        let epoch = beginning.record.epoch;
        self.resume_at = None;
        let mut primary = Primary::begin(beginning, &mut self.base);
        self.base.witness.begins(epoch);
        for (id, pending) in self.forward.take_all() {
            let source = Source::Local { request: pending.request, id };
            let origin = own_origin(&self.base, id);
            let request = (pending.operation, pending.data);
            match pending.sent_before {
                Some(epoch) => primary.repeated(source, origin, epoch, request, &mut self.base),
                None => primary.submit(source, Some(origin), request.0, request.1, &mut self.base),
            }
        }
        let secondary = std::mem::replace(&mut self.role, Role::Primary(Box::new(primary)));
        if let Role::Secondary(secondary) = secondary {
            secondary.dissolve(&mut self.base);
        }
    }

    fn end_term(&mut self) {
        let secondary = Role::Secondary(Box::new(Secondary::new(&mut self.base)));
        let Role::Primary(primary) = std::mem::replace(&mut self.role, secondary) else { return };
        let (end, returned) = primary.dissolve(&mut self.base);
        self.base.journal.inherit();
        self.forward.take_back(returned, self.base.now);
        match end {
            End::Aborted => self.resume_at = Some(self.base.now.after(self.base.config.timing.ping)),
            End::Resign => self.resume_at = Some(self.base.now),
            End::Follow => {}
        }
        let hello = self.base.hello_message(false);
        for peer in self.base.peers().iter() {
            self.base.send(peer, hello.clone());
        }
    }

    /// Metadata cannot be written: nothing can be promised, so nothing is said any more.
    fn give_up(&mut self) {
        if self.base.disk_failed.is_none() {
            self.base.disk_failed = self.base.journal.failed;
        }
        for peer in self.base.peers().iter() {
            if let Some(fault) = self.base.journal.failed {
                self.base.hang_up(peer, DisconnectReason::Disk(fault));
            }
        }
        if matches!(self.role, Role::Primary(_)) {
            self.end_term();
        }
        self.resume_at = None;
        if let (Some(command), Some(fault)) =
            (self.candidate.take().and_then(Candidate::cancel), self.base.journal.failed)
        {
            self.base.answer(command, Err(Refusal::Disk(fault)));
        }
    }

    /// Asks for the next tick. What is overdue waits for another event, or it would be in no list.
    fn wake(&mut self) {
        let role = match &self.role {
            Role::Primary(primary) => Some(primary.wake_at(&self.base)),
            Role::Secondary(secondary) => {
                let forward = self.forward.wake_at(&self.base);
                [secondary.wake_at(&self.base), forward].into_iter().flatten().min()
            }
        };
        let candidate = self.candidate.as_ref().and_then(Candidate::wake_at);
        let idle = self.candidate.is_none() && matches!(self.role, Role::Secondary(_));
        let resume = self.resume_at.filter(|_| idle);
        let due = [role, candidate, resume].into_iter().flatten().min();
        let Some(at) = due.map(|at| at.max(self.base.now.after(1))) else { return };
        if self.woken_for.is_none_or(|earlier| at < earlier) {
            self.woken_for = Some(at);
            self.base.out.push(Effect::WakeAt(at));
        }
    }

    /// What must hold between events.
    fn check(&self) {
        if let Role::Primary(_) = &self.role {
            assert!(self.candidate.is_none(), "a leader is no candidate");
        }
        let superblock = self.base.journal.superblock();
        if let Some(record) = &superblock.record {
            assert!(record.epoch <= superblock.promised, "what is adopted is promised");
            assert!(!record.in_sync.is_empty(), "somebody holds what was acknowledged");
        }
    }
}

fn own_origin(base: &Base, id: crate::id::ForwardId) -> Origin {
    Origin {
        replica: base.own(),
        incarnation: base.config.incarnation,
        id,
        answered_below: crate::id::ForwardId(0),
    }
}

fn is_within(operation: Operation, geometry: Geometry) -> bool {
    let fits = |range: ByteRange| {
        let bytes_max = crate::config::Limits::OPERATION_BYTES_MAX;
        let end = range.start.checked_add(range.bytes);
        range.bytes > 0 && range.bytes <= bytes_max && end.is_some_and(|end| end <= geometry.size_bytes)
    };
    match operation {
        Operation::Flush => true,
        Operation::Read { range } | Operation::Write { range, .. } => fits(range),
    }
}

fn new_superblock(config: &ReplicaConfig) -> Superblock {
    Superblock {
        node: config.node,
        replica: config.own,
        volume: None,
        era: 0,
        size_bytes: config.geometry.size_bytes,
        region_bytes: config.geometry.region_bytes,
        promised: Epoch(0),
        record: None,
        in_force: false,
        history: History::default(),
        full: ReplicaSet::EMPTY,
        joined: ReplicaSet::EMPTY,
        mixed: false,
    }
}

fn check_stored(config: &ReplicaConfig, stored: &Superblock) -> Result<(), OpenError> {
    let geometry = config.geometry;
    if stored.node != config.node {
        return Err(OpenError::ForeignNode);
    }
    if stored.replica != config.own {
        return Err(OpenError::OtherReplica { stored: stored.replica, configured: config.own });
    }
    if stored.size_bytes != geometry.size_bytes {
        return Err(OpenError::OtherSize { stored: stored.size_bytes, configured: geometry.size_bytes });
    }
    if stored.region_bytes != geometry.region_bytes {
        return Err(OpenError::OtherRegions {
            stored: stored.region_bytes,
            configured: geometry.region_bytes,
        });
    }
    Ok(())
}
