//! What clients ask of a mirrored volume: each a request of the machine, and a task that waits for its end.
//!
//! Its one rule: a read's own task fills its buffer, from the client's budget, when the machine says so, or at once
//! where the machine says beforehand and afterwards that it may.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::sync::WaitList;
use reactor::{Buffer, View};
use replication::{ByteRange, Change, DataId, Event, LocalResult, OpId, Operation, RequestId, Time};

use super::Mirror;
use super::effects::disk_fault;
use super::stages::Stage;
use crate::fault::{Fault, Kind};
use crate::sabotage::Sabotage;

/// The requests of all clients of one volume.
#[derive(Default)]
pub struct Requests {
    slots: RefCell<Vec<Rc<Slot>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Default)]
struct Slot {
    news: Cell<Option<News>>,
    changed: WaitList,
}

/// What a request's task is told.
pub enum News {
    /// Read the range from here, and report to the machine.
    ReadHere(OpId),
    /// It is over.
    Over(Result<Option<DataId>, replication::Fault>),
    /// The volume is going away.
    Closed,
}

/// A request under way.
struct Request<'a> {
    requests: &'a Requests,
    index: usize,
    slot: Rc<Slot>,
}

impl Requests {
    fn begin(&self) -> Request<'_> {
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Rc::default());
            slots.len() - 1
        });
        Request { requests: self, index, slot: slots[index].clone() }
    }

    /// Tells a request's task.
    pub fn tell(&self, request: RequestId, news: News) {
        let slot = self.slots.borrow()[request.0 as usize].clone();
        slot.news.set(Some(news));
        if !Sabotage::LoseNews.shows() {
            slot.changed.wake_all();
        }
    }

    /// Tells all that nothing will come any more.
    pub fn fail_all(&self) {
        for slot in self.slots.borrow().iter() {
            slot.news.set(Some(News::Closed));
            slot.changed.wake_all();
        }
    }
}

impl Request<'_> {
    fn id(&self) -> RequestId {
        RequestId(self.index as u64)
    }

    async fn news(&self) -> News {
        loop {
            if let Some(news) = self.slot.news.take() {
                return news;
            }
            self.slot.changed.wait().await;
        }
    }

    /// The slot may be used again: the machine is done with the number.
    fn end(self) {
        self.slot.news.take();
        self.requests.free.borrow_mut().push(self.index);
    }
}

impl Mirror {
    /// The bytes of `offset..offset + len`.
    pub async fn read(
        &self,
        offset: u64,
        len: usize,
        take: impl AsyncFnOnce(usize) -> Buffer,
    ) -> Result<View, Fault> {
        let range = ByteRange::new(offset, len as u64);
        let begun = self.machine.borrow().reads_at_once(range);
        let mut take = Some(take);
        if let Some(begun) = begun
            && let Some(take) = take.take()
        {
            let read = self.local.read(offset, len, take).await;
            if let Ok(view) = read
                && !self.is_closed.get()
                && self.machine.borrow_mut().may_answer(begun, Time(self.core.now().0))
            {
                return Ok(view);
            }
        }
        let request = self.submit(Operation::Read { range }, None)?;
        loop {
            match request.news().await {
                News::ReadHere(op) => {
                    let read = match take.take() {
                        Some(take) => self.local.read(offset, len, take).await,
                        None => self.local.read(offset, len, async |len| self.buffer(len)).await,
                    };
                    let since = self.core.turn_started();
                    let result = read.map(|view| LocalResult::Data(self.payloads.insert(view, None, since)));
                    self.handle(Event::LocalDone { op, result: result.map_err(|fault| disk_fault(&fault)) });
                }
                News::Over(result) => {
                    request.end();
                    let data = result.map_err(|fault| self.fault(fault))?;
                    return Ok(self.payloads.remove(data.expect("a read that succeeded has data")));
                }
                News::Closed => return Err(self.going_away()),
            }
        }
    }

    /// Writes `data` to `offset` of every replica, durably if asked.
    pub async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        let range = ByteRange::new(offset, data.len() as u64);
        let since = self.core.turn_started();
        // What lies in a region may change before the last peer has it.
        let data = if data.is_own() { data } else { self.copy_of(&data) };
        let data = self.payloads.insert(data, None, since);
        self.outcome(Operation::Write { range, change: Change::Data, durable }, Some(data)).await?;
        self.stages.record(Stage::Total, self.core.turn_started() - since);
        Ok(())
    }

    /// Zeroes the range, of any length, on every replica.
    pub async fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        deallocate: bool,
        durable: bool,
    ) -> Result<(), Fault> {
        let change = Change::Zero { deallocate };
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let bytes = (end - at).min(replication::Limits::OPERATION_BYTES_MAX);
            let range = ByteRange::new(at, bytes);
            self.outcome(Operation::Write { range, change, durable }, None).await?;
            at += bytes;
        }
        Ok(())
    }

    /// Makes every write that was acknowledged durable on every member.
    pub async fn flush(&self) -> Result<(), Fault> {
        self.outcome(Operation::Flush, None).await
    }

    async fn outcome(&self, operation: Operation, data: Option<DataId>) -> Result<(), Fault> {
        let request = self.submit(operation, data)?;
        match request.news().await {
            News::Over(result) => {
                request.end();
                result.map(drop).map_err(|fault| self.fault(fault))
            }
            News::ReadHere(_) => unreachable!("only reads read"),
            News::Closed => Err(self.going_away()),
        }
    }

    fn submit(&self, operation: Operation, data: Option<DataId>) -> Result<Request<'_>, Fault> {
        if self.is_closed.get() {
            return Err(self.going_away());
        }
        let request = self.requests.begin();
        self.handle(Event::Submit { request: request.id(), operation, data });
        Ok(request)
    }

    fn going_away(&self) -> Fault {
        Fault::new(Kind::ShuttingDown, format!("volume {} is going away", self.name))
    }

    fn fault(&self, fault: replication::Fault) -> Fault {
        use replication::Fault as F;
        let kind = match fault {
            F::Disk(replication::DiskFault::NoSpace) => Kind::NoSpace,
            F::Indeterminate => Kind::Indeterminate,
            F::Disk(_) | F::NoLeader => Kind::Io,
            F::OutOfRange => Kind::Invalid,
            F::Busy => Kind::Resources,
        };
        Fault::caused(kind, format!("volume {}", self.name), fault)
    }

    /// Never waits: the machine has no room for waiting.
    pub(super) fn buffer(&self, len: usize) -> Buffer {
        self.core.arena().take_now(len)
    }

    pub(super) fn copy_of(&self, data: &View) -> View {
        let mut buffer = self.buffer(data.len());
        data.copy_to(buffer.bytes_mut());
        let len = buffer.len();
        buffer.into_view(0, len)
    }
}
