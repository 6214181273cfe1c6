//! The leader's machine of one volume.
//!
//! ```text
//! request ─▶ gate (mended, serving) ─▶ order (rule 5) ─▶ room, mark, lease ─▶ running ─▶ on all that must have it
//! members: see `members`     flush: see `rounds`     resync and verify: see `resync`, `verify`
//! ```
//! Its one rule: only `finish_write` can say that a write is done, and it asks `must_hold`.

mod answers;
mod change;
mod checkpoint;
mod forwarded;
mod job;
mod members;
mod pace;
mod peer;
mod read;
mod resync;
mod rounds;
mod silence;
mod stalled;
mod step_down;
mod verify;
mod write;

pub(crate) use job::Source;
pub(crate) use members::Beginning;

use std::collections::{BTreeMap, VecDeque};

use self::answers::Answers;
use self::job::{Job, Kind, Stage};
use self::members::Members;
use self::peer::{Peer, Phase};
use self::rounds::Rounds;
use self::stalled::{Lacks, Stalled};
use self::step_down::StepDown;
use self::verify::Verify;
use crate::base::Base;
use crate::config::Sabotage;
use crate::event::{LocalResult, Operation};
use crate::fault::{DiskFault, Fault};
use crate::history::History;
use crate::id::{DataId, Epoch, ForwardId, ReplicaId, ReplicaSet, RequestId, Seq, Time};
use crate::lease::Lease;
use crate::message::{Message, Origin};
use crate::numbered::Numbered;
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
    /// Somebody has been promised more since, by a majority perhaps: the term has to begin anew.
    Resign,
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

#[derive(Clone, Debug)]
pub(crate) struct Primary {
    members: Members,
    /// Peers that have told where their copies may differ since earlier terms.
    reported: ReplicaSet,
    peers: Vec<Option<Peer>>,
    jobs: Numbered<Seq, Job>,
    order: Order,
    next_seq: u64,
    /// Jobs that have their range since just now.
    ready: Vec<Seq>,
    /// Jobs that may not ask for their range yet, in order.
    gated: VecDeque<Seq>,
    /// Jobs that have their range and wait for something else.
    stalled: Stalled,
    /// Something has changed that any job may wait for.
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
    answers: Answers,
    /// Our clients' writes that were sent to earlier leaders: in which epoch first.
    repeats: BTreeMap<ForwardId, Epoch>,
    /// Before that we may have been asleep: no silence counts.
    awake_since: Time,
    end: Option<End>,
}

impl Primary {
    pub(crate) fn begin(beginning: Beginning, base: &mut Base) -> Primary {
        base.new_generation();
        base.disk_failed = None;
        base.journal.inherit();
        let mut primary = Primary {
            members: Members::new(&beginning, base.journal.superblock().era),
            reported: ReplicaSet::EMPTY,
            peers: (0..base.config.names.len()).map(|_| None).collect(),
            jobs: Numbered::default(),
            order: Order::default(),
            next_seq: 0,
            ready: Vec::new(),
            gated: VecDeque::new(),
            stalled: Stalled::default(),
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
            answers: Answers::default(),
            repeats: BTreeMap::new(),
            awake_since: base.now,
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
            return self.turn_away(source, base);
        }
        self.clients += 1;
        let (range, kind) = match operation {
            Operation::Flush => {
                self.rounds.want(source);
                return;
            }
            Operation::Read { range } => (range, Kind::Read { source }),
            Operation::Write { range, change, durable } => {
                (range, Kind::Write { source, change, durable, data, origin })
            }
        };
        self.add_job(range, kind, base);
    }

    /// Too many at once: another node asks again in a moment, a client of ours is told.
    fn turn_away(&mut self, source: Source, base: &mut Base) {
        match source {
            Source::Local { request, .. } => base.complete(request, Err(Fault::Busy)),
            Source::Forwarded { peer, id, .. } => base.send(peer, Message::NotLeading { id }),
        }
    }

    fn add_job(&mut self, range: ByteRange, kind: Kind, base: &mut Base) -> Seq {
        self.next_seq += 1;
        let seq = Seq(self.next_seq);
        let job = Job::new(range, kind, base.now);
        let is_gated = self.is_gated(&job, base);
        self.jobs.insert(seq, job);
        if is_gated {
            self.gated.push_back(seq);
        } else {
            self.want_range(seq, base);
        }
        seq
    }

    /// Clients' jobs wait until the term is in force and, where members may differ, until they no longer do.
    fn is_gated(&self, job: &Job, base: &Base) -> bool {
        job.is_client() && (!self.serves() || self.mending && self.differs(job.range, base))
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
        if let Err(lacks) = self.start(seq, base) {
            self.stall(seq, lacks);
        }
    }

    fn start(&mut self, seq: Seq, base: &mut Base) -> Result<(), Lacks> {
        let Some(job) = self.jobs.get(&seq) else { return Ok(()) };
        match job.kind {
            Kind::Write { .. } => return self.start_write(seq, base),
            Kind::Read { .. } => return self.start_read(seq, base),
            Kind::Resync { .. } => self.start_resync(seq, base),
            Kind::Compare => self.start_compare(seq, base),
            Kind::Confirm { .. } => self.confirm(seq, base),
        }
        Ok(())
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
                self.rounds.local_ended(job.round, base);
                match result {
                    Ok(_) => job.acked = job.acked.with(base.own()),
                    Err(fault) => return self.own_disk_failed(Some(seq), fault, base),
                }
                self.finish_write(seq, base);
            }
            (Kind::Read { source }, Ok(LocalResult::Data(data))) => {
                let source = *source;
                self.end_job(seq);
                self.clients -= 1;
                self.reply(source, Ok(()), Some(data), base);
            }
            (Kind::Read { .. }, Err(fault)) => self.read_failed(seq, fault, base),
            (Kind::Resync { .. }, result) => self.resync_read(seq, result, base),
            (Kind::Compare, result) => self.own_checksum(seq, result, base),
            (kind, result) => unreachable!("{kind:?} does not end with {result:?}"),
        }
    }

    /// A job is over: its range is free.
    fn end_job(&mut self, seq: Seq) -> Job {
        let job = self.jobs.remove(&seq).expect("a job ends once");
        self.order.remove(seq, &mut self.ready);
        job
    }

    /// Tells a client how it went.
    fn reply(&mut self, source: Source, result: Result<(), Fault>, data: Option<DataId>, base: &mut Base) {
        match source {
            Source::Local { request, id } => {
                if !self.repeats.is_empty() {
                    self.repeats.remove(&id);
                }
                base.complete(request, result.map(|()| data));
            }
            Source::Forwarded { peer, incarnation, id } => {
                // Only a write is ever asked for again; reads that succeed are told by their bytes.
                if data.is_none() {
                    self.answers.note(peer, incarnation, id, result);
                }
                base.send_to_run(peer, incarnation, Message::Forwarded { id, result }, data);
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
            self.advance_checkpoints(base);
            self.advance_rounds(base);
            self.advance_resync(base);
            self.advance_step_down(base);
            self.advance_verify(base);
            if self.end.is_some() {
                return;
            }
            let all = std::mem::take(&mut self.retry);
            if all || self.stalled.has_due() {
                self.retry_stalled(all, base);
            }
            if all {
                self.retry_gated(base);
            }
            if self.ready.is_empty() && !self.retry {
                return;
            }
        }
    }

    fn retry_gated(&mut self, base: &mut Base) {
        for seq in std::mem::take(&mut self.gated) {
            if self.is_gated(&self.jobs[&seq], base) {
                self.gated.push_back(seq);
            } else {
                self.want_range(seq, base);
            }
        }
    }

    /// The journal has got further on disk.
    pub(crate) fn journal_advanced(&mut self) {
        self.stalled.journal_advanced();
    }
}
