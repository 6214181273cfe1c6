//! One SCSI command of a session while it is served: its data out as it comes, and whether it was aborted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use reactor::driver::Moment;
use reactor::sync::WaitList;
use reactor::{Buffer, View};
use wire::iscsi::pdu::{Lun, TaskAttribute};
use wire::iscsi::session::{self, Effect, TaskId};

use crate::budget::Held;
use crate::scsi_unit::{AttachedUnit, Errand};
use crate::serve_core::ServingCore;

/// A command.
pub struct Task {
    pub id: TaskId,
    /// When it came.
    pub arrived: Moment,
    /// Bytes that the initiator has room for.
    pub in_bytes: u32,
    /// Bytes that the initiator has to send.
    pub out_bytes: u32,
    lun: Lun,
    /// Its place among the session's tasks; 0 until it is started.
    place: Cell<u64>,
    attribute: Cell<TaskAttribute>,
    aborted: Cell<bool>,
    failed: Cell<Option<session::Fault>>,
    /// Bytes that came unasked.
    unsolicited_bytes: Cell<u32>,
    data: RefCell<DataOut>,
    changed: WaitList,
    /// On a unit of this core: what it still writes to should it be aborted.
    errand: RefCell<Option<Rc<Errand>>>,
    /// On a unit of another core.
    elsewhere: RefCell<Option<AttachedUnit>>,
    /// Its unit gives sense data in the descriptor format.
    descriptor_sense: Cell<bool>,
}

#[derive(Default)]
struct DataOut {
    /// Sequences of Data-Out under way.
    sequences: Vec<Sequence>,
    /// Whole ones, in the order they became whole.
    pieces: VecDeque<Piece>,
}

/// The data of one burst: immediate and unsolicited, or what one R2T asked for.
struct Sequence {
    start: u32,
    held: Held,
    bytes: Bytes,
}

enum Bytes {
    /// Its buffer is with the receiver.
    Away,
    Buffer(Buffer),
    /// Lent from a receive buffer.
    Lent(View),
}

/// Why no more data comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody waits for the task any more.
    Aborted,
    /// The initiator broke the rules of data out.
    Failed(session::Fault),
}

/// Data out that is here.
pub struct Piece {
    /// Its first byte's place in the command's data.
    pub start: u32,
    /// The bytes.
    pub view: View,
    /// Its part of the client's budget.
    pub held: Held,
}

impl Task {
    /// A command that has just been heard of.
    pub fn new(id: TaskId, arrived: Moment, asked: &session::Task) -> Rc<Task> {
        Rc::new(Task {
            id,
            arrived,
            in_bytes: if asked.read { asked.expected_bytes } else { 0 },
            out_bytes: if asked.write { asked.expected_bytes } else { 0 },
            lun: asked.lun,
            place: Cell::new(0),
            attribute: Cell::new(TaskAttribute::Simple),
            aborted: Cell::new(false),
            failed: Cell::new(None),
            unsolicited_bytes: Cell::new(0),
            data: RefCell::default(),
            changed: WaitList::default(),
            errand: RefCell::default(),
            elsewhere: RefCell::default(),
            descriptor_sense: Cell::new(false),
        })
    }

    /// The logical unit.
    pub fn lun(&self) -> Lun {
        self.lun
    }

    /// Its place among the session's tasks, and what that means.
    pub fn takes_place(&self, place: u64, attribute: TaskAttribute) {
        self.place.set(place);
        self.attribute.set(attribute);
    }

    /// Its place among the session's tasks; 0 until it is started.
    pub fn place(&self) -> u64 {
        self.place.get()
    }

    /// How it may be ordered among others.
    pub fn attribute(&self) -> TaskAttribute {
        self.attribute.get()
    }

    /// Whether nobody waits for it any more.
    pub fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Ends it early: it sends nothing more, and what it still writes is fenced until that is over.
    pub fn abort(&self, here: &ServingCore) {
        if self.aborted.replace(true) {
            return;
        }
        if let Some(errand) = self.errand.borrow().as_ref() {
            errand.abort();
        }
        if let Some(unit) = self.elsewhere.borrow().as_ref() {
            unit.abort(here, self.id.0);
        }
        // What has come of its data is of no use, and what comes finds no place.
        drop(self.data.take());
        self.changed.wake_all();
    }

    /// It runs on a unit of this core.
    pub fn runs_on(&self, errand: Rc<Errand>) {
        self.errand.replace(Some(errand));
    }

    /// It runs on a unit of another core.
    pub fn runs_elsewhere(&self, unit: AttachedUnit) {
        self.elsewhere.replace(Some(unit));
    }

    /// What it does on a unit of this core.
    pub fn errand(&self) -> Option<Rc<Errand>> {
        self.errand.borrow().clone()
    }

    /// How its unit gives sense data: in the descriptor format, or the fixed one.
    pub fn wants_descriptor_sense(&self, descriptor: bool) {
        self.descriptor_sense.set(descriptor);
    }

    /// Whether sense data goes out in the descriptor format.
    pub fn sense_is_descriptor(&self) -> bool {
        self.descriptor_sense.get()
    }

    /// Hears what has become of its data.
    pub fn hears(&self, effect: &Effect) {
        match *effect {
            Effect::Burst { start, end, .. } => self.arrived(start, end),
            Effect::DataFailed(_, fault) => self.failed.set(Some(fault)),
            _ => {}
        }
        self.changed.wake_all();
    }

    /// Whether a sequence with the byte at `offset` is under way.
    pub fn has_sequence(&self, offset: u32) -> bool {
        self.data.borrow().sequences.iter().any(|sequence| sequence.start <= offset)
    }

    /// Begins a sequence at `start`, in `buffer`.
    pub fn expect(&self, start: u32, buffer: Buffer, held: Held) {
        self.data.borrow_mut().sequences.push(Sequence { start, held, bytes: Bytes::Buffer(buffer) });
    }

    /// Begins a sequence at 0 with bytes that are lent.
    pub fn lend(&self, view: View, held: Held) {
        self.data.borrow_mut().sequences.push(Sequence { start: 0, held, bytes: Bytes::Lent(view) });
    }

    /// The buffer of the sequence with the byte at `offset`, and where it begins; the caller gives it back by
    /// `put_buffer`. `None` when the task waits for no such data.
    pub fn take_buffer(&self, offset: u32) -> Option<(Buffer, u32)> {
        let mut data = self.data.borrow_mut();
        let sequences = data.sequences.iter_mut().filter(|sequence| sequence.start <= offset);
        let sequence = sequences.max_by_key(|sequence| sequence.start)?;
        match std::mem::replace(&mut sequence.bytes, Bytes::Away) {
            Bytes::Buffer(buffer) => Some((buffer, sequence.start)),
            Bytes::Lent(_) | Bytes::Away => None,
        }
    }

    /// Gives the buffer of the sequence at `start` back.
    pub fn put_buffer(&self, start: u32, buffer: Buffer) {
        let mut data = self.data.borrow_mut();
        if let Some(sequence) = data.sequences.iter_mut().find(|sequence| sequence.start == start) {
            sequence.bytes = Bytes::Buffer(buffer);
        }
    }

    /// The sequence from `start` to `end` is whole.
    fn arrived(&self, start: u32, end: u32) {
        if start == 0 {
            self.unsolicited_bytes.set(end);
        }
        let mut data = self.data.borrow_mut();
        let len = (end - start) as usize;
        if let Some(at) = data.sequences.iter().position(|sequence| sequence.start == start) {
            let Sequence { held, bytes, .. } = data.sequences.swap_remove(at);
            let view = match bytes {
                Bytes::Buffer(mut buffer) => {
                    buffer.resize(len);
                    buffer.into_view(0, len)
                }
                Bytes::Lent(view) => view,
                Bytes::Away => unreachable!("the receiver gives a buffer back before it says so"),
            };
            data.pieces.push_back(Piece { start, view, held });
        }
    }

    /// Waits until the data that comes unasked has come, as `is_awaited` says: how much that was.
    pub async fn unsolicited(&self, is_awaited: impl Fn() -> bool) -> Result<u32, Ended> {
        while self.check().is_ok() && is_awaited() {
            self.changed.wait().await;
        }
        self.check().map(|()| self.unsolicited_bytes.get())
    }

    /// The next piece that is whole.
    pub async fn next_piece(&self) -> Result<Piece, Ended> {
        loop {
            self.check()?;
            if let Some(mut piece) = self.data.borrow_mut().pieces.pop_front() {
                // Not before: until its task takes it, it waits for whatever the task waits for.
                piece.held.moves();
                return Ok(piece);
            }
            self.changed.wait().await;
        }
    }

    /// Whether more data may come.
    pub fn check(&self) -> Result<(), Ended> {
        match self.failed.get() {
            _ if self.is_aborted() => Err(Ended::Aborted),
            Some(fault) => Err(Ended::Failed(fault)),
            None => Ok(()),
        }
    }

    /// Whether data is here that it has not taken, or under way.
    pub fn is_fed(&self) -> bool {
        let data = self.data.borrow();
        !data.sequences.is_empty() || !data.pieces.is_empty()
    }

    /// Sequences under way.
    pub fn sequences(&self) -> usize {
        self.data.borrow().sequences.len()
    }
}
