//! What every role of a replica works with: configuration, journal, links, local operations, effects.
//!
//! Its one rule: a local operation that an earlier role started comes back to nobody, but is waited for before the
//! copy is given to another leader.

use crate::config::{OnPeerLoss, ReplicaConfig, Sabotage};
use crate::coordinator::{Coordination, Decision, Record};
use crate::effect::{DisconnectReason, Effect, Notice};
use crate::event::{Change, LocalResult};
use crate::fault::{DiskFault, Fault, Refusal};
use crate::history::History;
use crate::id::{
    CommandId, DataId, Epoch, FlushId, ForwardId, Incarnation, OpId, ReplicaId, ReplicaSet, RequestId, Seq,
    Session, Time,
};
use crate::journal::Journal;
use crate::lease::Grant;
use crate::message::{Hello, Message};
use crate::numbered::Numbered;
use crate::region::{ByteRange, Geometry};
use crate::witness::Witness;

/// What a local operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A job of the leader's: its write, read, resync's read, checksum.
    Job(Seq),
    /// A flush of the leader's.
    LeaderFlush(FlushId),
    /// A follower's write, flush or checksum, by its arrival.
    Arrival(u64),
}

#[derive(Clone, Copy, Debug)]
struct Local {
    purpose: Purpose,
    generation: u64,
    changes: bool,
}

/// One peer's link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) session: Session,
    /// What it has said of itself last.
    pub(crate) hello: Option<Hello>,
    /// When anything came last.
    pub(crate) heard: Time,
    /// Its history, if it and ours have diverged.
    pub(crate) diverged: Option<History>,
}

#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) config: ReplicaConfig,
    pub(crate) journal: Journal,
    pub(crate) links: Vec<Option<Link>>,
    pub(crate) now: Time,
    pub(crate) out: Vec<Effect>,
    next_op: u64,
    locals: Numbered<OpId, Local>,
    /// Local changes under way, of this and earlier roles.
    changing: usize,
    /// Grows with every change of role.
    generation: u64,
    /// The lease to somebody who leads.
    pub(crate) granted: Grant,
    pub(crate) disk_failed: Option<DiskFault>,
    /// Why a peer was last refused, by its number.
    pub(crate) refusals: Vec<Option<Refusal>>,
    pub(crate) last_fault: Option<Fault>,
    pub(crate) witness: Witness,
    last_forward: ForwardId,
    /// Proposals so far, and the record of the last one while its answer is owed.
    proposals: u64,
    proposed: Option<Record>,
    /// The external coordinator's record, as last heard.
    pub(crate) external: Option<Record>,
    /// The latest record of our line of history that anybody has told of in this run.
    pub(crate) heard: Option<Record>,
}

impl Base {
    pub(crate) fn new(config: ReplicaConfig, journal: Journal, now: Time) -> Base {
        let replicas = config.names.len();
        // Before its crash it may have granted one.
        let granted = Grant::new(now, &config.timing);
        Base {
            config,
            journal,
            links: (0..replicas).map(|_| None).collect(),
            now,
            out: Vec::new(),
            next_op: 0,
            locals: Numbered::default(),
            changing: 0,
            generation: 0,
            granted,
            disk_failed: None,
            refusals: vec![None; replicas],
            last_fault: None,
            witness: Witness::default(),
            last_forward: ForwardId(0),
            proposals: 0,
            proposed: None,
            external: None,
            heard: None,
        }
    }

    /// From now on a lease is out.
    pub(crate) fn grant(&mut self) {
        self.granted = Grant::new(self.now, &self.config.timing);
    }

    /// A step begins. A clock that shows an earlier time has stood still, as far as we are concerned.
    #[inline]
    pub(crate) fn time_passes(&mut self, now: Time) {
        let last = self.now;
        self.now = now.max(last);
        if !self.sabotaged(Sabotage::BelieveLeapingClock) {
            self.granted.pass(last, self.now, &self.config.timing);
        }
    }

    #[inline]
    pub(crate) fn own(&self) -> ReplicaId {
        self.config.own
    }

    pub(crate) fn next_forward(&mut self) -> ForwardId {
        self.last_forward.0 += 1;
        self.last_forward
    }

    /// The latest record known, from the coordinator or from our superblock.
    pub(crate) fn record(&self) -> Option<Record> {
        let own = self.journal.superblock().record;
        match (self.external, own) {
            (Some(external), Some(own)) if own.epoch > external.epoch => Some(own),
            (Some(external), _) => Some(external),
            (None, own) => own,
        }
    }

    /// The coordinator's record is known to be this, or a later one.
    pub(crate) fn note_external(&mut self, record: Record) {
        if self.external.is_none_or(|known| record.epoch > known.epoch) {
            self.external = Some(record);
        }
    }

    /// A peer has told of a record.
    pub(crate) fn note_heard(&mut self, record: Option<Record>) {
        if record.map(|record| record.rank()) > self.heard.map(|heard| heard.rank()) {
            self.heard = record;
        }
    }

    /// A linked peer that leads by a later record than ours.
    pub(crate) fn later_leader(&self) -> Option<ReplicaId> {
        let own = self.journal.superblock().record.map(|record| record.rank());
        let leads = |&peer: &ReplicaId| {
            self.hello(peer)
                .is_some_and(|hello| hello.leads && hello.record.map(|record| record.rank()) > own)
        };
        self.peers().iter().find(leads)
    }

    /// Whether the leader that a record of ours names is linked and has not heard of it: it was lost while the lead was
    /// being handed over.
    pub(crate) fn knows_nothing_of(&self, record: &Record) -> bool {
        let adopted =
            self.journal.superblock().record == Some(*record) && record.in_sync.contains(self.own());
        let hello = record.leader.and_then(|leader| self.hello(leader));
        let is_older = |hello: &Hello| hello.record.is_none_or(|its| its.rank() < record.rank());
        adopted && hello.is_some_and(|hello| !hello.leads && is_older(hello))
    }

    /// A record of somebody's that makes us the leader and has not reached us: whoever made it was lost just then.
    pub(crate) fn named_by(&self) -> Option<Record> {
        let own = self.journal.superblock().record?;
        let is_static = self.config.coordination == Coordination::Static;
        let names_us = |record: &Record| record.leader == Some(self.own()) && record.rank() > own.rank();
        self.heard.filter(|record| is_static && names_us(record))
    }

    /// Whether a majority of the replicas decides, so that a term is only as good as the promises that it began with.
    pub(crate) fn by_majority(&self) -> bool {
        self.config.coordination == Coordination::Static && self.config.on_peer_loss == OnPeerLoss::Suspend
    }

    /// Proposes a record to the external coordinator, unless an answer is owed to whomever; the proposal's number.
    pub(crate) fn propose(&mut self, expected: Epoch, record: Record) -> Option<u64> {
        if self.proposed.is_some() {
            return None;
        }
        self.proposals += 1;
        self.proposed = Some(record);
        self.out.push(Effect::Propose { expected, record });
        Some(self.proposals)
    }

    /// A proposal is answered: its number.
    pub(crate) fn decided(&mut self, epoch: Epoch, decision: &Decision) -> Option<u64> {
        let record = self.proposed.take_if(|record| record.epoch == epoch)?;
        match decision {
            Decision::Accepted => self.note_external(record),
            Decision::Superseded(other) => self.note_external(*other),
            Decision::Unavailable => {}
        }
        Some(self.proposals)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.config.geometry
    }

    #[inline]
    pub(crate) fn sabotaged(&self, bug: Sabotage) -> bool {
        self.config.sabotaged(bug)
    }

    pub(crate) fn peers(&self) -> ReplicaSet {
        self.config.all().without(self.own())
    }

    pub(crate) fn link(&self, peer: ReplicaId) -> Option<&Link> {
        self.links.get(peer.index())?.as_ref()
    }

    pub(crate) fn link_mut(&mut self, peer: ReplicaId) -> Option<&mut Link> {
        self.links.get_mut(peer.index())?.as_mut()
    }

    pub(crate) fn session(&self, peer: ReplicaId) -> Option<Session> {
        self.link(peer).map(|link| link.session)
    }

    pub(crate) fn hello(&self, peer: ReplicaId) -> Option<&Hello> {
        self.link(peer)?.hello.as_ref()
    }

    /// Whether a peer within reach has a copy that does not go with ours.
    pub(crate) fn is_disputed(&self) -> bool {
        let diverged = self.links.iter().flatten().any(|link| link.diverged.is_some());
        diverged || self.refusals.contains(&Some(Refusal::OtherVolume))
    }

    /// Peers that are linked and have said who they are.
    pub(crate) fn greeted(&self) -> ReplicaSet {
        self.peers()
            .iter()
            .filter(|&peer| self.hello(peer).is_some())
            .fold(ReplicaSet::EMPTY, ReplicaSet::with)
    }

    /// Begins another role: what the last one has started comes back to nobody.
    pub(crate) fn new_generation(&mut self) {
        self.generation += 1;
        self.journal.activity.none_awaited();
    }

    /// Grows with every change of role.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether no local change is under way, so that others' bytes may be put here safely.
    pub(crate) fn is_drained(&self) -> bool {
        self.changing == 0
    }

    fn start(&mut self, purpose: Purpose, changes: bool) -> OpId {
        self.next_op += 1;
        let op = OpId(self.next_op);
        self.changing += usize::from(changes);
        self.locals.insert(op, Local { purpose, generation: self.generation, changes });
        op
    }

    pub(crate) fn write_local(
        &mut self,
        purpose: Purpose,
        range: ByteRange,
        change: Change,
        data: Option<DataId>,
        durable: bool,
    ) {
        let op = self.start(purpose, true);
        self.out.push(Effect::WriteLocal { op, range, change, data, durable });
    }

    pub(crate) fn read_local(&mut self, purpose: Purpose, range: ByteRange, request: Option<RequestId>) {
        let op = self.start(purpose, false);
        self.out.push(Effect::ReadLocal { op, range, request });
    }

    pub(crate) fn flush_local(&mut self, purpose: Purpose) {
        let op = self.start(purpose, false);
        self.out.push(Effect::FlushLocal { op });
    }

    pub(crate) fn checksum_local(&mut self, purpose: Purpose, range: ByteRange) {
        let op = self.start(purpose, false);
        self.out.push(Effect::ChecksumLocal { op, range });
    }

    /// A local operation has ended: what it was for, if the role that wants to know is still there.
    pub(crate) fn local_done(
        &mut self,
        op: OpId,
        result: &Result<LocalResult, DiskFault>,
    ) -> Option<Purpose> {
        let local = self.locals.remove(&op).expect("a local operation ends once");
        self.changing -= usize::from(local.changes);
        if local.generation == self.generation {
            return Some(local.purpose);
        }
        match *result {
            Ok(LocalResult::Data(data)) => self.release(Some(data)),
            Err(_) if local.changes => self.witness.doubt(),
            _ => {}
        }
        None
    }

    pub(crate) fn pump_journal(&mut self) {
        self.journal.pump(&mut self.next_op, &mut self.out);
    }

    /// Sends, if there is a link.
    pub(crate) fn send(&mut self, to: ReplicaId, message: Message) {
        self.send_data(to, message, None);
    }

    pub(crate) fn send_data(&mut self, to: ReplicaId, message: Message, data: Option<DataId>) {
        if let Some(session) = self.session(to) {
            self.out.push(Effect::Send { to, session, message, data });
        }
    }

    /// Sends what concerns a request of one run of a peer: another run's requests have the same numbers.
    pub(crate) fn send_to_run(
        &mut self,
        to: ReplicaId,
        run: Incarnation,
        message: Message,
        data: Option<DataId>,
    ) {
        if self.hello(to).is_some_and(|hello| hello.incarnation == run) {
            self.send_data(to, message, data);
        }
    }

    pub(crate) fn release(&mut self, data: Option<DataId>) {
        if let Some(data) = data {
            self.out.push(Effect::Release { data });
        }
    }

    pub(crate) fn complete(&mut self, request: RequestId, result: Result<Option<DataId>, Fault>) {
        if let Err(fault) = result {
            self.last_fault = Some(fault);
        }
        self.out.push(Effect::Complete { request, result });
    }

    pub(crate) fn answer(&mut self, command: CommandId, result: Result<(), Refusal>) {
        self.out.push(Effect::Answer { command, result });
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.out.push(Effect::Notice(notice));
    }

    pub(crate) fn refuse(&mut self, to: ReplicaId, epoch: Epoch, reason: Refusal) {
        let superblock = self.journal.superblock();
        let (promised, record) = (superblock.promised, superblock.record);
        self.send(to, Message::Refused { epoch, promised, record, reason });
    }

    /// Ends a link, if there is one. The caller tells the role.
    pub(crate) fn hang_up(&mut self, peer: ReplicaId, reason: DisconnectReason) {
        if let Some(link) = self.links[peer.index()].take() {
            self.out.push(Effect::Disconnect { peer, session: link.session, reason });
        }
    }

    /// Who we are, to whom it concerns.
    pub(crate) fn hello_message(&self, leads: bool) -> Message {
        let superblock = self.journal.superblock();
        Message::Hello(Box::new(Hello {
            replica: self.own(),
            volume: superblock.joined_volume(),
            names: self.config.names.clone(),
            size_bytes: superblock.size_bytes,
            region_bytes: superblock.region_bytes,
            incarnation: self.config.incarnation,
            promised: superblock.promised,
            record: superblock.record,
            history: self.journal.history(),
            leads,
            blank: self.config.blank && superblock.joined_volume().is_none(),
            unbroken: self.witness.is_unbroken(),
            activity: self.journal.activity_report(),
        }))
    }
}
