//! READ on a logical unit of this core: from the volume to Data-In PDUs, the status in the last of them.

use std::rc::Rc;

use reactor::View;

use crate::fault::Fault;
use crate::outbox::Receipt;
use crate::scsi_unit::LogicalUnit;
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::task::Task;
use crate::snapshot::Operation;

/// A READ that has passed its checks.
pub struct Read {
    pub unit: Rc<LogicalUnit>,
    pub lun: u16,
    /// First byte on the volume.
    pub offset: u64,
    /// Bytes by the CDB.
    pub bytes: u64,
}

/// Carries it out.
pub async fn read(connection: &Rc<Connection>, task: &Rc<Task>, read: Read) {
    let end = read.bytes.min(task.in_bytes.into());
    if end == 0 {
        return connection.read_nothing(task, read.lun, read.bytes);
    }
    if read.unit.is_fenced()
        && let Some(errand) = task.errand()
    {
        errand.passage(read.offset, end).await;
    }
    let mut at = 0;
    while at < end {
        let len = (end - at).min(connection.budget.piece_bytes() as u64) as usize;
        connection.budget.hold_beside_stuck(len).await;
        let view = match piece(connection, &read, read.offset + at, len).await {
            Ok(view) if !task.is_aborted() => view,
            Ok(_) => {
                connection.budget.release(len);
                return connection.forget(task);
            }
            Err(fault) => {
                connection.budget.release(len);
                return connection.failed(task, Operation::Read, read.lun, &fault);
            }
        };
        connection.send_piece(task, (at as usize, end as usize), read.bytes, view, |ends_piece, is_last| {
            Receipt {
                operation: Operation::Read,
                bytes: read.bytes,
                ok: true,
                arrived: task.arrived,
                held_bytes: if ends_piece { len } else { 0 },
                ends_request: is_last,
                unit: Some(read.lun),
            }
        });
        at += len as u64;
    }
}

async fn piece(connection: &Connection, read: &Read, offset: u64, len: usize) -> Result<View, Fault> {
    let take = async |len| connection.budget.buffer(len).await;
    let view = read.unit.volume().read(offset, len, take).await?;
    // A digest holds for bytes that nobody changes before they are sent.
    if !connection.agreed.parameters.data_digest || view.is_own() {
        return Ok(view);
    }
    let mut buffer = connection.budget.buffer(len).await;
    view.copy_to(buffer.bytes_mut());
    Ok(buffer.into_view(0, len))
}
