//! Data out: asking for it by R2T, and having all of it.

use std::rc::Rc;

use wire::iscsi::pdu::Response;

use crate::budget::Held;
use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::task::{Ended, Piece, Task};

/// A command that needs all its data at once holds at most so much beside others that do.
const SMALL_BYTES: u32 = 64 << 10;

/// The data of one command on its way in.
pub struct DataOut<'a> {
    connection: &'a Rc<Connection>,
    task: &'a Rc<Task>,
    /// Bytes wanted.
    total: u32,
    /// Up to here it came by itself or was asked for.
    asked: u32,
}

impl<'a> DataOut<'a> {
    /// The first `total` bytes that the initiator has; waits until what it sends by itself has come.
    pub async fn begin(
        connection: &'a Rc<Connection>,
        task: &'a Rc<Task>,
        total: u64,
    ) -> Result<DataOut<'a>, Ended> {
        let awaits = || connection.session.borrow().awaits_unsolicited(task.id);
        if connection.client.is_stopping() && awaits() {
            return Err(Ended::Aborted);
        }
        let asked = task.unsolicited(awaits).await?;
        let total = total.min(task.out_bytes.into()) as u32;
        Ok(DataOut { connection, task, total, asked })
    }

    /// Bytes that will come.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The next piece, in the order in which they become whole.
    pub async fn next(&mut self) -> Result<Piece, Ended> {
        self.ask().await?;
        let mut piece = self.task.next_piece().await?;
        let end = self.total.saturating_sub(piece.start) as usize;
        if piece.view.len() > end {
            piece.view = piece.view.split_to(end);
        }
        Ok(piece)
    }

    /// All of it.
    pub async fn collect(mut self) -> Result<Vec<Piece>, Ended> {
        let connection = self.connection;
        let large = self.total > SMALL_BYTES;
        if large {
            while connection.collecting.get() {
                connection.budget.changed().await;
                self.task.check()?;
            }
            connection.collecting.set(true);
        }
        let _collecting = Collecting(connection, large);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = 0;
        while bytes < self.total as usize {
            let mut piece = self.next().await?;
            // It moves only when all are here.
            piece.held.waits();
            bytes += piece.view.len();
            pieces.push(piece);
        }
        pieces.iter_mut().for_each(|piece| piece.held.moves());
        pieces.sort_by_key(|piece| piece.start);
        Ok(pieces)
    }

    /// Sends R2Ts, as many at once as agreed.
    async fn ask(&mut self) -> Result<(), Ended> {
        let (connection, task) = (self.connection, self.task);
        let outstanding_max = connection.agreed.parameters.max_outstanding_r2t.into();
        while self.asked < self.total && task.sequences() < outstanding_max {
            let burst_max = connection.agreed.parameters.max_burst_length;
            let piece_max = connection.budget.piece_bytes() as u32;
            let len = (self.total - self.asked).min(burst_max).min(piece_max);
            if task.is_fed() && !connection.budget.has_room(len as usize) {
                // It can go on with what it has, and others need the room.
                return Ok(());
            }
            connection.budget.hold_beside_stuck(len as usize).await;
            let held = Held::stuck(&connection.budget, len as usize);
            task.check()?;
            if connection.client.is_stopping() {
                // Nobody would take the answer from the stream.
                return Err(Ended::Aborted);
            }
            let r2t = connection.session.borrow_mut().request_data(task.id, self.asked, len);
            // The task's data has failed; it hears of it when all that is under way is here.
            let Some(r2t) = r2t else { return Ok(()) };
            task.expect(self.asked, connection.budget.buffer_now(len as usize), held);
            connection.send(&Response::R2t(r2t), &[]);
            self.asked += len;
        }
        Ok(())
    }
}

/// The right to hold much data until it is whole.
struct Collecting<'a>(&'a Connection, bool);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.collecting.set(false);
            self.0.budget.wake();
        }
    }
}
