//! One command, from what the machine has let through to what its initiator is told.

use std::ops::Range;
use std::rc::Rc;

use reactor::sync::Permit;
use reactor::{Buffer, View};
use wire::scsi::{Command, NexusId, Refusal, SenseKey, Status, UnitCommand, additional};

use crate::fault::{Access, Fault};
use crate::scsi_unit::payload::{Payload, STEP_BYTES, buffer, bytes_of, views_of};
use crate::scsi_unit::{Errand, HELD_GRAIN_BYTES, LogicalUnit};
use crate::serve_core::ServingCore;
use crate::snapshot::Operation;

/// What a command sends to its initiator.
#[derive(Debug, Default)]
pub enum DataIn {
    /// Nothing.
    #[default]
    None,
    /// Bytes of the medium.
    Views(Vec<View>),
    /// What the unit says.
    Bytes(Vec<u8>),
}

impl DataIn {
    /// Its length.
    pub fn len(&self) -> usize {
        match self {
            DataIn::None => 0,
            DataIn::Views(views) => views.iter().map(View::len).sum(),
            DataIn::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a command ended.
pub struct Outcome {
    /// GOOD, or another status. CONDITION MET is among the others.
    pub result: Result<(), Refusal>,
    /// What goes to the initiator.
    pub data_in: DataIn,
    /// Bytes that the command moves by its CDB, for the residual.
    pub scsi_bytes: u64,
    /// Counts as this, with so many bytes; `None` for what does not touch the medium.
    pub counted: Option<(Operation, u64)>,
    /// The data in are held in memory for as long as this.
    pub held: Option<Permit>,
}

/// The same in a form that may leave the core.
#[derive(Debug)]
pub struct Done {
    /// GOOD, or another status.
    pub result: Result<(), Refusal>,
    /// What goes to the initiator.
    pub data_in: Vec<u8>,
    /// Bytes that the command moves by its CDB, for the residual.
    pub scsi_bytes: u64,
    /// Sense data goes out in the descriptor format.
    pub descriptor_sense: bool,
}

/// What nobody hears: the command was aborted.
pub(super) const ABORTED: Refusal = Refusal { status: Status::TaskAborted, sense: None };

/// A command being carried out.
pub(super) struct Work<'a> {
    pub unit: &'a Rc<LogicalUnit>,
    pub here: &'a Rc<ServingCore>,
    pub errand: &'a Errand,
    pub block_bytes: u64,
}

impl LogicalUnit {
    /// Carries out `command`, which `begin` has let through, with all its data out (what is missing of it was never
    /// sent; what is too much is left alone). To be polled to its end also when the command is aborted: it ends as
    /// soon as its I/O does.
    pub async fn perform(
        self: &Rc<Self>,
        here: &Rc<ServingCore>,
        errand: &Errand,
        command: &Command,
        data_out: Vec<View>,
    ) -> Outcome {
        let block_bytes = self.scsi.borrow().geometry().block_bytes;
        let work = Work { unit: self, here, errand, block_bytes: block_bytes.into() };
        let mut held = None;
        let result = match command {
            Command::Read { lba, blocks, .. } => {
                let bytes = u64::from(*blocks) * u64::from(block_bytes);
                held = Some(self.held.enter((bytes as usize).div_ceil(HELD_GRAIN_BYTES)).await);
                work.read(work.range(*lba, u64::from(*blocks))).await
            }
            Command::Unit(command) => work.answer(command, data_out).await,
            _ => work.on_the_medium(command, data_out).await,
        };
        errand.end();
        let out_bytes = command.data_out_bytes(block_bytes);
        let (result, data_in) = match result {
            Ok(data_in) => (Ok(()), data_in),
            Err(refusal) => (Err(refusal), DataIn::None),
        };
        let scsi_bytes = if out_bytes > 0 { out_bytes } else { data_in.len() as u64 };
        Outcome { result, data_in, scsi_bytes, counted: counted_as(command, block_bytes), held }
    }

    /// The whole of a command for those who are not on this core, or are not a session: from its CDB to what goes
    /// back. `None` when it was aborted under its tag.
    pub async fn execute(
        self: &Rc<Self>,
        here: &Rc<ServingCore>,
        nexus: NexusId,
        tag: u32,
        cdb: &[u8],
        data_out: &[u8],
    ) -> Option<Done> {
        let arrived = self.core.turn_started();
        if !self.has(nexus) {
            return None;
        }
        self.notice_loss();
        let begun = self.scsi.borrow_mut().begin(nexus, cdb);
        let checked = begun.and_then(|command| {
            check_length(&command, self.block_bytes(), data_out.len() as u64).map(|()| command)
        });
        let command = match checked {
            Ok(command) => command,
            Err(refusal) => return Some(self.done(Err(refusal), Vec::new(), 0)),
        };
        let errand = self.errand(nexus);
        self.running.borrow_mut().insert((nexus, tag), errand.clone());
        let views = views_of(&self.core, data_out);
        let outcome = self.perform(here, &errand, &command, views).await;
        // An aborted one's tag may be in use again already.
        let mut running = self.running.borrow_mut();
        if running.get(&(nexus, tag)).is_some_and(|other| Rc::ptr_eq(other, &errand)) {
            running.remove(&(nexus, tag));
        }
        drop(running);
        if let Some((operation, bytes)) = outcome.counted {
            let ok = succeeded(&outcome.result);
            self.volume.record(operation, bytes, ok, self.core.now() - arrived);
        }
        if errand.is_aborted() {
            return None;
        }
        let data_in = match outcome.data_in {
            DataIn::None => Vec::new(),
            DataIn::Views(views) => bytes_of(&views),
            DataIn::Bytes(bytes) => bytes,
        };
        Some(self.done(outcome.result, data_in, outcome.scsi_bytes))
    }

    fn done(&self, result: Result<(), Refusal>, data_in: Vec<u8>, scsi_bytes: u64) -> Done {
        let descriptor_sense = self.scsi.borrow().wants_descriptor_sense();
        Done { result, data_in, scsi_bytes, descriptor_sense }
    }
}

impl Work<'_> {
    async fn on_the_medium(&self, command: &Command, data_out: Vec<View>) -> Result<DataIn, Refusal> {
        let out_bytes = command.data_out_bytes(self.block_bytes as u32);
        let mut data = Payload::new(&self.unit.core, data_out, out_bytes);
        let range = match command.extent() {
            Some((lba, blocks)) => self.range(lba, blocks),
            None => 0..0,
        };
        self.passage(&range).await?;
        match *command {
            Command::Write { fua, verify: None, .. } => self.write(range.start, &mut data, fua).await?,
            Command::Write { verify: Some(check), .. } => self.write_and_verify(range, data, check).await?,
            Command::Verify { check, .. } => self.verify(range, check, data).await?,
            Command::OrWrite { fua, .. } => self.or_write(range.start, data, fua).await?,
            Command::CompareAndWrite { fua, .. } => self.compare_and_write(range, data, fua).await?,
            Command::WriteSame { unmap, ndob, .. } => self.write_same(range, unmap, ndob, data).await?,
            Command::Unmap { .. } => self.unmap(data).await?,
            Command::SynchronizeCache { immediate, .. } => self.synchronize(immediate).await?,
            Command::PreFetch { immediate, .. } => self.prefetch(range, immediate).await?,
            Command::GetLbaStatus { lba, allocation_bytes } => {
                return self.lba_status(lba, allocation_bytes).await.map(DataIn::Bytes);
            }
            Command::ExtendedCopy { lid4, .. } => self.extended_copy(lid4, data).await?,
            Command::Sanitize { action, immediate, .. } => self.sanitize(action, immediate, data).await?,
            Command::Read { .. } | Command::Unit(_) => unreachable!("carried out by `perform`"),
        }
        Ok(DataIn::None)
    }

    async fn answer(&self, command: &UnitCommand, data_out: Vec<View>) -> Result<DataIn, Refusal> {
        let unit = self.unit;
        let nexus = self.errand.nexus();
        if !unit.has(nexus) {
            return Err(ABORTED);
        }
        let answer = unit.scsi.borrow_mut().answer(nexus, command, &bytes_of(&data_out));
        for other in answer.abort {
            unit.abort_tasks(other);
        }
        if let Some(reservations) = answer.save
            && let Err(fault) = unit.reservations.replace(reservations).await
        {
            tracing::error!(volume = unit.name(), "reservations are not saved: {fault}");
            return Err(Refusal::check(SenseKey::HardwareError, additional::INTERNAL_TARGET_FAILURE));
        }
        if answer.flush {
            self.flush().await?;
        }
        answer.result.map(DataIn::Bytes)
    }

    async fn read(&self, range: Range<u64>) -> Result<DataIn, Refusal> {
        self.passage(&range).await?;
        let mut views = Vec::new();
        for step in steps(range) {
            views.push(self.read_step(step).await?);
        }
        Ok(DataIn::Views(views))
    }

    /// The bytes of one step.
    pub async fn read_step(&self, step: Range<u64>) -> Result<View, Refusal> {
        self.goes_on()?;
        let len = (step.end - step.start) as usize;
        let read = self.unit.volume.read(step.start, len, async |len| self.buffer(len)).await;
        read.map_err(|fault| self.refuse(&fault, Access::Read))
    }

    /// Writes `data` from `offset` on, step by step.
    pub async fn write(&self, offset: u64, data: &mut Payload, durable: bool) -> Result<(), Refusal> {
        let mut at = offset;
        self.errand.writes_to(offset, data.len() as u64);
        while let Some(view) = data.next(self.block_bytes as usize) {
            self.goes_on()?;
            let len = view.len() as u64;
            let written = self.unit.volume.write(at, view, durable).await;
            written.map_err(|fault| self.refuse(&fault, Access::Write))?;
            at += len;
        }
        Ok(())
    }

    /// Waits for what aborted commands may still write to the range.
    pub async fn passage(&self, range: &Range<u64>) -> Result<(), Refusal> {
        if !range.is_empty() && self.unit.is_fenced() {
            self.errand.passage(range.start, range.end - range.start).await;
        }
        self.goes_on()
    }

    /// An aborted command stops where it is.
    pub fn goes_on(&self) -> Result<(), Refusal> {
        if self.errand.is_aborted() {
            return Err(ABORTED);
        }
        Ok(())
    }

    /// The bytes of these blocks.
    pub fn range(&self, lba: u64, blocks: u64) -> Range<u64> {
        lba * self.block_bytes..(lba + blocks) * self.block_bytes
    }

    pub fn buffer(&self, len: usize) -> Buffer {
        buffer(&self.unit.core, len)
    }

    /// What an initiator is told of a fault; the rest goes into the log.
    pub fn refuse(&self, fault: &Fault, access: Access) -> Refusal {
        if self.here.clients().may_log() {
            tracing::warn!(volume = self.unit.name(), "{fault}");
        }
        Refusal::with_sense(fault.sense(access))
    }
}

/// Whether an initiator may send `sent_bytes` with `command`. For most the CDB alone decides how much is taken, and
/// the rest is residual; these two would do something else than was meant.
pub fn check_length(command: &Command, block_bytes: u32, sent_bytes: u64) -> Result<(), Refusal> {
    let fits = match command {
        Command::CompareAndWrite { .. } => sent_bytes == command.data_out_bytes(block_bytes),
        // Without a block there is still the wish to unmap.
        Command::WriteSame { unmap: true, .. } if sent_bytes == 0 => true,
        Command::WriteSame { .. } => sent_bytes == command.data_out_bytes(block_bytes),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Refusal::illegal(additional::INVALID_FIELD_IN_CDB)) }
}

/// Whether a status means that what was asked for has been done.
pub fn succeeded(result: &Result<(), Refusal>) -> bool {
    result.as_ref().err().is_none_or(|refusal| refusal.status == Status::ConditionMet)
}

/// A range in steps, which end at multiples of a step.
pub(super) fn steps(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = range.end.min((start / STEP_BYTES as u64 + 1) * STEP_BYTES as u64);
        (start < range.end).then_some(start..at)
    })
}

/// What a command counts as, with how many bytes; `None` for what does not touch the medium, or is counted by its
/// parts.
pub fn counted_as(command: &Command, block_bytes: u32) -> Option<(Operation, u64)> {
    let operation = match command {
        Command::Read { .. } | Command::Verify { .. } => Operation::Read,
        Command::Write { .. } | Command::OrWrite { .. } | Command::CompareAndWrite { .. } => Operation::Write,
        Command::WriteSame { .. } | Command::Sanitize { .. } => Operation::WriteZeroes,
        Command::Unmap { .. } => Operation::Trim,
        Command::SynchronizeCache { .. } => return Some((Operation::Flush, 0)),
        Command::PreFetch { .. } => Operation::Cache,
        Command::GetLbaStatus { .. } => Operation::BlockStatus,
        Command::ExtendedCopy { .. } | Command::Unit(_) => return None,
    };
    let blocks = command.extent().map_or(0, |(_, blocks)| blocks);
    Some((operation, blocks * u64::from(block_bytes)))
}
