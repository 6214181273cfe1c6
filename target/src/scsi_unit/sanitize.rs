//! SANITIZE (SBC-3 5.24): everything on the medium is overwritten or let go.
//!
//! It runs on a task of its own, whoever asked for it and goes away. A mark on the disk says that it has begun: a
//! unit that finds one when it is opened was interrupted, and is as if the operation had failed, without the
//! permission to leave that (AUSE). Clients of other fronts are not kept out: what they write meanwhile may stay.

use std::rc::Rc;
use std::time::Duration;

use reactor::View;
use reactor::executor::Sleep;
use reactor::sync::one_shot;
use wire::scsi::sanitize::{self, Overwrite};
use wire::scsi::{Refusal, SanitizeAction, SenseKey, additional};

use crate::fault::{Fault, Kind};
use crate::scsi_unit::LogicalUnit;
use crate::scsi_unit::payload::{Payload, STEP_BYTES, buffer};
use crate::scsi_unit::perform::{ABORTED, Work, steps};
use crate::store::Zeroing;

/// What is let go before the progress is told.
const ERASE_STEP_BYTES: u64 = 64 << 20;
/// How long an overwriting takes at least, spread over all of it: initiators look after some seconds whether it has
/// begun, and again after a reset whether it goes on.
const OVERWRITE_TIME_MIN: Duration = Duration::from_secs(6);
/// The contents of the mark, for people.
const MARK: &[u8] = b"a SANITIZE of this volume has begun and not succeeded yet\n";

/// What this volume has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sanitizing {
    /// None was begun, or the last one has succeeded.
    #[default]
    No,
    /// One is under way.
    Running,
    /// The last one failed.
    Failed,
}

impl Work<'_> {
    /// Starts a SANITIZE, and waits for its end unless `immediate`.
    pub async fn sanitize(
        &self,
        action: SanitizeAction,
        immediate: bool,
        data: Payload,
    ) -> Result<(), Refusal> {
        let unit = self.unit;
        if unit.sanitizing.get() == Sanitizing::Running {
            // Both had passed the gates before either began.
            return Err(Refusal::check(SenseKey::NotReady, additional::SANITIZE_IN_PROGRESS));
        }
        let overwrite = match action {
            SanitizeAction::Overwrite => {
                let geometry = *unit.scsi.borrow().geometry();
                Some(sanitize::parse(&data.into_bytes(), &geometry)?)
            }
            SanitizeAction::BlockErase => None,
            SanitizeAction::ExitFailureMode => {
                unit.set_sanitizing(Sanitizing::No);
                unit.forget_mark().await;
                return Ok(());
            }
        };
        let before = unit.sanitizing.get();
        unit.set_sanitizing(Sanitizing::Running);
        if let Err(fault) = unit.sanitize_mark.replace(MARK.to_vec()).await {
            unit.set_sanitizing(before);
            tracing::error!(volume = unit.name(), "SANITIZE cannot begin: {fault}");
            return Err(Refusal::check(SenseKey::HardwareError, additional::INTERNAL_TARGET_FAILURE));
        }
        let (giver, taker) = one_shot();
        let working = unit.clone();
        unit.core.spawn(async move { giver.give(working.sanitize_all(overwrite).await) });
        if immediate {
            return Ok(());
        }
        match self.errand.unless_aborted(taker).await {
            Some(Some(true)) => Ok(()),
            Some(_) => Err(Refusal::check(SenseKey::MediumError, additional::SANITIZE_COMMAND_FAILED)),
            None => Err(ABORTED),
        }
    }
}

impl LogicalUnit {
    /// A SANITIZE that the last run of the node did not finish has failed.
    pub(super) async fn recall_sanitize(&self) -> Result<(), Fault> {
        if self.sanitize_mark.load().await?.is_some() {
            tracing::error!(
                volume = self.name(),
                "its last SANITIZE was interrupted or failed; it serves no data until another one succeeds"
            );
            self.set_sanitizing(Sanitizing::Failed);
        }
        Ok(())
    }

    /// The operation itself; whether it succeeded.
    async fn sanitize_all(self: Rc<Self>, overwrite: Option<Overwrite>) -> bool {
        // What was begun before must not land on top of it.
        self.volume.settled().await;
        let done = match &overwrite {
            Some(overwrite) => self.overwrite(overwrite).await,
            None => self.erase().await,
        };
        let done = match done {
            Ok(()) => self.volume.flush().await,
            failed => failed,
        };
        match &done {
            Ok(()) => {
                self.forget_mark().await;
                self.set_sanitizing(Sanitizing::No);
            }
            Err(fault) => {
                tracing::error!(volume = self.name(), "SANITIZE has failed: {fault}");
                self.set_sanitizing(Sanitizing::Failed);
            }
        }
        done.is_ok()
    }

    fn set_sanitizing(&self, sanitizing: Sanitizing) {
        self.sanitizing.set(sanitizing);
        let scsi = &mut *self.scsi.borrow_mut();
        match sanitizing {
            Sanitizing::Running => scsi.sanitize_started(),
            Sanitizing::No => scsi.sanitize_ended(true),
            Sanitizing::Failed => scsi.sanitize_ended(false),
        }
    }

    async fn overwrite(&self, how: &Overwrite) -> Result<(), Fault> {
        let block_bytes = self.block_bytes() as usize;
        let begun = self.core.now();
        for pass in 0..how.passes {
            let invert = how.invert && pass % 2 == 1;
            let mut pattern = buffer(&self.core, STEP_BYTES);
            for block in pattern.bytes_mut().chunks_mut(block_bytes) {
                let repeated = how.pattern.iter().cycle();
                block
                    .iter_mut()
                    .zip(repeated)
                    .for_each(|(to, from)| *to = if invert { !from } else { *from });
            }
            let pattern = Rc::new(pattern);
            let size_bytes = self.volume.size_bytes();
            for step in steps(0..size_bytes) {
                self.must_be_open()?;
                let view = View::of_shared(&pattern, 0, (step.end - step.start) as usize);
                self.volume.write(step.start, view, false).await?;
                let all = u64::from(how.passes) * size_bytes;
                let done = u64::from(pass) * size_bytes + step.end;
                self.sanitize_came_to(done, all);
                let due = begun + OVERWRITE_TIME_MIN.mul_f64(done as f64 / all as f64);
                Sleep::until(due).await;
            }
        }
        Ok(())
    }

    async fn erase(&self) -> Result<(), Fault> {
        let size_bytes = self.volume.size_bytes();
        let mut at = 0;
        while at < size_bytes {
            self.must_be_open()?;
            let len = (size_bytes - at).min(ERASE_STEP_BYTES);
            let how = Zeroing { may_unmap: true, fast_only: false };
            self.volume.write_zeroes(at, len, how, false).await?;
            at += len;
            self.sanitize_came_to(at, size_bytes);
        }
        Ok(())
    }

    fn must_be_open(&self) -> Result<(), Fault> {
        match self.closed.get() {
            true => Err(Fault::new(Kind::ShuttingDown, "the volume is going away")),
            false => Ok(()),
        }
    }

    fn sanitize_came_to(&self, done: u64, all: u64) {
        let progress = u128::from(done) * 0xffff / u128::from(all.max(1));
        self.scsi.borrow_mut().sanitize_progress(progress as u16);
    }

    async fn forget_mark(&self) {
        if let Err(fault) = self.sanitize_mark.remove().await {
            tracing::error!(
                volume = self.name(),
                "at the next start a finished SANITIZE will seem to have failed: {fault}"
            );
        }
    }
}
