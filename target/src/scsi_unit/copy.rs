//! EXTENDED COPY (SPC-4 6.4) between units of this node, on whatever cores they live.
//!
//! The copy manager is an initiator of its own: a nexus with each unit, under the initiator port of the command's
//! session, so that reservations hold for it as they do there; READ and WRITE in steps.

use std::ops::Range;
use std::rc::{Rc, Weak};

use uuid::Uuid;
use wire::scsi::copy::{self, CopyEnd, CopyOutcome, CopyPlan, CopySegment, NOT_REACHABLE, SEGMENT_FAILED};
use wire::scsi::{Identity, InitiatorPort, NexusId, Refusal, SenseKey, TargetPort, additional};

use crate::scsi_unit::payload::{Payload, STEP_BYTES};
use crate::scsi_unit::perform::{ABORTED, Done, Work};
use crate::scsi_unit::{AttachedUnit, Nexus, NexusTasks};
use crate::serve_core::ServingCore;
use crate::settings::IscsiLun;

/// A nexus of the copy manager: the rest of it is the core and a counter.
const COPY_NEXUS: u32 = 1 << 31;
/// Unit attentions that a fresh nexus may meet one after another.
const ATTENTIONS_MAX: usize = 8;

/// Of the commands of a copy, which come one at a time.
const TAG: u32 = 0;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;
const THIRD_PARTY_FAILED: Refusal =
    Refusal::check(SenseKey::CopyAborted, additional::THIRD_PARTY_DEVICE_FAILURE);

/// One end of the copy, attached.
struct End {
    unit: AttachedUnit,
    block_bytes: u64,
    blocks: u64,
}

/// One end of a segment: which unit, and where.
struct Side<'a> {
    end: &'a End,
    lba: u64,
}

impl Side<'_> {
    /// Whether `bytes` from here on are on the medium.
    fn has(&self, bytes: u64) -> bool {
        let end = self.lba.checked_add(bytes / self.end.block_bytes);
        end.is_some_and(|end| end <= self.end.blocks)
    }
}

/// Hears of aborted tasks, and leaves them: a step of a copy fails by itself.
struct Deaf;

impl NexusTasks for Deaf {
    fn abort_tasks(&self, _: u16) -> bool {
        false
    }
}

impl Work<'_> {
    /// Carries out the copy, and keeps its outcome for RECEIVE COPY RESULTS.
    pub async fn extended_copy(&self, lid4: bool, data: Payload) -> Result<(), Refusal> {
        let plan = copy::parse(&data.into_bytes(), lid4)?;
        let _turn = self.unit.copies.enter(1).await;
        let mut outcome = CopyOutcome { segments_done: 0, bytes_done: 0, refusal: None };
        let result = self.copy(&plan, &mut outcome).await;
        outcome.refusal = result.err();
        let nexus = self.errand.nexus();
        self.unit.scsi.borrow_mut().copy_ended(nexus, plan.list_id, outcome);
        result
    }

    async fn copy(&self, plan: &CopyPlan, outcome: &mut CopyOutcome) -> Result<(), Refusal> {
        let mut ends = Vec::new();
        let mut attached = Ok(());
        for end in &plan.ends {
            match self.attach_end(end).await {
                Ok(end) => ends.push(end),
                Err(refusal) => {
                    attached = Err(refusal);
                    break;
                }
            }
        }
        let result = match attached {
            Ok(()) => self.copy_segments(plan, &ends, outcome).await,
            refused => refused,
        };
        ends.iter().for_each(|end| end.unit.detach(self.here));
        result
    }

    async fn copy_segments(
        &self,
        plan: &CopyPlan,
        ends: &[End],
        outcome: &mut CopyOutcome,
    ) -> Result<(), Refusal> {
        for segment in &plan.segments {
            let end = |index: u16| ends.get(usize::from(index)).ok_or(NOT_REACHABLE);
            let source = Side { end: end(segment.source)?, lba: segment.source_lba };
            let destination = Side { end: end(segment.destination)?, lba: segment.destination_lba };
            self.copy_segment(segment, source, destination, outcome).await?;
            outcome.segments_done += 1;
        }
        Ok(())
    }

    async fn copy_segment(
        &self,
        segment: &CopySegment,
        source: Side<'_>,
        destination: Side<'_>,
        outcome: &mut CopyOutcome,
    ) -> Result<(), Refusal> {
        let counted = if segment.count_by_destination { &destination } else { &source };
        let bytes = u64::from(segment.blocks) * counted.end.block_bytes;
        let larger = source.end.block_bytes.max(destination.end.block_bytes);
        if !bytes.is_multiple_of(larger) || !source.has(bytes) || !destination.has(bytes) {
            return Err(SEGMENT_FAILED);
        }
        // Towards the front of the same unit from its front, towards its back from its back: what is still to be
        // read must not be written over.
        let same = source.end.unit.settings().volume == destination.end.unit.settings().volume;
        let backwards = same && destination.lba > source.lba;
        let step = STEP_BYTES as u64;
        let count = bytes.div_ceil(step);
        for i in 0..count {
            let index = if backwards { count - 1 - i } else { i };
            let part = index * step..bytes.min((index + 1) * step);
            outcome.bytes_done += self.copy_step(&source, &destination, part).await?;
        }
        Ok(())
    }

    async fn copy_step(
        &self,
        source: &Side<'_>,
        destination: &Side<'_>,
        part: Range<u64>,
    ) -> Result<u64, Refusal> {
        self.goes_on()?;
        let data = self.third_party(source.end, &transfer(READ_16, source, &part), Vec::new()).await?;
        if data.len() as u64 != part.end - part.start {
            return Err(THIRD_PARTY_FAILED);
        }
        self.goes_on()?;
        self.third_party(destination.end, &transfer(WRITE_16, destination, &part), data).await?;
        Ok(part.end - part.start)
    }

    /// Finds the unit among those of the node, and begins a session with it.
    async fn attach_end(&self, end: &CopyEnd) -> Result<End, Refusal> {
        let lun = self.find(end).ok_or(NOT_REACHABLE)?;
        let block_bytes = lun.block_bytes;
        if end.block_bytes != 0 && end.block_bytes != block_bytes {
            return Err(Refusal::check(SenseKey::CopyAborted, additional::INCORRECT_COPY_TARGET_TYPE));
        }
        let (initiator, target) = self.ports().ok_or(ABORTED)?;
        let nexus = Nexus { id: next_nexus(self.here), lun: 0, initiator, target };
        let tasks: Weak<dyn NexusTasks> = Weak::<Deaf>::new();
        let unit = AttachedUnit::attach(self.here, &lun, nexus, tasks).await;
        let mut end = End { unit, block_bytes: block_bytes.into(), blocks: 0 };
        match self.count_blocks(&end).await {
            Ok(blocks) => end.blocks = blocks,
            Err(refusal) => {
                end.unit.detach(self.here);
                return Err(refusal);
            }
        }
        Ok(end)
    }

    fn find(&self, end: &CopyEnd) -> Option<IscsiLun> {
        let directory = self.here.directory();
        let named = directory.exports.values().find(|entry| {
            let uuid: Uuid = entry.settings.uuid;
            let volume_name = entry.settings.name.clone();
            Identity { uuid: *uuid.as_bytes(), volume_name }.designators().contains(&end.designator)
        })?;
        directory.iscsi.lun_of(named.settings.uuid).cloned()
    }

    /// The ends of the session that asked.
    fn ports(&self) -> Option<(InitiatorPort, TargetPort)> {
        let nexuses = self.unit.nexuses.borrow();
        let nexus = &nexuses.get(&self.errand.nexus())?.nexus;
        Some((nexus.initiator.clone(), nexus.target.clone()))
    }

    /// How large the unit is; READ CAPACITY (16) gives its last block.
    async fn count_blocks(&self, end: &End) -> Result<u64, Refusal> {
        self.clear_attentions(end).await?;
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[0x9e, 0x10]);
        cdb[13] = 32;
        let capacity = self.third_party(end, &cdb, Vec::new()).await?;
        let last = capacity.first_chunk().map(|last| u64::from_be_bytes(*last));
        last.and_then(|last| last.checked_add(1)).ok_or(THIRD_PARTY_FAILED)
    }

    /// TEST UNIT READY until a fresh nexus has heard of everything.
    async fn clear_attentions(&self, end: &End) -> Result<(), Refusal> {
        for _ in 0..ATTENTIONS_MAX {
            let done = self.command(end, &[0; 6], Vec::new()).await?;
            match done.result {
                Err(refusal) if is_attention(&refusal) => {}
                result => return result.map_err(|refusal| self.failed(end, &refusal)),
            }
        }
        Ok(())
    }

    /// One command of the copy manager that has to succeed; its data in.
    async fn third_party(&self, end: &End, cdb: &[u8], data_out: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let done = self.command(end, cdb, data_out).await?;
        done.result.map_err(|refusal| self.failed(end, &refusal))?;
        Ok(done.data_in)
    }

    /// One command of the copy manager. If the copy is aborted, so is the command.
    async fn command(&self, end: &End, cdb: &[u8], data_out: Vec<u8>) -> Result<Done, Refusal> {
        // Boxed: a command may be a copy, and a copy consists of commands.
        let executed = Box::pin(end.unit.execute(self.here, TAG, cdb, data_out));
        let done = self.errand.watch(executed, || end.unit.abort(self.here, TAG)).await;
        done.ok_or(ABORTED)
    }

    fn failed(&self, end: &End, refusal: &Refusal) -> Refusal {
        if self.here.clients().may_log() {
            let volume = &end.unit.settings().volume_name;
            tracing::warn!(volume, ?refusal, "one end of a copy refused its part");
        }
        THIRD_PARTY_FAILED
    }
}

fn is_attention(refusal: &Refusal) -> bool {
    refusal.sense.is_some_and(|sense| sense.key == SenseKey::UnitAttention)
}

/// READ (16) or WRITE (16) of `part` bytes of the segment.
fn transfer(opcode: u8, side: &Side<'_>, part: &Range<u64>) -> [u8; 16] {
    let block = side.end.block_bytes;
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&side.lba.saturating_add(part.start / block).to_be_bytes());
    cdb[10..14].copy_from_slice(&(((part.end - part.start) / block) as u32).to_be_bytes());
    cdb
}

/// A number that no session has, nor another copy of the moment.
fn next_nexus(here: &Rc<ServingCore>) -> NexusId {
    let core = (here.index() as u32 & 0x7f) << 24;
    NexusId(COPY_NEXUS | core | (here.units().next_number() as u32 & 0x00ff_ffff))
}
