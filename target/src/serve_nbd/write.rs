//! NBD_CMD_WRITE.
//!
//! The payload is received in pieces, each written as soon as it is here; the last one that is done answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::View;
use wire::nbd::transmission::CommandFlags;

use crate::fault::Fault;
use crate::incoming::Incoming;
use crate::sabotage::Sabotage;
use crate::serve_nbd::connection::{Connection, Job};

/// Receives a write that has passed its checks, and starts it.
pub async fn start(connection: &Rc<Connection>, incoming: &mut Incoming<'_>, job: Job) -> Result<(), Fault> {
    let length = job.request.length as usize;
    let piece_bytes = connection.budget.piece_bytes();
    if length > piece_bytes {
        return in_pieces(connection, incoming, job).await;
    }
    connection.admit(length).await;
    let data = match receive(connection, incoming, length).await {
        Ok(data) => data,
        Err(fault) => {
            forget(connection, length);
            return Err(fault);
        }
    };
    let connection = connection.clone();
    connection.here.core().clone().spawn(async move {
        let durable = job.request.flags.contains(CommandFlags::FUA);
        if Sabotage::AnswerBeforeWritten.is_on() {
            connection.done(&job, Ok(()), length);
            let _ = connection.volume.write(job.request.offset, data, durable).await;
            return;
        }
        let result = connection.volume.write(job.request.offset, data, durable).await;
        connection.done(&job, result, length);
    });
    Ok(())
}

/// A write of several pieces.
struct Pieces {
    connection: Rc<Connection>,
    job: Job,
    /// Being written, and one for as long as more are to come.
    outstanding: Cell<usize>,
    fault: RefCell<Option<Fault>>,
}

async fn in_pieces(connection: &Rc<Connection>, incoming: &mut Incoming<'_>, job: Job) -> Result<(), Fault> {
    connection.admit(0).await;
    let pieces = Rc::new(Pieces {
        connection: connection.clone(),
        job,
        outstanding: Cell::new(1),
        fault: RefCell::default(),
    });
    let end = job.request.offset + job.request.length;
    let mut at = job.request.offset;
    while at < end {
        let len = ((end - at) as usize).min(connection.budget.piece_bytes());
        connection.budget.hold(len).await;
        let data = match receive(connection, incoming, len).await {
            Ok(data) => data,
            Err(fault) => {
                connection.budget.release(len);
                pieces.finish_one(Ok(()));
                return Err(fault);
            }
        };
        pieces.write(at, data);
        at += len as u64;
    }
    pieces.finish_one(Ok(()));
    Ok(())
}

impl Pieces {
    fn write(self: &Rc<Self>, at: u64, data: View) {
        let pieces = self.clone();
        let len = data.len();
        self.outstanding.set(self.outstanding.get() + 1);
        self.connection.here.core().spawn(async move {
            let durable = pieces.job.request.flags.contains(CommandFlags::FUA);
            let result = pieces.connection.volume.write(at, data, durable).await;
            pieces.connection.budget.release(len);
            pieces.finish_one(result);
        });
    }

    fn finish_one(&self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.fault.borrow_mut().get_or_insert(fault);
        }
        self.outstanding.set(self.outstanding.get() - 1);
        if self.outstanding.get() == 0 {
            let result = self.fault.take().map_or(Ok(()), Err);
            self.connection.done(&self.job, result, 0);
        }
    }
}

/// The next `len` bytes, lent from the receive buffer where the volume is done with them at once.
async fn receive(connection: &Connection, incoming: &mut Incoming<'_>, len: usize) -> Result<View, Fault> {
    if connection.volume.is_immediate()
        && let Some(view) = incoming.lend(len)
    {
        return Ok(view);
    }
    let buffer = connection.budget.buffer(len).await;
    connection.client.awaits_payload(Some(connection.here.core().turn_started()));
    let payload = incoming.payload(buffer, 0).await;
    connection.client.awaits_payload(None);
    let payload = payload?.into_view(0, len);
    connection.may_go_on()?;
    Ok(payload)
}

/// A request whose payload never came: nobody waits for its answer.
fn forget(connection: &Connection, held_bytes: usize) {
    connection.budget.release(held_bytes);
    connection.budget.ended();
}
