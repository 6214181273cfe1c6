//! The leader's machine of one volume.
//!
//! ```text
//! request ─▶ gate (mended, serving) ─▶ order (rule 5) ─▶ room, mark, lease ─▶ running ─▶ on all that must have it
//! members: see `members`     flush: see `rounds`     resync and verify: see `resync`, `verify`
//! ```
//! Its one rule: only `finish_write` can say that a write is done, and it asks `must_hold`.

mod job;
mod members;
mod peer;
mod resync;
mod rounds;
mod step_down;
mod verify;

pub(crate) use job::Source;
pub(crate) use members::Beginning;

use std::collections::{BTreeMap, VecDeque};

use self::job::{Job, Kind, Stage};
use self::members::Members;
use self::peer::{Peer, Phase};
use self::rounds::Rounds;
use self::step_down::StepDown;
use self::verify::Verify;
use crate::base::Base;
use crate::config::Sabotage;
use crate::event::{Change, LocalResult, Operation};
use crate::fault::{DiskFault, Fault};
use crate::history::History;
use crate::id::{DataId, Epoch, ForwardId, ReplicaId, ReplicaSet, RequestId, Seq, Time};
use crate::lease::Lease;
use crate::message::{Message, Origin};
use crate::order::Order;
use crate::region::ByteRange;
use crate::status::{PeerState, RoleState};

/// How the leading ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody else leads or may lead; or an operator has demoted us.
    Follow,
    /// The term could not begin.
    Aborted,
}

/// A request that the leader gives back unserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) request: RequestId,
    pub(crate) id: ForwardId,
    pub(crate) operation: Operation,
    pub(crate) data: Option<DataId>,
    /// A write that was under way: in which epoch.
    pub(crate) sent_before: Option<Epoch>,
}

#[derive(Debug)]
pub(crate) struct Primary {
    members: Members,
    /// Peers that have told where their copies may differ since earlier terms.
    reported: ReplicaSet,
    peers: Vec<Option<Peer>>,
    jobs: BTreeMap<Seq, Job>,
    order: Order,
    next_seq: u64,
    /// Jobs that have their range since just now.
    ready: Vec<Seq>,
    /// Jobs that may not ask for their range yet, in order.
    gated: VecDeque<Seq>,
    /// Jobs that have their range and wait for something else, in order.
    stalled: VecDeque<Seq>,
    /// Something has changed that gated or stalled jobs may wait for.
    retry: bool,
    rounds: Rounds,
    lease: Lease,
    /// Clients' jobs, for the limit.
    clients: usize,
    client_at: Time,
    next_ping: Time,
    pings: u64,
    /// Members may still differ since an earlier term.
    mending: bool,
    step_down: Option<StepDown>,
    verify: Option<Verify>,
    /// Answers to forwarded requests, until their origin has them.
    answered: BTreeMap<(ReplicaId, u64, u64), Result<(), Fault>>,
    end: Option<End>,
}

impl Primary {
    pub(crate) fn begin(beginning: Beginning, base: &mut Base) -> Primary {
        base.new_generation();
        base.journal.inherit();
        let mut primary = Primary {
            members: Members::new(&beginning),
            reported: ReplicaSet::EMPTY,
            peers: (0..base.config.names.len()).map(|_| None).collect(),
            jobs: BTreeMap::new(),
            order: Order::default(),
            next_seq: 0,
            ready: Vec::new(),
            gated: VecDeque::new(),
            stalled: VecDeque::new(),
            retry: false,
            rounds: Rounds::default(),
            lease: Lease::new(base.config.names.len()),
            clients: 0,
            client_at: base.now,
            next_ping: base.now,
            pings: 0,
            mending: true,
            step_down: None,
            verify: None,
            answered: BTreeMap::new(),
            end: None,
        };
        primary.begin_members(beginning, base);
        primary
    }

    /// Whether, and how, it has ended. Then `dissolve` it.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether requests are served: its term is in force, and it is not giving up the lead.
    pub(crate) fn serves(&self) -> bool {
        self.members.in_force().is_some() && self.step_down.is_none()
    }

    /// Ends it: somebody else is to lead.
    pub(crate) fn stop(&mut self, end: End) {
        self.end = Some(end);
    }

    /// The latest epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.members.record().epoch
    }

    /// Whether an answer is to something of this term.
    pub(crate) fn is_of_term(&self, epoch: Epoch) -> bool {
        epoch >= self.members.term()
    }

    /// What our copy holds.
    pub(crate) fn history(&self) -> History {
        self.members.history()
    }

    /// Requests that are not answered.
    pub(crate) fn requests(&self) -> usize {
        self.clients
    }

    pub(crate) fn role_state(&self) -> RoleState {
        match (self.members.begins(), &self.step_down) {
            (true, _) => RoleState::Begins,
            (false, Some(_)) => RoleState::StepsDown,
            (false, None) if self.members.is_suspended() => RoleState::Suspended,
            (false, None) => RoleState::Leads,
        }
    }

    pub(crate) fn peer_state(&self, peer: ReplicaId) -> Option<PeerState> {
        let state = self.peers[peer.index()].as_ref()?;
        Some(match state.phase {
            Phase::Preparing(_) | Phase::Adopting => PeerState::Connected,
            Phase::Resyncing | Phase::Settling(_) => PeerState::Resyncing,
            Phase::Member => PeerState::InSync,
        })
    }

    /// Bytes resynced to a peer, and bytes of writes on their way to it.
    pub(crate) fn progress(&self, peer: ReplicaId) -> (u64, u64) {
        let state = self.peers[peer.index()].as_ref();
        state.map_or((0, 0), |state| (state.resynced_bytes, state.bytes_in_flight))
    }

    /// Replicas that must have a write before it is done.
    #[inline]
    fn must_hold(&self, _base: &Base) -> ReplicaSet {
        let mut set = self.members.must_hold();
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| matches!(peer.phase, Phase::Settling(_))) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// Replicas that receive writes now.
    #[inline]
    fn holders(&self, base: &Base) -> ReplicaSet {
        let mut set = ReplicaSet::only(base.own());
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| peer.receives_writes()) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// A client's request, ours or forwarded.
    pub(crate) fn submit(
        &mut self,
        source: Source,
        origin: Option<Origin>,
        operation: Operation,
        data: Option<DataId>,
        base: &mut Base,
    ) {
        self.client_at = base.now;
        if self.clients >= base.config.limits.requests_max {
            base.release(data);
            return self.reply(source, Err(Fault::Busy), None, base);
        }
        self.clients += 1;
        let (range, kind) = match operation {
            Operation::Flush => return self.rounds.want(source, &mut self.retry),
            Operation::Read { range } => (range, Kind::Read { source }),
            Operation::Write { range, change, durable } => {
                (range, Kind::Write { source, change, durable, data, origin })
            }
        };
        self.add_job(range, kind, base);
    }

    fn add_job(&mut self, range: ByteRange, kind: Kind, base: &mut Base) -> Seq {
        self.next_seq += 1;
        let seq = Seq(self.next_seq);
        self.jobs.insert(seq, Job::new(range, kind, base.now));
        if self.is_gated(seq, base) {
            self.gated.push_back(seq);
        } else {
            self.want_range(seq, base);
        }
        seq
    }

    /// Clients' jobs wait until the term is in force and, where members may differ, until they no longer do.
    fn is_gated(&self, seq: Seq, base: &Base) -> bool {
        let job = &self.jobs[&seq];
        if !job.is_client() {
            return false;
        }
        !self.serves() || self.mending && self.differs(job.range, base)
    }

    /// Whether a member may differ from us there since an earlier term.
    fn differs(&self, range: ByteRange, base: &Base) -> bool {
        self.members_linked()
            .iter()
            .any(|peer| base.journal.lack(peer).dirty().touches(&base.geometry(), range))
    }

    fn want_range(&mut self, seq: Seq, base: &mut Base) {
        let job = self.jobs.get_mut(&seq).expect("a job that wants its range is there");
        job.stage = Stage::Ordered;
        let skips = match job.kind {
            Kind::Write { .. } => base.sabotaged(Sabotage::SkipRangeOrder),
            Kind::Read { .. } => base.sabotaged(Sabotage::ReadUnfinishedWrite),
            _ => false,
        };
        if skips || self.order.add(seq, job.range, job.is_shared()) {
            self.try_start(seq, base);
        }
    }

    /// Starts a job that has its range, unless something else is missing.
    fn try_start(&mut self, seq: Seq, base: &mut Base) {
        let Some(job) = self.jobs.get(&seq) else { return };
        let started = match job.kind {
            Kind::Write { .. } => self.start_write(seq, base),
            Kind::Read { .. } => self.start_read(seq, base),
            Kind::Resync { to, .. } => self.start_resync(seq, to, base),
            Kind::Compare => self.start_compare(seq, base),
            Kind::Confirm { .. } => self.confirm(seq, base),
        };
        if !started {
            self.jobs.get_mut(&seq).expect("a job that did not start is there").stage = Stage::Stalled;
            self.stalled.push_back(seq);
        }
    }

    /// All members have the bytes: the range was let through the gate.
    fn confirm(&mut self, seq: Seq, base: &mut Base) -> bool {
        let job = self.end_job(seq, base);
        let Kind::Confirm { source, durable, data, .. } = job.kind else { unreachable!("a confirmation") };
        base.release(data);
        if durable {
            self.rounds.want(source, &mut self.retry);
        } else {
            self.clients -= 1;
            self.reply(source, Ok(()), None, base);
        }
        true
    }

    fn start_read(&mut self, seq: Seq, base: &mut Base) -> bool {
        if !self.may_read(base) {
            return false;
        }
        let job = self.jobs.get_mut(&seq).expect("a job that starts is there");
        job.stage = Stage::Running;
        let request = match job.kind {
            Kind::Read { source: Source::Local { request, .. } } => Some(request),
            _ => None,
        };
        base.read_local(crate::base::Purpose::Job(seq), job.range, request);
        true
    }

    fn may_read(&self, base: &Base) -> bool {
        base.sabotaged(Sabotage::IgnoreLease)
            || self.members.in_force().is_some_and(|record| self.lease.may_read(record.in_sync, base))
    }

    /// Room at every peer, the mark on disk: then it goes out everywhere at once.
    fn start_write(&mut self, seq: Seq, base: &mut Base) -> bool {
        let holders = self.holders(base);
        let job = self.jobs.get_mut(&seq).expect("a job that starts is there");
        let Kind::Write { change, durable, data, origin, .. } = job.kind else { unreachable!("a write") };
        let range = job.range;
        let bytes = if change == Change::Data { range.bytes } else { 512 };
        let limits = base.config.limits;
        if self.peers.iter().flatten().any(|peer| !peer.has_room(bytes, limits.peer_bytes_max)) {
            return false;
        }
        if !base.sabotaged(Sabotage::DropActivityLog) && !self.rounds.mark(range, holders, base) {
            return false;
        }
        job.stage = Stage::Running;
        job.since = base.now;
        job.epoch = self.members.record().epoch;
        job.sent = holders;
        job.local_pending = true;
        if let Some(origin) = &origin {
            base.witness.note(origin);
        }
        base.journal.note_change(range, holders);
        self.rounds.local_started(seq);
        base.write_local(crate::base::Purpose::Job(seq), range, change, data, durable);
        let epoch = self.members.record().epoch;
        for to in holders.without(base.own()).iter() {
            self.peers[to.index()].as_mut().expect("a holder is linked").bytes_in_flight += bytes;
            base.send_data(to, Message::Write { epoch, seq, range, change, durable, origin }, data);
        }
        true
    }

    /// A local operation of a job has ended.
    pub(crate) fn job_done(&mut self, seq: Seq, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let Some(job) = self.jobs.get_mut(&seq) else {
            // A resync to a peer that is gone.
            return base.release(result.ok().and_then(LocalResult::data));
        };
        match (&mut job.kind, result) {
            (Kind::Write { .. }, result) => {
                job.local_pending = false;
                self.rounds.local_ended(seq, base);
                match result {
                    Ok(_) => job.acked = job.acked.with(base.own()),
                    Err(fault) => return self.own_disk_failed(Some(seq), fault, base),
                }
                self.finish_write(seq, base);
            }
            (Kind::Read { source }, Ok(LocalResult::Data(data))) => {
                let source = *source;
                self.end_job(seq, base);
                self.clients -= 1;
                self.reply(source, Ok(()), Some(data), base);
            }
            (Kind::Read { .. }, Err(fault)) => self.read_failed(seq, fault, base),
            (Kind::Resync { .. }, result) => self.resync_read(seq, result, base),
            (Kind::Compare, result) => self.own_checksum(seq, result, base),
            (kind, result) => unreachable!("{kind:?} does not end with {result:?}"),
        }
    }

    /// A peer has a write, or has failed it.
    pub(crate) fn written(
        &mut self,
        peer: ReplicaId,
        seq: Seq,
        result: Result<(), DiskFault>,
        base: &mut Base,
    ) {
        let Some(job) = self.jobs.get_mut(&seq).filter(|job| job.sent.contains(peer)) else { return };
        let Kind::Write { change, .. } = job.kind else { return };
        if job.acked.contains(peer) {
            return;
        }
        if let Err(fault) = result {
            return self.drop_peer(peer, crate::effect::DisconnectReason::Disk(fault), base);
        }
        job.acked = job.acked.with(peer);
        let bytes = if change == Change::Data { job.range.bytes } else { 512 };
        if let Some(peer) = &mut self.peers[peer.index()] {
            peer.bytes_in_flight = peer.bytes_in_flight.saturating_sub(bytes);
        }
        self.retry |= !self.stalled.is_empty();
        self.finish_write(seq, base);
    }

    /// Answers a write if it is on every replica that must have it (rule 1). Nobody else answers one with success.
    fn finish_write(&mut self, seq: Seq, base: &mut Base) {
        let job = &self.jobs[&seq];
        let own = ReplicaSet::only(base.own());
        let early = base.sabotaged(Sabotage::AcknowledgeBeforePeer) && job.acked.covers(own);
        let Kind::Write { source, data, .. } = job.kind else { return };
        if !early && (!self.is_settled(job) || !job.acked.covers(self.must_hold(base))) {
            return;
        }
        if !job.acked.covers(job.sent.minus(self.gone(base))) && !early {
            // A joiner's copy is on its way: the range stays taken, so that nothing overtakes it there.
            let job = self.jobs.get_mut(&seq).expect("it was there above");
            if !std::mem::replace(&mut job.answered, true) {
                self.clients -= 1;
                self.reply(source, Ok(()), None, base);
            }
            return;
        }
        let was_answered = job.answered;
        self.end_job(seq, base);
        base.release(data);
        if !was_answered {
            self.clients -= 1;
            self.reply(source, Ok(()), None, base);
        }
    }

    /// Whether its local part has ended, so that a later write to the same bytes cannot be overtaken by it here.
    fn is_settled(&self, job: &Job) -> bool {
        job.stage == Stage::Running && !job.local_pending
    }

    /// Replicas that no longer take part, so that nothing of theirs is waited for.
    fn gone(&self, base: &Base) -> ReplicaSet {
        base.peers()
            .iter()
            .filter(|peer| self.peers[peer.index()].is_none())
            .fold(ReplicaSet::EMPTY, ReplicaSet::with)
    }

    /// Looks at every running write anew: who must have them has changed.
    fn finish_writes(&mut self, base: &mut Base) {
        let running: Vec<Seq> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.stage == Stage::Running && matches!(job.kind, Kind::Write { .. }))
            .map(|(&seq, _)| seq)
            .collect();
        for seq in running {
            if self.jobs.contains_key(&seq) {
                self.finish_write(seq, base);
            }
        }
    }

    /// A job is over: its range is free.
    fn end_job(&mut self, seq: Seq, _base: &mut Base) -> Job {
        let job = self.jobs.remove(&seq).expect("a job ends once");
        self.order.remove(seq, &mut self.ready);
        job
    }

    /// Tells a client how it went.
    fn reply(&mut self, source: Source, result: Result<(), Fault>, data: Option<DataId>, base: &mut Base) {
        match source {
            Source::Local { request, .. } => base.complete(request, result.map(|()| data)),
            Source::Forwarded { peer, incarnation, id } => {
                self.answered.insert((peer, incarnation.0, id.0), result);
                base.send_data(peer, Message::Forwarded { id, result }, data);
                base.release(data);
            }
        }
    }

    /// After each event: whatever can go on, goes on.
    pub(crate) fn advance(&mut self, base: &mut Base) {
        loop {
            while let Some(seq) = self.ready.pop() {
                self.try_start(seq, base);
            }
            self.advance_members(base);
            self.advance_rounds(base);
            self.advance_resync(base);
            self.advance_step_down(base);
            self.advance_verify(base);
            if self.end.is_some() {
                return;
            }
            if std::mem::take(&mut self.retry) {
                self.retry_waiting(base);
            }
            if self.ready.is_empty() && !self.retry {
                return;
            }
        }
    }

    fn retry_waiting(&mut self, base: &mut Base) {
        for seq in std::mem::take(&mut self.stalled) {
            self.try_start(seq, base);
        }
        for seq in std::mem::take(&mut self.gated) {
            if self.is_gated(seq, base) {
                self.gated.push_back(seq);
            } else {
                self.want_range(seq, base);
            }
        }
    }

    /// The journal has got further on disk.
    pub(crate) fn journal_advanced(&mut self) {
        self.retry |= !self.stalled.is_empty();
    }

    /// The earliest time at which something is due.
    pub(crate) fn wake_at(&self, base: &Base) -> Time {
        let running =
            self.jobs.values().find(|job| job.stage == Stage::Running && job.awaits_peer(base.own()));
        let due = running.map(|job| job.since.after(base.config.timing.peer_timeout));
        due.map_or(self.next_ping, |due| due.min(self.next_ping))
    }
}
