//! Compares the members' bytes by checksum while the volume is in use, and mends them if that was asked for.
//!
//! ```text
//! a run of regions ─▶ shared range ─▶ checksum here, Checksum to every member ─▶ compare ─▶ [dirty: resync mends it]
//! ```
//! Its one rule: the range is held until all have answered, so that what is compared is of one time.

use super::Primary;
use super::job::{Kind, Stage};
use crate::base::{Base, Purpose};
use crate::effect::{DisconnectReason, Notice};
use crate::event::LocalResult;
use crate::fault::{DiskFault, Refusal};
use crate::id::{CommandId, ReplicaId, ReplicaSet, Seq};
use crate::message::Message;
use crate::region::RegionSet;

#[derive(Clone, Debug)]
pub(super) struct Verify {
    command: Option<CommandId>,
    repair: bool,
    /// The next region to compare.
    next: u64,
    current: Option<Compared>,
    bytes: u64,
    differing_bytes: u64,
}

#[derive(Clone, Debug)]
struct Compared {
    seq: Seq,
    own: Option<u64>,
    asked: ReplicaSet,
    sums: Vec<(ReplicaId, u64)>,
}

impl Verify {
    pub(super) fn take_command(&mut self) -> Option<CommandId> {
        self.command.take()
    }
}

impl Primary {
    /// An operator's wish.
    pub(crate) fn verify(&mut self, command: CommandId, repair: bool, base: &mut Base) {
        if self.verify.is_some() || !self.serves() {
            return base.answer(command, Err(Refusal::Busy));
        }
        if self.members_linked().is_empty() {
            return base.answer(command, Err(Refusal::NoSuccessor));
        }
        self.verify = Some(Verify {
            command: Some(command),
            repair,
            next: 0,
            current: None,
            bytes: 0,
            differing_bytes: 0,
        });
        self.advance_verify(base);
    }

    /// The next comparison, or the end. Waits while members are being mended.
    pub(super) fn advance_verify(&mut self, base: &mut Base) {
        let geometry = base.geometry();
        let Some(verify) = &mut self.verify else { return };
        if verify.current.is_some() || self.mending || self.step_down.is_some() {
            return;
        }
        if verify.next >= geometry.regions() {
            let (bytes, differing_bytes) = (verify.bytes, verify.differing_bytes);
            let command = self.verify.take().and_then(|mut verify| verify.take_command());
            base.notice(Notice::Verified { bytes, differing_bytes });
            if let Some(command) = command {
                base.answer(command, Ok(()));
            }
            return;
        }
        let count =
            (base.config.limits.resync_bytes / geometry.region_bytes).min(geometry.regions() - verify.next);
        let range = geometry.range_of(verify.next, count);
        verify.next += count;
        self.next_seq += 1;
        let seq = Seq(self.next_seq);
        verify.current = Some(Compared { seq, own: None, asked: ReplicaSet::EMPTY, sums: Vec::new() });
        self.jobs.insert(seq, super::Job::new(range, Kind::Compare, base.now));
        self.want_range(seq, base);
    }

    pub(super) fn start_compare(&mut self, seq: Seq, base: &mut Base) {
        let members = self.members_linked();
        let job = self.jobs.get_mut(&seq).expect("a job that starts is there");
        job.stage = Stage::Running;
        job.since = base.now;
        job.sent = members;
        let range = job.range;
        let epoch = self.members.record().epoch;
        let current = self.verify.as_mut().and_then(|verify| verify.current.as_mut());
        current.expect("a comparison is under way").asked = members;
        base.checksum_local(Purpose::Job(seq), range);
        for peer in members.iter() {
            base.send(peer, Message::Checksum { epoch, seq, range });
        }
    }

    /// The comparison under way.
    pub(super) fn compares(&self) -> Option<Seq> {
        self.verify.as_ref()?.current.as_ref().map(|current| current.seq)
    }

    pub(super) fn own_checksum(&mut self, seq: Seq, result: Result<LocalResult, DiskFault>, base: &mut Base) {
        let current = self.verify.as_mut().and_then(|verify| verify.current.as_mut());
        let Some(current) = current.filter(|current| current.seq == seq) else { return };
        match result {
            Ok(LocalResult::Checksum(sum)) => current.own = Some(sum),
            Ok(other) => unreachable!("a checksum does not end with {other:?}"),
            Err(fault) => {
                self.drop_comparison();
                return self.own_disk_failed(None, fault, base);
            }
        }
        self.compare(base);
    }

    /// A peer's checksum.
    pub(crate) fn checksummed(
        &mut self,
        peer: ReplicaId,
        seq: Seq,
        result: Result<u64, DiskFault>,
        base: &mut Base,
    ) {
        let current = self.verify.as_mut().and_then(|verify| verify.current.as_mut());
        let Some(current) = current.filter(|current| current.seq == seq && current.asked.contains(peer))
        else {
            return;
        };
        match result {
            Ok(sum) => {
                current.asked = current.asked.without(peer);
                current.sums.push((peer, sum));
                if let Some(job) = self.jobs.get_mut(&seq) {
                    job.acked = job.acked.with(peer);
                }
                self.compare(base);
            }
            Err(fault) => self.drop_peer(peer, DisconnectReason::Disk(fault), base),
        }
    }

    /// A peer is gone: its checksum is not waited for.
    pub(super) fn verify_lost(&mut self, peer: ReplicaId, base: &mut Base) {
        if let Some(current) = self.verify.as_mut().and_then(|verify| verify.current.as_mut()) {
            current.asked = current.asked.without(peer);
            self.compare(base);
        }
    }

    fn drop_comparison(&mut self) {
        if let Some(current) = self.verify.as_mut().and_then(|verify| verify.current.take())
            && self.jobs.contains_key(&current.seq)
        {
            self.end_job(current.seq);
        }
    }

    fn compare(&mut self, base: &mut Base) {
        let Some(verify) = &mut self.verify else { return };
        let Some(current) =
            verify.current.take_if(|current| current.own.is_some() && current.asked.is_empty())
        else {
            return;
        };
        let range = self.jobs[&current.seq].range;
        verify.bytes += range.bytes;
        let repaired = verify.repair;
        let differing: Vec<ReplicaId> =
            current.sums.iter().filter(|(_, sum)| Some(*sum) != current.own).map(|(peer, _)| *peer).collect();
        if !differing.is_empty() {
            verify.differing_bytes += range.bytes;
        }
        let mut regions = RegionSet::new();
        regions.insert(&base.geometry(), range);
        for peer in differing {
            base.notice(Notice::Differs { peer, range, repaired });
            if repaired {
                base.journal.lack_mut(peer).add_dirty(&regions);
            }
        }
        self.end_job(current.seq);
        self.advance_verify(base);
    }
}
