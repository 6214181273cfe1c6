//! The leader's bytes to peers that may lack them (rule 7), and to members that may differ (rule 8).
//!
//! ```text
//! dirty region ─▶ shared range (writes to it wait) ─▶ local read ─▶ Resync ─▶ Resynced ─▶ unconfirmed ─▶ flush
//! nothing dirty ─▶ Settling: clients wait for this peer too ─▶ flush ─▶ a record with it
//! ```
//! How much is under way, and how much of the time is left to clients while they ask, is in `pace`.
//! Its one rule: a region's range is held from before the read until the peer has it.

use super::Primary;
use super::checkpoint::Checkpoint;
use super::job::{Kind, Stage};
use super::peer::Phase;
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::effect::DisconnectReason;
use crate::event::LocalResult;
use crate::fault::DiskFault;
use crate::id::{FlushId, ReplicaId, ReplicaSet, Seq, Time};
use crate::message::Message;
use crate::region::{ByteRange, RegionSet};
use crate::superblock::BitmapPage;

/// After a client's last request, a resync yields for so long.
const YIELD_NANOSECONDS: u64 = 10_000_000;

impl Primary {
    /// Starts as many resyncs as the throttle lets.
    pub(super) fn advance_resync(&mut self, base: &mut Base) {
        if self.members.in_force().is_none() || self.end.is_some() {
            return;
        }
        for peer in base.peers().iter() {
            let Some(state) = &self.peers[peer.index()] else { continue };
            if !matches!(state.phase, Phase::Resyncing | Phase::Member) {
                continue;
            }
            if !base.journal.lack(peer).dirty().is_empty() {
                self.resync_peer(peer, base);
            }
            self.settle(peer, base);
        }
    }

    fn resync_peer(&mut self, peer: ReplicaId, base: &mut Base) {
        let limits = base.config.limits;
        let is_busy = self.yields_to_clients(peer, base);
        while let Some(state) = &self.peers[peer.index()] {
            let bytes_max = state.pace.message_bytes(base.geometry().region_bytes, &limits);
            if !state.pace.may_send(bytes_max, is_busy, base.now) {
                return;
            }
            let Some(range) = self.next_resync(peer, bytes_max, base) else { return };
            let state = self.peers[peer.index()].as_mut().expect("it was there above");
            let sent = state.pace.sent(range.bytes, &limits, base.now);
            let seq = self.add_job(range, Kind::Resync { to: peer, data: None }, base);
            // It may have been read at once; it cannot have ended.
            if let Some(state) = &mut self.peers[peer.index()] {
                state.resyncs.insert(seq, sent);
            }
        }
    }

    /// Whether clients come first. Members' differences hold them up: no yielding there.
    fn yields_to_clients(&self, peer: ReplicaId, base: &Base) -> bool {
        let is_member = self.peers[peer.index()].as_ref().is_some_and(|state| state.phase == Phase::Member);
        !is_member && (self.clients > 0 || base.now.since(self.client_at) < YIELD_NANOSECONDS)
    }

    /// When a resync that yields to clients may go on.
    pub(super) fn resync_at(&self, peer: ReplicaId, base: &Base) -> Option<Time> {
        let state = self.peers[peer.index()].as_ref().filter(|state| state.phase == Phase::Resyncing)?;
        if base.journal.lack(peer).dirty().is_empty() || !self.yields_to_clients(peer, base) {
            return None;
        }
        let bytes_max = state.pace.message_bytes(base.geometry().region_bytes, &base.config.limits);
        let idle = (self.clients == 0).then(|| self.client_at.after(YIELD_NANOSECONDS));
        // What is due and has not gone has nothing to send.
        state.pace.due(bytes_max).into_iter().chain(idle).filter(|&at| at > base.now).min()
    }

    /// The next run of regions that a peer may lack and that is not under way: first where clients wait.
    fn next_resync(&mut self, peer: ReplicaId, bytes_max: u64, base: &Base) -> Option<ByteRange> {
        let geometry = base.geometry();
        let dirty = base.journal.lack(peer).dirty();
        let under_way = self.resyncs_of(peer, base);
        if self.mending {
            for seq in &self.gated {
                let (first, last) = geometry.regions_of(self.jobs[seq].range);
                if let Some(region) = next_free(dirty, &under_way, first).filter(|&region| region <= last) {
                    return Some(geometry.range_of(region, 1));
                }
            }
        }
        let state = self.peers[peer.index()].as_mut()?;
        let region =
            next_free(dirty, &under_way, state.cursor).or_else(|| next_free(dirty, &under_way, 0))?;
        let mut count = 1;
        let count_max = bytes_max / geometry.region_bytes;
        while count < count_max && dirty.contains(region + count) && !under_way.contains(region + count) {
            count += 1;
        }
        state.cursor = region + count;
        Some(geometry.range_of(region, count))
    }

    fn resyncs_of(&self, peer: ReplicaId, base: &Base) -> RegionSet {
        let mut regions = RegionSet::new();
        for seq in self.peers[peer.index()].iter().flat_map(|state| state.resyncs.keys()) {
            regions.insert(&base.geometry(), self.jobs[seq].range);
        }
        regions
    }

    pub(super) fn start_resync(&mut self, seq: Seq, base: &mut Base) {
        let job = self.jobs.get_mut(&seq).expect("a job that starts is there");
        job.stage = Stage::Running;
        job.since = base.now;
        job.local_pending = true;
        base.read_local(Purpose::Job(seq), job.range, None);
    }

    /// The bytes are read: off they go.
    pub(super) fn resync_read(&mut self, seq: Seq, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let job = self.jobs.get_mut(&seq).expect("its read has ended");
        job.local_pending = false;
        job.since = base.now;
        let range = job.range;
        let Kind::Resync { to, data } = &mut job.kind else { unreachable!("a resync") };
        let to = *to;
        match result {
            Ok(LocalResult::Data(read)) => {
                *data = Some(read);
                job.sent = ReplicaSet::only(to);
                let epoch = self.members.record().epoch;
                base.send_data(to, Message::Resync { epoch, seq, range }, Some(read));
            }
            Ok(other) => unreachable!("a read does not end with {other:?}"),
            Err(fault) => {
                // It cannot get these bytes from us: the next leader sends them, or we try again over its next link.
                self.drop_peer(to, DisconnectReason::Disk(fault), base);
                self.own_disk_failed(None, fault, base);
            }
        }
    }

    /// A peer has a resync's bytes, or failed it.
    pub(crate) fn resynced(
        &mut self,
        peer: ReplicaId,
        seq: Seq,
        result: Result<(), DiskFault>,
        base: &mut Base,
    ) {
        let is_busy = self.yields_to_clients(peer, base);
        let Some(state) = &mut self.peers[peer.index()] else { return };
        let Some(sent) = state.resyncs.remove(&seq) else { return };
        state.pace.answered(sent, is_busy, &base.config.limits, &base.config.timing, base.now);
        let job = self.end_job(seq);
        let Kind::Resync { data, .. } = job.kind else { unreachable!("a resync") };
        base.release(data);
        if let Err(fault) = result {
            return self.drop_peer(peer, DisconnectReason::Disk(fault), base);
        }
        let geometry = base.geometry();
        base.journal.lack_mut(peer).received(&geometry, job.range);
        let state = self.peers[peer.index()].as_mut().expect("it is known");
        state.resynced_bytes += job.range.bytes;
        state.unflushed_bytes += job.range.bytes;
        // Clients may wait for its last regions.
        self.retry |= self.mending;
    }

    /// A peer that has everything makes it durable, and then joins.
    fn settle(&mut self, peer: ReplicaId, base: &mut Base) {
        let state = self.peers[peer.index()].as_ref().expect("it is there");
        let complete = base.journal.lack(peer).dirty().is_empty() && state.resyncs.is_empty();
        let early = base.sabotaged(Sabotage::JoinTooEarly);
        // A flush of its own that is under way could not be told from the one that settles it.
        let flushes = matches!(state.checkpoint, Checkpoint::Sent(..));
        if state.phase != Phase::Resyncing || !(complete || early) || !self.members.is_settled() || flushes {
            return;
        }
        self.tell_lacking(peer, base);
        let state = self.peers[peer.index()].as_mut().expect("it is there");
        state.checkpoint = Checkpoint::None;
        state.phase = Phase::Settling(None);
        self.retry = true;
    }

    /// Tells a peer that is about to join what absentees lack: it may lead one day.
    fn tell_lacking(&mut self, to: ReplicaId, base: &mut Base) {
        let epoch = self.members.record().epoch;
        for of in base.peers().minus(self.members.must_hold()).without(to).iter() {
            let mut lacking = base.journal.lack(of).dirty().clone();
            base.journal.lack(of).unconfirmed.add_to(&mut lacking);
            let mut first = 0;
            while let Some(region) = lacking.next_from(u64::from(first) * 64) {
                let from = (region / 64) as u32;
                first = from.saturating_add(BitmapPage::PAGE_EXTENTS);
                let regions = lacking.masks_in(from..first).collect();
                base.send(to, Message::Lacking { epoch, of, regions });
            }
        }
    }

    /// A round is done: who settled by it has everything, durably.
    pub(super) fn settled_by(&mut self, flush: FlushId) {
        for peer in self.peers.iter_mut().flatten() {
            if peer.phase == Phase::Settling(Some(flush)) {
                peer.settled = true;
            }
        }
    }

    /// Peers that have all but their last flush.
    pub(super) fn settling(&self) -> ReplicaSet {
        let mut set = ReplicaSet::EMPTY;
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| matches!(peer.phase, Phase::Settling(_))) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// Peers that may join.
    pub(super) fn settled(&self) -> ReplicaSet {
        let mut set = ReplicaSet::EMPTY;
        for (index, peer) in self.peers.iter().enumerate() {
            if peer.as_ref().is_some_and(|peer| peer.settled && peer.phase != Phase::Member) {
                set = set.with(ReplicaId(index as u8));
            }
        }
        set
    }

    /// Whether members no longer differ, but for what they have not made durable.
    pub(super) fn is_mended(&self, base: &Base) -> bool {
        self.members_linked().iter().all(|peer| {
            base.journal.lack(peer).dirty().is_empty()
                && self.peers[peer.index()].as_ref().is_some_and(|state| state.resyncs.is_empty())
        })
    }
}

/// The first region from `from` on that is dirty and not under way.
fn next_free(dirty: &RegionSet, under_way: &RegionSet, from: u64) -> Option<u64> {
    let mut from = from;
    loop {
        let region = dirty.next_from(from)?;
        if !under_way.contains(region) {
            return Some(region);
        }
        from = region + 1;
    }
}
