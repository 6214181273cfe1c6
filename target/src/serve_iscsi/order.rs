//! ORDERED tasks (SAM-5, clause 8): they wait for all that came before, and all that comes after waits for them.
//!
//! Tasks without an ORDERED one among them pay nothing. The order is a session's own, per logical unit.

use std::cell::Cell;
use std::rc::Rc;

use reactor::sync::WaitList;
use wire::iscsi::pdu::TaskAttribute;

use crate::serve_iscsi::connection::Connection;
use crate::serve_iscsi::task::Task;

/// The order of one session's tasks.
#[derive(Default)]
pub struct Order {
    last: Cell<u64>,
    /// ORDERED tasks that have not ended.
    ordered: Cell<usize>,
    changed: WaitList,
}

impl Order {
    /// Gives the task its place; `false` when it has to wait for its turn.
    pub fn enter(&self, task: &Task, attribute: TaskAttribute) -> bool {
        self.last.set(self.last.get() + 1);
        task.takes_place(self.last.get(), attribute);
        let is_ordered = attribute == TaskAttribute::Ordered;
        let must_look = is_ordered || self.ordered.get() > 0;
        if is_ordered {
            self.ordered.set(self.ordered.get() + 1);
        }
        !must_look || attribute == TaskAttribute::HeadOfQueue
    }

    /// A task has ended.
    pub fn leave(&self, task: &Task) {
        if self.ordered.get() > 0 {
            if task.attribute() == TaskAttribute::Ordered {
                self.ordered.set(self.ordered.get() - 1);
            }
            self.changed.wake_all();
        }
    }
}

impl Connection {
    /// Waits for the task's turn; `false` when it was aborted before.
    pub async fn turn(&self, task: &Rc<Task>) -> bool {
        while !task.is_aborted() && self.is_preceded(task) {
            self.order.changed.wait().await;
        }
        !task.is_aborted()
    }

    fn is_preceded(&self, task: &Task) -> bool {
        let is_ordered = task.attribute() == TaskAttribute::Ordered;
        let tasks = self.tasks.borrow();
        tasks.iter().flatten().any(|other| {
            let is_older = (1..task.place()).contains(&other.place()) && other.lun() == task.lun();
            let is_older = is_older && !other.is_aborted();
            is_older && (is_ordered || other.attribute() == TaskAttribute::Ordered)
        })
    }

    /// Wakes those that wait for their turn, or for room, after an abort.
    pub fn wake_waiting(&self) {
        self.order.changed.wake_all();
        self.budget.wake();
    }
}
