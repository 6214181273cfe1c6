//! WRITE on a logical unit of this core: each piece is written as soon as it is here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::sync::WaitList;

use crate::fault::Fault;
use crate::scsi_unit::LogicalUnit;
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::data::DataOut;
use crate::serve_iscsi::task::{Ended, Piece, Task};
use crate::snapshot::Operation;

/// A WRITE that has passed its checks.
pub struct Write {
    pub unit: Rc<LogicalUnit>,
    pub lun: u16,
    /// First byte on the volume.
    pub offset: u64,
    /// Bytes by the CDB.
    pub bytes: u64,
    /// FUA.
    pub durable: bool,
}

/// Carries it out.
pub async fn write(connection: &Rc<Connection>, task: &Rc<Task>, write: Write) {
    if let Some(errand) = task.errand() {
        if write.unit.is_fenced() {
            errand.passage(write.offset, write.bytes).await;
        }
        errand.writes_to(write.offset, write.bytes);
    }
    match receive_and_write(connection, task, &write).await {
        _ if task.is_aborted() => connection.forget(task),
        Err(ended) => connection.data_ended(task, ended),
        Ok(Ok(())) => connection.written(task, &write),
        Ok(Err(fault)) => connection.failed(task, Operation::Write, write.lun, &fault),
    }
}

async fn receive_and_write(
    connection: &Rc<Connection>,
    task: &Rc<Task>,
    write: &Write,
) -> Result<Result<(), Fault>, Ended> {
    // Of a block that the initiator does not send whole, nothing is written.
    let block = u64::from(write.unit.block_bytes());
    let whole = write.bytes.min(task.out_bytes.into()) / block * block;
    let mut data = DataOut::begin(connection, task, whole).await?;
    if data.total() == 0 {
        return Ok(Ok(()));
    }
    let first = data.next().await?;
    match first.view.len() == data.total() as usize {
        true => Ok(write_piece(write, first).await),
        false => in_pieces(connection, write, data, first).await,
    }
}

/// Writes of one command under way.
#[derive(Default)]
struct Pieces {
    outstanding: Cell<usize>,
    fault: RefCell<Option<Fault>>,
    done: WaitList,
}

async fn in_pieces(
    connection: &Rc<Connection>,
    write: &Write,
    mut data: DataOut<'_>,
    first: Piece,
) -> Result<Result<(), Fault>, Ended> {
    let pieces = Rc::new(Pieces::default());
    let mut received = first.view.len();
    start(connection, &pieces, write, first);
    let mut ended = Ok(());
    while ended.is_ok() && received < data.total() as usize {
        ended = data.next().await.map(|piece| {
            received += piece.view.len();
            start(connection, &pieces, write, piece);
        });
    }
    while pieces.outstanding.get() > 0 {
        pieces.done.wait().await;
    }
    ended.map(|()| pieces.fault.take().map_or(Ok(()), Err))
}

fn start(connection: &Connection, pieces: &Rc<Pieces>, write: &Write, piece: Piece) {
    pieces.outstanding.set(pieces.outstanding.get() + 1);
    let pieces = pieces.clone();
    let write = Write { unit: write.unit.clone(), ..*write };
    connection.here.core().spawn(async move {
        if let Err(fault) = write_piece(&write, piece).await {
            pieces.fault.borrow_mut().get_or_insert(fault);
        }
        pieces.outstanding.set(pieces.outstanding.get() - 1);
        pieces.done.wake_all();
    });
}

async fn write_piece(write: &Write, piece: Piece) -> Result<(), Fault> {
    let Piece { start, view, held } = piece;
    let offset = write.offset + u64::from(start);
    let result = write.unit.volume().write(offset, view, write.durable).await;
    drop(held);
    result
}
