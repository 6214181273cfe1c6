//! A client's read at its leader.
//!
//! Mostly a node reads at once, without a job: it asks before (`reads_at_once`), reads, and asks again
//! (`may_answer`) whether what it has read is what the volume held. Else, or then, the read is submitted.
//! Its one rule: it is served only while nobody else can lead (rule 9), from bytes that no unfinished write touches.

use super::job::{Kind, Stage};
use super::stalled::Lacks;
use super::{Primary, Source};
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::fault::DiskFault;
use crate::id::Seq;
use crate::region::ByteRange;

impl Primary {
    /// Whether a read here may be answered without more ado, if nothing changes meanwhile.
    pub(crate) fn reads_at_once(&self, range: ByteRange, base: &Base) -> bool {
        self.serves()
            && !(self.mending && self.differs(range, base))
            && (self.order.is_unwritten(range) || base.sabotaged(Sabotage::ReadUnfinishedWrite))
    }

    /// Whether what has been read there since `reads_at_once` may be answered: no write touches it that could yet be
    /// lost, and still nobody else can lead. (A write that came and went meanwhile is on all replicas.)
    pub(crate) fn may_answer(&mut self, range: ByteRange, base: &Base) -> bool {
        self.client_at = base.now;
        self.reads_at_once(range, base) && self.may_read(base)
    }

    pub(super) fn start_read(&mut self, seq: Seq, base: &mut Base) -> Result<(), Lacks> {
        if !self.may_read(base) {
            return Err(Lacks::Lease);
        }
        let job = self.jobs.get_mut(&seq).expect("a job that starts is there");
        job.stage = Stage::Running;
        let request = match job.kind {
            Kind::Read { source: Source::Local { request, .. } } => Some(request),
            _ => None,
        };
        base.read_local(Purpose::Job(seq), job.range, request);
        Ok(())
    }

    fn may_read(&self, base: &Base) -> bool {
        base.sabotaged(Sabotage::IgnoreLease)
            // Also of a member that the coordinator may know of already, or still.
            || self.members.in_force().is_some() && self.lease.may_read(self.members.must_hold(), base)
    }

    /// It has failed here: another copy serves it, if there is one.
    pub(super) fn read_failed(&mut self, seq: Seq, fault: DiskFault, base: &mut Base) {
        self.own_disk_failed(Some(seq), fault, base);
    }
}
