//! Commands on long ranges, without their data: WRITE SAME, UNMAP, GET LBA STATUS, PRE-FETCH, SYNCHRONIZE CACHE.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use reactor::buffer::is_zero;
use reactor::{View, io as verbs};
use wire::nbd::transmission::{Extent, STATE_HOLE};
use wire::scsi::{
    LbaExtent, NexusId, Provisioning, Refusal, SenseKey, Status, additional, put_lba_status, unmap,
};

use crate::fault::{Access, Fault};
use crate::scsi_unit::LogicalUnit;
use crate::scsi_unit::payload::{Payload, STEP_BYTES};
use crate::scsi_unit::perform::{Work, steps};
use crate::store::Zeroing;

/// What is zeroed or let go before an abort is looked for.
const ZERO_STEP_BYTES: u64 = 256 << 20;
/// Descriptors in one answer to GET LBA STATUS; an initiator asks again from where it ends.
const EXTENTS_MAX: u32 = 1024;

impl Work<'_> {
    /// WRITE SAME (SBC-3 5.46). Who asks for blocks to be unmapped gets that, if unmapped blocks read as zeroes: the
    /// block sent along is taken for zeroes, as other targets do, whatever an initiator left in it.
    pub async fn write_same(
        &self,
        range: Range<u64>,
        unmap: bool,
        ndob: bool,
        data: Payload,
    ) -> Result<(), Refusal> {
        let unmaps = unmap && self.unit.scsi.borrow().geometry().zero_after_unmap;
        let block = data.into_bytes();
        if !ndob && !unmap && block.len() as u64 != self.block_bytes {
            return Err(self.data_missing());
        }
        self.errand.writes_to(range.start, range.end - range.start);
        match ndob || unmaps || is_zero(&block) {
            true => self.zero(range, unmap).await?,
            false => self.fill(range, &block).await?,
        }
        self.keep_promise().await
    }

    /// Zeroes the range.
    pub async fn zero(&self, range: Range<u64>, may_unmap: bool) -> Result<(), Refusal> {
        let mut at = range.start;
        while at < range.end {
            self.goes_on()?;
            let len = (range.end - at).min(ZERO_STEP_BYTES);
            let how = Zeroing { may_unmap, fast_only: false };
            let zeroed = self.unit.volume.write_zeroes(at, len, how, false).await;
            zeroed.map_err(|fault| self.refuse(&fault, Access::Write))?;
            at += len;
        }
        Ok(())
    }

    /// Fills the range with copies of `block`.
    async fn fill(&self, range: Range<u64>, block: &[u8]) -> Result<(), Refusal> {
        let len = STEP_BYTES.min((range.end - range.start) as usize);
        let mut pattern = self.buffer(len);
        pattern.bytes_mut().chunks_mut(block.len()).for_each(|to| to.copy_from_slice(&block[..to.len()]));
        let pattern = Rc::new(pattern);
        for step in steps(range) {
            self.goes_on()?;
            let view = View::of_shared(&pattern, 0, (step.end - step.start) as usize);
            let written = self.unit.volume.write(step.start, view, false).await;
            written.map_err(|fault| self.refuse(&fault, Access::Write))?;
            self.unit.let_others().await;
        }
        Ok(())
    }

    /// UNMAP (SBC-3 5.28). Where it was said that unmapped blocks read as zeroes they are made to, to the last byte;
    /// otherwise the backing may keep what it likes.
    pub async fn unmap(&self, data: Payload) -> Result<(), Refusal> {
        let geometry = *self.unit.scsi.borrow().geometry();
        let extents = unmap::parse(&data.into_bytes(), &geometry)?;
        let ranges: Vec<Range<u64>> = extents.iter().map(|&(lba, blocks)| self.range(lba, blocks)).collect();
        for range in &ranges {
            self.passage(range).await?;
            self.errand.writes_to(range.start, range.end - range.start);
        }
        for range in ranges {
            if geometry.zero_after_unmap {
                self.zero(range, true).await?;
                continue;
            }
            self.goes_on()?;
            let trimmed = self.unit.volume.trim(range.start, range.end - range.start, false).await;
            trimmed.map_err(|fault| self.refuse(&fault, Access::Write))?;
        }
        self.keep_promise().await
    }

    /// Commands without FUA are durable, too, when an initiator has switched the cache off.
    async fn keep_promise(&self) -> Result<(), Refusal> {
        let write_through = self.unit.scsi.borrow().write_through();
        if write_through { self.synchronize(false).await } else { Ok(()) }
    }

    /// GET LBA STATUS (SBC-3 5.4).
    pub async fn lba_status(&self, lba: u64, allocation_bytes: u32) -> Result<Vec<u8>, Refusal> {
        let geometry = *self.unit.scsi.borrow().geometry();
        let extents_max = (allocation_bytes.saturating_sub(8) / 16).clamp(1, EXTENTS_MAX);
        let range = self.range(lba, geometry.blocks - lba);
        let all = Extent { length: range.end - range.start, flags: 0 };
        let extents = match geometry.can_discard {
            true => self.unit.volume.extents(range.start, all.length, extents_max as usize).await,
            false => Ok(vec![all]),
        };
        let extents = extents.map_err(|fault| self.refuse(&fault, Access::Read))?;
        let blocks = in_blocks(range.start, &extents, self.block_bytes, geometry.blocks);
        Ok(put_lba_status(&blocks, allocation_bytes))
    }

    /// SYNCHRONIZE CACHE (SBC-3 5.26): all of it, whatever the range.
    pub async fn synchronize(&self, immediate: bool) -> Result<(), Refusal> {
        if !immediate {
            return self.flush().await;
        }
        let (unit, nexus) = (self.unit.clone(), self.errand.nexus());
        self.unit.core.spawn(async move {
            if let Err(fault) = unit.volume.flush().await {
                unit.fail_later(nexus, &fault);
            }
        });
        Ok(())
    }

    /// Makes all that was acknowledged durable. A leader that was lost meanwhile may have taken some of it along, of which
    /// the flush by the next one says nothing.
    pub async fn flush(&self) -> Result<(), Refusal> {
        let flushed = self.unit.volume.flush().await.map_err(|fault| self.refuse(&fault, Access::Write));
        self.unit.notice_loss();
        let loss = self.unit.scsi.borrow_mut().take_loss(self.errand.nexus());
        loss.map_or(flushed, Err)
    }

    /// PRE-FETCH (SBC-3 5.15): there is always room for what was asked for.
    pub async fn prefetch(&self, range: Range<u64>, immediate: bool) -> Result<(), Refusal> {
        let unit = self.unit.clone();
        let prefetch = async move { unit.volume.prefetch(range.start, range.end - range.start).await };
        match immediate {
            // It is advice: nobody needs to hear that it was not followed.
            true => self.unit.core.spawn(async move { drop(prefetch.await) }),
            false => prefetch.await.map_err(|fault| self.refuse(&fault, Access::Read))?,
        }
        Err(Refusal { status: Status::ConditionMet, sense: None })
    }

    /// The command came with less data than it takes.
    pub fn data_missing(&self) -> Refusal {
        Refusal::check(SenseKey::AbortedCommand, additional::NOT_ENOUGH_UNSOLICITED_DATA)
    }
}

impl LogicalUnit {
    /// A command that was answered already has failed.
    fn fail_later(&self, nexus: NexusId, fault: &Fault) {
        tracing::warn!(volume = self.name(), "after its command was answered: {fault}");
        let mut sense = fault.sense(Access::Write);
        sense.deferred = true;
        self.scsi.borrow_mut().defer(nexus, sense);
    }

    /// Between two steps on a store that never waits, a turn for everything else of this core.
    pub(super) async fn let_others(&self) {
        if self.volume.is_immediate() {
            verbs::sleep(&self.core, Duration::ZERO).await;
        }
    }
}

/// Extents of bytes from `start` on as runs of blocks: a block is deallocated if all of it lies in holes.
fn in_blocks(start: u64, extents: &[Extent], block_bytes: u64, blocks: u64) -> Vec<LbaExtent> {
    let mut runs: Vec<LbaExtent> = Vec::new();
    let mut at = start;
    let mut lba = start / block_bytes;
    for extent in extents {
        let end = at + extent.length;
        let hole = extent.flags & STATE_HOLE != 0;
        // Blocks that a hole has in part are mapped.
        let first = if hole { at.div_ceil(block_bytes) } else { lba };
        let next = if hole { end / block_bytes } else { end.div_ceil(block_bytes) }.min(blocks);
        push_run(&mut runs, &mut lba, first.min(blocks), Provisioning::Mapped);
        push_run(
            &mut runs,
            &mut lba,
            next,
            if hole { Provisioning::Deallocated } else { Provisioning::Mapped },
        );
        at = end;
    }
    runs
}

/// Extends the runs up to `until`.
fn push_run(runs: &mut Vec<LbaExtent>, lba: &mut u64, until: u64, provisioning: Provisioning) {
    if until <= *lba {
        return;
    }
    let blocks = until - *lba;
    match runs.last_mut() {
        Some(last) if last.provisioning == provisioning => last.blocks += blocks,
        _ => runs.push(LbaExtent { lba: *lba, blocks, provisioning }),
    }
    *lba = until;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: u64, hole: bool) -> Extent {
        Extent { length, flags: if hole { STATE_HOLE } else { 0 } }
    }

    fn run(lba: u64, blocks: u64, hole: bool) -> LbaExtent {
        let provisioning = if hole { Provisioning::Deallocated } else { Provisioning::Mapped };
        LbaExtent { lba, blocks, provisioning }
    }

    #[test]
    fn a_block_is_deallocated_only_where_all_of_it_is() {
        let bytes = [extent(4096, true), extent(4096, false), extent(4096, true), extent(4096, true)];
        assert_eq!(in_blocks(0, &bytes, 4096, 4), [run(0, 1, true), run(1, 1, false), run(2, 2, true)]);
        let bytes = [extent(6000, true), extent(1000, false), extent(9384, true)];
        assert_eq!(in_blocks(0, &bytes, 4096, 4), [run(0, 1, true), run(1, 1, false), run(2, 2, true)]);
        let bytes = [extent(1000, false), extent(1000, true), extent(2096, false)];
        assert_eq!(in_blocks(4096, &bytes, 4096, 4), [run(1, 1, false)]);
    }

    #[test]
    fn a_tail_behind_the_last_block_is_left_out() {
        assert_eq!(in_blocks(0, &[extent(4096 + 512, false)], 4096, 1), [run(0, 1, false)]);
    }
}
