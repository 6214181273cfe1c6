//! The full feature phase of a session, which is one connection (RFC 7143 §4, §11; MaxConnections 1, ERL 0).
//!
//! ```text
//! header(bhs, ahs) ─▶ where its data goes ─▶ (the mover receives it) ─▶ complete(data) ─▶ effects
//! respond, data_in, request_data, management_done, … ─▶ a PDU, to be sent after all that came before it
//! ```
//! Its one rule: numbers are given out when a PDU is made, so PDUs are sent in the order they were made.

mod effect;
mod task;

pub use effect::{Effect, Place, Violation};
pub use task::{Fault, Task, TaskId};

use super::login::Agreed;
use super::parameters::Parameters;
use super::pdu::{
    AsyncMessage, BHS_BYTES, CommandResponse, DataIn, LogoutResponse, Lun, NopIn, R2t, TaskManagementResponse,
};

/// What a session needs to know beyond what the login agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The window of CmdSN: how many commands an initiator may have under way.
    pub queue_depth: u32,
    /// SendTargets only.
    pub is_discovery: bool,
    /// The bound of what is kept of a text negotiation, or of data in requests that wait for an earlier one.
    pub collect_bytes_max: u32,
}

/// What SendTargets tells.
pub trait SendTargets {
    /// What this initiator may see: each target's name and its addresses, "host:port,portal group".
    fn targets(&self) -> Vec<(String, Vec<String>)>;
}

/// One session in its full feature phase.
#[derive(Debug)]
pub struct Session {
    parameters: Parameters,
}

#[expect(clippy::unimplemented, unused_variables, reason = "to be filled in")]
impl Session {
    /// Begins where the login ended.
    pub fn new(agreed: &Agreed, settings: SessionSettings) -> Session { unimplemented!() }

    /// Takes a header: checks order, window, lengths, flags. The error ends the connection.
    ///
    /// Then its data is received, and `complete` called; nothing else is taken in between. Data that is to be
    /// discarded must be drained, and the data digest checked, before `complete`.
    pub fn header(&mut self, bhs: &[u8; BHS_BYTES], ahs: &[u8]) -> Result<Place, Violation> { unimplemented!() }

    /// The PDU that `header` took is whole. `data` is its data segment where that was to be collected, else empty.
    pub fn complete(&mut self, data: &[u8], sends: &dyn SendTargets, effects: &mut Vec<Effect>) { unimplemented!() }

    /// A task under way.
    pub fn task(&self, task: TaskId) -> &Task { unimplemented!() }

    /// Whether data that comes unasked is still to come.
    pub fn awaits_unsolicited(&self, task: TaskId) -> bool { unimplemented!() }

    /// How many R2Ts of the task have not been answered in full.
    pub fn outstanding_r2t(&self, task: TaskId) -> usize { unimplemented!() }

    /// Asks for data: at most MaxBurstLength, and at most MaxOutstandingR2T times at once.
    ///
    /// `None` where the task's data has failed (`Effect::DataFailed` comes) or the task is aborted.
    pub fn request_data(&mut self, task: TaskId, offset: u32, bytes: u32) -> Option<R2t> { unimplemented!() }

    /// Cuts data in into PDUs: (offset, bytes, is_final) within MaxRecvDataSegmentLength and MaxBurstLength.
    pub fn split(&self, offset: u32, bytes: u32) -> Pieces { unimplemented!() }

    /// A PDU of data in. With a status (and the bytes that the command transfers by its CDB) it ends the task.
    pub fn data_in(&mut self, task: TaskId, offset: u32, bytes: u32, is_final: bool, status: Option<(u8, u64)>) -> DataIn { unimplemented!() }

    /// Ends a task. `scsi_bytes` is what the command transfers by its CDB (none where it failed).
    pub fn respond(&mut self, task: TaskId, status: u8, scsi_bytes: u64) -> CommandResponse { unimplemented!() }

    /// Ends an aborted task, without a response.
    pub fn forget(&mut self, task: TaskId) { unimplemented!() }

    /// Ends a task management function.
    pub fn management_done(&mut self, tag: u32, response: u8) -> TaskManagementResponse { unimplemented!() }

    /// Answers a logout; nothing is sent after it.
    pub fn logout_done(&mut self) -> LogoutResponse { unimplemented!() }

    /// Asks the initiator for a sign of life.
    pub fn ping(&mut self) -> NopIn { unimplemented!() }

    /// Whether no ping is unanswered.
    pub fn ping_answered(&self) -> bool { unimplemented!() }

    /// Asks the initiator to log out within so many seconds.
    pub fn request_logout(&mut self, seconds: u16) -> AsyncMessage { unimplemented!() }

    /// Tells of an event of `pdu::code::event`.
    pub fn announce(&mut self, event: u8, lun: Lun, parameters: [u16; 3]) -> AsyncMessage { unimplemented!() }

    /// Marks every task as aborted, by another session's reset. `forget` each of them.
    pub fn abort_all(&mut self) -> Vec<TaskId> { unimplemented!() }

    /// Marks the tasks of a logical unit as aborted, by another session's reset. `forget` each of them.
    pub fn abort_lun(&mut self, lun: Lun) -> Vec<TaskId> { unimplemented!() }

    /// What the login agreed on, and what was declared since.
    pub fn parameters(&self) -> &Parameters { &self.parameters }

    /// The next CmdSN.
    pub fn exp_cmd_sn(&self) -> u32 { unimplemented!() }

    /// The last CmdSN that the window admits.
    pub fn max_cmd_sn(&self) -> u32 { unimplemented!() }

    /// The next StatSN.
    pub fn stat_sn(&self) -> u32 { unimplemented!() }

    /// How many tasks have neither ended nor been forgotten.
    pub fn tasks_in_flight(&self) -> usize { unimplemented!() }
}

/// The PDUs that a transfer is cut into: (offset, bytes, is_final).
#[derive(Clone, Debug)]
pub struct Pieces {
    offset: u32,
    end: u32,
    piece_bytes: u32,
    burst_bytes: u32,
    burst_left: u32,
}

impl Iterator for Pieces {
    type Item = (u32, u32, bool);

    fn next(&mut self) -> Option<(u32, u32, bool)> {
        if self.offset == self.end {
            return None;
        }
        let (offset, left) = (self.offset, self.end - self.offset);
        let bytes = left.min(self.piece_bytes).min(self.burst_left);
        self.offset += bytes;
        self.burst_left -= bytes;
        let is_final = self.burst_left == 0 || self.offset == self.end;
        if self.burst_left == 0 {
            self.burst_left = self.burst_bytes;
        }
        Some((offset, bytes, is_final))
    }
}
