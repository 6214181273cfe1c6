//! A client's read at its leader.
//!
//! Its one rule: it is served only while nobody else can lead (rule 9), from bytes that no unfinished write touches.

use super::job::{Kind, Stage};
use super::stalled::Lacks;
use super::{Primary, Source};
use crate::base::{Base, Purpose};
use crate::config::Sabotage;
use crate::fault::DiskFault;
use crate::id::Seq;

impl Primary {
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
