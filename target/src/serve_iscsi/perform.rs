//! From a command that is next in order to its response.
//!
//! READ and WRITE on this core stream between socket and volume; every other command has its data whole, and the
//! logical unit, here or on another core, carries it out.

use std::rc::Rc;

use reactor::View;
use wire::iscsi::pdu::{Cdb, Lun, Response};
use wire::iscsi::session::{Effect, TaskId};
use wire::scsi::{Command, Refusal, Sense, SenseKey, Status, begin_without_unit};

use crate::fault::{Access, Fault};
use crate::outbox::Receipt;
use crate::scsi_unit::{
    AttachedUnit, DataIn, LogicalUnit, TRANSFER_BYTES_MAX, bytes_of, check_length, lost, succeeded, views_of,
};
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::data::DataOut;
use crate::serve_iscsi::read::{Read, read};
use crate::serve_iscsi::task::{Ended, Piece, Task};
use crate::serve_iscsi::write::{Write, write};
use crate::snapshot::Operation;

/// Starts a command, when its turn has come. `data` says what has become of its data so far, which it has to know
/// before it asks for more, or is answered.
pub fn start(connection: &Rc<Connection>, id: TaskId, data: Option<Effect>) {
    if !connection.session.borrow().is_wanted(id) {
        // Aborted by a later request that waited for it: what carries that out forgets it.
        return;
    }
    let task = connection.entry(id);
    if let Some(data) = data {
        task.hears(&data);
    }
    connection.budget.begin();
    let attribute = connection.session.borrow().task(id).attribute;
    if connection.order.enter(&task, attribute) {
        return start_now(connection, task);
    }
    spawn(connection, task, async |connection, task| match connection.turn(task).await {
        true => start_now(connection, task.clone()),
        false => connection.forget(task),
    });
}

fn start_now(connection: &Rc<Connection>, task: Rc<Task>) {
    let cdb = connection.session.borrow().task(task.id).cdb.clone();
    match connection.unit(task.lun()) {
        Some((lun, unit)) => match unit.local() {
            Some(unit) => start_here(connection, task, unit.clone(), lun, &cdb),
            None => spawn(connection, task, async move |connection, task| {
                elsewhere(connection, task, unit, lun, &cdb).await
            }),
        },
        None => {
            let luns: Vec<u64> = connection.luns().into_iter().map(|lun| Lun::from_number(lun).0).collect();
            let answer = begin_without_unit(&cdb, &luns);
            spawn(connection, task, async move |connection, task| at_once(connection, task, answer).await);
        }
    }
}

fn start_here(connection: &Rc<Connection>, task: Rc<Task>, unit: Rc<LogicalUnit>, lun: u16, cdb: &Cdb) {
    unit.notice_loss();
    let begun = unit.scsi().borrow_mut().begin(connection.nexus, cdb);
    let begun = begun.and_then(|command| {
        check_length(&command, unit.block_bytes(), task.out_bytes.into()).map(|()| command)
    });
    let block = u64::from(unit.block_bytes());
    task.wants_descriptor_sense(unit.scsi().borrow().wants_descriptor_sense());
    match begun {
        Ok(Command::Read { lba, blocks, .. }) => {
            task.runs_on(unit.errand(connection.nexus));
            let work = Read { unit, lun, offset: lba * block, bytes: u64::from(blocks) * block };
            spawn(connection, task, async move |connection, task| read(connection, task, work).await);
        }
        Ok(Command::Write { lba, blocks, fua, verify: None }) => {
            task.runs_on(unit.errand(connection.nexus));
            let bytes = u64::from(blocks) * block;
            let work = Write { unit, lun, offset: lba * block, bytes, durable: fua };
            spawn(connection, task, async move |connection, task| write(connection, task, work).await);
        }
        Ok(command) => {
            task.runs_on(unit.errand(connection.nexus));
            spawn(connection, task, async move |connection, task| {
                on_unit(connection, task, &unit, lun, command).await
            });
        }
        Err(refusal) => spawn(connection, task, async move |connection, task| {
            at_once(connection, task, Err(refusal)).await
        }),
    }
}

fn spawn(
    connection: &Rc<Connection>,
    task: Rc<Task>,
    work: impl AsyncFnOnce(&Rc<Connection>, &Rc<Task>) + 'static,
) {
    let connection = connection.clone();
    connection.here.core().clone().spawn(async move { work(&connection, &task).await });
}

async fn on_unit(
    connection: &Rc<Connection>,
    task: &Rc<Task>,
    unit: &Rc<LogicalUnit>,
    lun: u16,
    command: Command,
) {
    let total = command.data_out_bytes(unit.block_bytes());
    let pieces = match collected(connection, task, total).await {
        Ok(pieces) => pieces,
        Err(ended) => return connection.data_ended(task, ended),
    };
    let (views, held): (Vec<View>, Vec<_>) = pieces.into_iter().map(|piece| (piece.view, piece.held)).unzip();
    let errand = task.errand().expect("a task on a unit of this core has an errand");
    let outcome = unit.perform(&connection.here, &errand, &command, views).await;
    drop(held);
    let views = match outcome.data_in {
        DataIn::None => Vec::new(),
        DataIn::Views(views) => views,
        DataIn::Bytes(bytes) => views_of(connection.here.core(), &bytes),
    };
    let ok = succeeded(&outcome.result);
    let mut receipt = connection.receipt(task, Operation::Read, None, ok, 0);
    if let Some((operation, bytes)) = outcome.counted {
        receipt = Receipt { operation, bytes, unit: Some(lun), ..receipt };
    }
    match outcome.result {
        Ok(()) => connection.answer(task, views, outcome.scsi_bytes, receipt),
        Err(refusal) => connection.refuse(task, &refusal, receipt),
    }
}

/// A command to a unit of another core: whatever data the initiator has goes along, as far as any command takes it.
async fn elsewhere(connection: &Rc<Connection>, task: &Rc<Task>, unit: AttachedUnit, lun: u16, cdb: &Cdb) {
    let pieces = match collected(connection, task, TRANSFER_BYTES_MAX).await {
        Ok(pieces) => pieces,
        Err(ended) => return connection.data_ended(task, ended),
    };
    let (views, held): (Vec<View>, Vec<_>) = pieces.into_iter().map(|piece| (piece.view, piece.held)).unzip();
    let held_bytes = u64::from(task.in_bytes).min(TRANSFER_BYTES_MAX) as usize;
    if held_bytes > 0 {
        // It has data in one direction, so nothing of its own is waited for.
        connection.budget.hold_beside_stuck(held_bytes).await;
    }
    let done = match task.is_aborted() {
        true => None,
        false => {
            task.runs_elsewhere(unit.clone());
            unit.execute(&connection.here, task.id.0, cdb, bytes_of(&views)).await
        }
    };
    drop(held);
    let done = done.unwrap_or_else(lost);
    task.wants_descriptor_sense(done.descriptor_sense);
    let receipt = connection.receipt(task, Operation::Read, Some(lun), succeeded(&done.result), 0);
    let receipt = Receipt { held_bytes, ..receipt };
    match done.result {
        Ok(()) => {
            let views = views_of(connection.here.core(), &done.data_in);
            connection.answer(task, views, done.scsi_bytes, receipt);
        }
        Err(refusal) => connection.refuse(task, &refusal, receipt),
    }
}

async fn collected(connection: &Rc<Connection>, task: &Rc<Task>, total: u64) -> Result<Vec<Piece>, Ended> {
    DataOut::begin(connection, task, total).await?.collect().await
}

/// A command that is answered without its data: what comes unasked is let in first, and forgotten.
async fn at_once(connection: &Rc<Connection>, task: &Rc<Task>, answer: Result<Vec<u8>, Refusal>) {
    if let Err(ended) = DataOut::begin(connection, task, 0).await {
        return connection.data_ended(task, ended);
    }
    let receipt = connection.receipt(task, Operation::Read, None, answer.is_ok(), 0);
    match answer {
        Ok(data) => {
            let bytes = data.len() as u64;
            connection.answer(task, views_of(connection.here.core(), &data), bytes, receipt);
        }
        Err(refusal) => connection.refuse(task, &refusal, receipt),
    }
}

impl Connection {
    /// Ends a task with another status than GOOD.
    fn refuse(&self, task: &Task, refusal: &Refusal, receipt: Receipt) {
        self.respond(task, refusal.status, refusal.sense.as_ref(), 0, receipt);
    }

    /// Ends a READ that moved no data, well.
    pub fn read_nothing(&self, task: &Task, lun: u16, scsi_bytes: u64) {
        let receipt = self.receipt(task, Operation::Read, Some(lun), true, 0);
        self.respond(task, Status::Good, None, scsi_bytes, receipt);
    }

    /// Ends a WRITE, well.
    pub fn written(&self, task: &Task, write: &Write) {
        let receipt = self.receipt(task, Operation::Write, Some(write.lun), true, write.bytes);
        self.respond(task, Status::Good, None, write.bytes, receipt);
    }

    /// Ends a task that a volume has failed; the whole story goes into the log.
    pub fn failed(&self, task: &Task, operation: Operation, lun: u16, fault: &Fault) {
        if self.here.clients().may_log() {
            tracing::warn!(iscsi_target = self.target_name(), lun, "{fault}");
        }
        let access = if operation == Operation::Read { Access::Read } else { Access::Write };
        let receipt = self.receipt(task, operation, Some(lun), false, 0);
        self.refuse(task, &Refusal::with_sense(fault.sense(access)), receipt);
    }

    /// Ends a task whose data did not come as it should.
    pub fn data_ended(&self, task: &Task, ended: Ended) {
        match ended {
            Ended::Aborted => self.forget(task),
            Ended::Failed(fault) => {
                let refusal = Refusal::check(SenseKey::AbortedCommand, fault.additional_sense());
                let receipt = self.receipt(task, Operation::Write, None, false, 0);
                self.refuse(task, &refusal, receipt);
            }
        }
    }

    /// Sends data in and GOOD.
    fn answer(&self, task: &Task, views: Vec<View>, scsi_bytes: u64, receipt: Receipt) {
        if task.is_aborted() {
            self.budget.release(receipt.held_bytes);
            return self.forget(task);
        }
        let end = views.iter().map(View::len).sum::<usize>().min(task.in_bytes as usize);
        if end == 0 {
            return self.respond(task, Status::Good, None, scsi_bytes, receipt);
        }
        let mut receipt = Some(receipt);
        let mut at = 0;
        for mut view in views {
            if view.len() > end - at {
                view = view.split_to(end - at);
            }
            let len = view.len();
            if len > 0 {
                self.send_piece(task, (at, end), scsi_bytes, view, |_, is_last| {
                    if is_last { receipt.take() } else { None }.unwrap_or_else(Receipt::none)
                });
            }
            at += len;
        }
    }

    /// Ends an aborted task: nothing is sent.
    pub fn forget(&self, task: &Task) {
        self.session.borrow_mut().forget(task.id);
        self.remove(task.id);
        self.budget.ended();
    }

    fn respond(&self, task: &Task, status: Status, sense: Option<&Sense>, scsi_bytes: u64, receipt: Receipt) {
        if task.is_aborted() {
            self.budget.release(receipt.held_bytes);
            return self.forget(task);
        }
        let mut data = Vec::new();
        if let Some(sense) = sense {
            // SenseLength before the sense data (RFC 7143, section 11.4.7)
            data.extend_from_slice(&[0; 2]);
            sense.encode(task.sense_is_descriptor(), &mut data);
            let len = data.len() as u16 - 2;
            data[..2].copy_from_slice(&len.to_be_bytes());
        }
        let response = self.session.borrow_mut().respond(task.id, status as u8, scsi_bytes);
        self.remove(task.id);
        self.send_booked(&Response::Command(response), &data, receipt);
    }

    fn receipt(&self, task: &Task, operation: Operation, lun: Option<u16>, ok: bool, bytes: u64) -> Receipt {
        Receipt { operation, bytes, ok, arrived: task.arrived, held_bytes: 0, ends_request: true, unit: lun }
    }
}
