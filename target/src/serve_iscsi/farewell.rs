//! Letting a session go: the initiator is asked to log out, what is under way is finished, the rest is dropped.

use std::rc::Rc;
use std::time::Duration;

use reactor::io as verbs;
use wire::iscsi::pdu::Response;

use crate::clients::DropReason;
use crate::serve_iscsi::connection::Connection;

/// How often a session that is let go is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// How long an initiator has to log out by itself.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same when others wait for it to be gone: the shortest time that it can be told.
const PATIENCE_PARTING: Duration = Duration::from_secs(1);

impl Connection {
    /// Tells the initiator that the target goes away (AsyncEvent 1, RFC 7143, section 11.9.1).
    fn announce_farewell(&self, patience: Duration) {
        let message = self.session.borrow_mut().request_logout(patience.as_secs() as u16);
        self.send(&Response::Async(message), &[]);
    }

    /// Asks the initiator to leave, and reads nothing more when it does not.
    pub fn part(&self) {
        if self.target.is_none() {
            // A discovery session has nothing to finish.
            return self.client.stop_reading();
        }
        self.announce_farewell(PATIENCE_PARTING);
        let (core, leaving) = (self.here.core().clone(), Rc::downgrade(&self.client));
        core.clone().spawn(async move {
            verbs::sleep(&core, PATIENCE_PARTING).await;
            if let Some(client) = leaving.upgrade() {
                client.stop_reading();
            }
        });
    }

    /// Whether the initiator, from whom nothing more is read, still gets its answers.
    pub fn may_finish(&self) -> bool {
        let is_let_go = self.client.is_stopping() && self.client.reason().is_none();
        is_let_go && !self.has_ended() && !self.is_lost.get()
    }

    /// Whether somebody waits for a command that runs.
    fn has_wanted_tasks(&self) -> bool {
        self.tasks.borrow().iter().flatten().any(|task| task.place() > 0 && !task.is_aborted())
    }

    /// Asks the initiator to leave, and drops it when it does not.
    pub fn dismiss(self: &Rc<Self>) {
        self.announce_farewell(PATIENCE);
        let (core, leaving) = (self.here.core().clone(), Rc::downgrade(self));
        core.clone().spawn(async move {
            verbs::sleep(&core, PATIENCE).await;
            if let Some(connection) = leaving.upgrade().filter(|connection| !connection.has_ended()) {
                connection.end(DropReason::VolumeGone);
            }
        });
    }
}

/// Finishes what has all its data; what waits for more is dropped. A connection that is ended for another reason
/// meanwhile waits for nothing.
pub async fn finish(connection: &Rc<Connection>) {
    let tasks = connection.tasks.borrow().clone();
    for task in tasks.into_iter().flatten() {
        if task.sequences() > 0 || connection.session.borrow().awaits_unsolicited(task.id) {
            task.abort(&connection.here);
        }
    }
    connection.wake_waiting();
    while connection.may_finish() && connection.has_wanted_tasks() {
        verbs::sleep(connection.here.core(), LOOK).await;
    }
}
