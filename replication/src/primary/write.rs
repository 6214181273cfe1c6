//! A client's write at its leader: started everywhere at once, answered when it is everywhere.
//!
//! Its one rule: only `finish_write` can say that a write is done, and it asks `must_hold`.

use super::Primary;
use super::job::{Job, Kind, Stage};
use super::stalled::Lacks;
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::effect::DisconnectReason;
use crate::fault::DiskFault;
use crate::id::{ReplicaId, ReplicaSet, Seq};
use crate::journal::Mark;
use crate::message::Message;
use crate::region::ByteRange;

impl Primary {
    /// Room at every peer, the mark on disk: then it goes out everywhere at once.
    pub(super) fn start_write(&mut self, seq: Seq, base: &mut Base) -> Result<(), Lacks> {
        if self.drops_own() {
            // Whoever leads next carries it out.
            return Err(Lacks::Lease);
        }
        let holders = self.holders(base);
        let job = &self.jobs[&seq];
        let Kind::Write { change, durable, data, origin, .. } = job.kind else { unreachable!("a write") };
        let range = job.range;
        let bytes = job.bytes_sent();
        let bytes_max = base.config.limits.peer_bytes_max;
        if self.stalled.queues_for_room()
            || self.peers.iter().flatten().any(|peer| !peer.has_room(bytes, bytes_max))
        {
            return Err(Lacks::Room);
        }
        self.mark(range, base)?;
        let epoch = self.members.record().epoch;
        let job = self.jobs.get_mut(&seq).expect("it was there above");
        job.stage = Stage::Running;
        job.since = base.now;
        // Not of a record that a coordinator may yet give to another leader.
        job.epoch = self.members.in_force().map_or(self.members.term(), |record| record.epoch);
        job.sent = holders;
        job.local_pending = true;
        job.round = self.rounds.local_started();
        if let Some(origin) = &origin {
            base.witness.note(origin);
        }
        base.journal.note_change(range, holders);
        base.write_local(Purpose::Job(seq), range, change, data, durable);
        let timing = &base.config.timing;
        let timeout = if durable { timing.flush_timeout } else { timing.peer_timeout };
        let late_at = base.now.after(timeout + 1);
        for to in holders.without(base.own()).iter() {
            let peer = self.peers[to.index()].as_mut().expect("a holder is linked");
            peer.bytes_in_flight += bytes;
            peer.in_flight.push_back((seq, late_at));
            base.send_data(to, Message::Write { epoch, seq, range, change, durable, origin }, data);
        }
        Ok(())
    }

    /// Wants the mark of a range on disk; asks for flushes if there is no room for it (rule 8).
    fn mark(&mut self, range: ByteRange, base: &mut Base) -> Result<(), Lacks> {
        if base.sabotaged(Sabotage::DropActivityLog) {
            return Ok(());
        }
        let limit = base.config.limits.active_extents;
        let mark = if self.stalled.queues_for_space() {
            base.journal.touch(range).unwrap_or(Mark::Full)
        } else {
            base.journal.mark(range, limit, limit)
        };
        match mark {
            Mark::Ready => Ok(()),
            Mark::Wait(_) => Err(Lacks::Mark),
            Mark::Full => {
                self.rounds.want_space();
                Err(Lacks::Space)
            }
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
        let is_sent = |job: &&mut Job| job.is_write() && job.sent.contains(peer);
        let Some(job) = self.jobs.get_mut(&seq).filter(is_sent) else { return };
        if job.acked.contains(peer) {
            return;
        }
        if let Err(fault) = result {
            return self.drop_peer(peer, DisconnectReason::Disk(fault), base);
        }
        job.acked = job.acked.with(peer);
        let bytes = job.bytes_sent();
        let state =
            self.peers[peer.index()].as_mut().expect("what was sent to it over an earlier link is forgotten");
        state.bytes_in_flight -= bytes;
        self.stalled.room_freed();
        while let Some((first, _)) = state.in_flight.front()
            && self.jobs.get(first).is_none_or(|job| job.acked.contains(peer))
        {
            state.in_flight.pop_front();
        }
        self.finish_write(seq, base);
    }

    /// Answers a write if it is on every replica that must have it (rule 1). Nobody else answers one with success.
    pub(super) fn finish_write(&mut self, seq: Seq, base: &mut Base) {
        let job = &self.jobs[&seq];
        let own = ReplicaSet::only(base.own());
        let early = base.sabotaged(Sabotage::AcknowledgeBeforePeer) && job.acked.covers(own);
        let Kind::Write { source, data, .. } = job.kind else { return };
        if !early && (!self.is_settled(job) || !job.acked.covers(self.must_hold(base))) {
            return;
        }
        if !job.acked.covers(job.sent.minus(self.failed_own(base))) && !early {
            // A joiner's copy is on its way: the range stays taken, so that nothing overtakes it there.
            let job = self.jobs.get_mut(&seq).expect("it was there above");
            if !std::mem::replace(&mut job.answered, true) {
                self.clients -= 1;
                self.reply(source, Ok(()), None, base);
            }
            return;
        }
        let was_answered = job.answered;
        self.end_job(seq);
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

    /// Nothing is waited for any more that was sent to a peer over a link that is gone. (What it has acknowledged it
    /// has confirmed durable as well, or it is among what the peer may lack, and the resync of that waits for us.)
    pub(super) fn forget_sent(&mut self, peer: ReplicaId) {
        for job in self.jobs.values_mut() {
            job.sent = job.sent.without(peer);
        }
    }

    /// Looks at every running write anew: who must have them has changed.
    pub(super) fn finish_writes(&mut self, base: &mut Base) {
        let running: Vec<Seq> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.stage == Stage::Running && job.is_write())
            .map(|(&seq, _)| seq)
            .collect();
        for seq in running {
            if self.jobs.contains_key(&seq) {
                self.finish_write(seq, base);
            }
        }
    }

    /// All members have the bytes: the range was let through the gate.
    pub(super) fn confirm(&mut self, seq: Seq, base: &mut Base) {
        let job = self.end_job(seq);
        let Kind::Confirm { source, durable, data, .. } = job.kind else { unreachable!("a confirmation") };
        base.release(data);
        if durable {
            self.rounds.want(source);
            self.retry = true;
        } else {
            self.clients -= 1;
            self.reply(source, Ok(()), None, base);
        }
    }
}
