//! The order of commands: CmdSN, its window, and what waits for a number that has not come (RFC 7143 §4.2.2.1).
//!
//! ```text
//!     taken, under way │ ExpCmdSN … held back, and gaps … MaxCmdSN │ not admitted
//! ```
//! Its one rule: what is under way and what the window admits are together the queue depth, always.

use std::collections::BTreeMap;

use super::TaskId;
use crate::iscsi::pdu::{LogoutRequest, NopOut, TaskManagementRequest, TextRequest};

/// Whether `a` comes before `b`, in serial number arithmetic (RFC 1982).
#[inline]
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// What a CmdSN, or an immediate request, stands for.
#[derive(Debug)]
pub(super) enum Work {
    /// Refused, or aborted before its turn.
    Nothing,
    Task(TaskId),
    Nop(NopOut, Vec<u8>),
    Text(TextRequest, Vec<u8>),
    Manage(TaskManagementRequest),
    Logout(LogoutRequest),
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Work::Nop(_, data) | Work::Text(_, data) => data.len(),
            _ => 0,
        }
    }
}

/// The window of CmdSN.
#[derive(Debug)]
pub(super) struct Order {
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    depth: u32,
    /// Numbers behind ExpCmdSN whose requests have not ended.
    taken: u32,
    held: BTreeMap<u32, Work>,
    held_bytes: usize,
}

impl Order {
    pub(super) fn new(cmd_sn: u32, depth: u32) -> Order {
        assert!((1..1 << 30).contains(&depth), "a session admits some commands, and not half of all numbers");
        let max_cmd_sn = cmd_sn.wrapping_add(depth - 1);
        Order { exp_cmd_sn: cmd_sn, max_cmd_sn, depth, taken: 0, held: BTreeMap::new(), held_bytes: 0 }
    }

    #[inline]
    pub(super) fn exp_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
    }

    #[inline]
    pub(super) fn max_cmd_sn(&self) -> u32 {
        self.max_cmd_sn
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether a request of this number is new and within the window.
    #[inline]
    pub(super) fn admits(&self, cmd_sn: u32) -> bool {
        self.is_within(cmd_sn) && (self.held.is_empty() || !self.held.contains_key(&cmd_sn))
    }

    #[inline]
    fn is_within(&self, cmd_sn: u32) -> bool {
        !before(cmd_sn, self.exp_cmd_sn) && !before(self.max_cmd_sn, cmd_sn)
    }

    #[inline]
    pub(super) fn is_next(&self, cmd_sn: u32) -> bool {
        cmd_sn == self.exp_cmd_sn
    }

    /// The next number has its turn. It is under way until `release`.
    #[inline]
    pub(super) fn take(&mut self) {
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        self.taken += 1;
    }

    /// What was under way has ended: the window moves on.
    #[inline]
    pub(super) fn release(&mut self) {
        self.taken = self.taken.checked_sub(1).expect("what ends was under way");
        self.max_cmd_sn = self.max_cmd_sn.wrapping_add(1);
    }

    /// Keeps what came ahead of its turn.
    pub(super) fn hold(&mut self, cmd_sn: u32, work: Work) {
        debug_assert!(self.is_within(cmd_sn));
        self.held_bytes += work.bytes();
        let before = self.held.insert(cmd_sn, work);
        assert!(before.is_none(), "a number stands for one request");
    }

    /// How much data is kept in what came ahead of its turn.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What came ahead of its turn, if that is now.
    #[inline]
    pub(super) fn next_held(&mut self) -> Option<Work> {
        if self.held.is_empty() {
            return None;
        }
        let work = self.held.remove(&self.exp_cmd_sn)?;
        self.held_bytes -= work.bytes();
        self.take();
        Some(work)
    }

    /// A number within the window that is to count as received, with nothing to do when its turn comes.
    ///
    /// False where the number stands for another request, or lies outside the window.
    pub(super) fn skip(&mut self, cmd_sn: u32) -> bool {
        self.is_within(cmd_sn) && matches!(self.held.entry(cmd_sn).or_insert(Work::Nothing), Work::Nothing)
    }

    /// Leaves nothing to do of a task that came ahead of its turn.
    pub(super) fn drop_task(&mut self, cmd_sn: u32, task: TaskId) {
        if let Some(work) = self.held.get_mut(&cmd_sn)
            && matches!(work, Work::Task(held) if *held == task)
        {
            *work = Work::Nothing;
        }
    }

    /// For assertions: `under_way` requests are known to hold a number.
    pub(super) fn check(&self, under_way: usize) {
        assert_eq!(self.taken as usize, under_way);
        let open = self.max_cmd_sn.wrapping_add(1).wrapping_sub(self.exp_cmd_sn);
        assert_eq!(open + self.taken, self.depth);
        assert!(self.held.keys().all(|cmd_sn| self.is_within(*cmd_sn) && *cmd_sn != self.exp_cmd_sn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_wraps() {
        let mut order = Order::new(u32::MAX - 1, 4);
        assert_eq!(order.max_cmd_sn(), 1);
        assert!([u32::MAX - 1, u32::MAX, 0, 1].into_iter().all(|cmd_sn| order.admits(cmd_sn)));
        assert!([u32::MAX - 2, 2, 1 << 31].into_iter().all(|cmd_sn| !order.admits(cmd_sn)));
        order.hold(0, Work::Nothing);
        assert!(!order.admits(0));
        order.take();
        order.take();
        assert!(order.next_held().is_some() && order.next_held().is_none());
        assert_eq!((order.exp_cmd_sn(), order.max_cmd_sn()), (1, 1));
        order.release();
        assert_eq!((order.exp_cmd_sn(), order.max_cmd_sn()), (1, 2));
        order.check(2);
    }

    #[test]
    fn serial_numbers_compare_across_zero() {
        assert!(before(u32::MAX, 0) && before(0, 1) && !before(0, 0) && !before(1, u32::MAX));
    }
}
