//! Letting a session go: the initiator is asked to log out, what is under way is finished, the rest is dropped.

use std::rc::Rc;
use std::time::Duration;

use reactor::io as verbs;
use wire::iscsi::pdu::Response;

use crate::clients::DropReason;
use crate::serve_iscsi::connection::Connection;

/// How long an initiator has to log out by itself.
const PATIENCE: Duration = Duration::from_secs(3);

impl Connection {
    /// Tells the initiator that the target goes away (AsyncEvent 1, RFC 7143, section 11.9.1).
    pub fn announce_farewell(&self) {
        let message = self.session.borrow_mut().request_logout(PATIENCE.as_secs() as u16);
        self.send(&Response::Async(message), &[]);
    }

    /// Asks the initiator to leave, and drops it when it does not.
    pub fn dismiss(self: &Rc<Self>) {
        self.announce_farewell();
        let (core, leaving) = (self.here.core().clone(), Rc::downgrade(self));
        core.clone().spawn(async move {
            verbs::sleep(&core, PATIENCE).await;
            if let Some(connection) = leaving.upgrade().filter(|connection| !connection.has_ended()) {
                connection.end(DropReason::VolumeGone);
            }
        });
    }
}

/// Finishes what has all its data; what waits for more is dropped.
pub async fn finish(connection: &Rc<Connection>) {
    let tasks = connection.tasks.borrow().clone();
    for task in tasks.into_iter().flatten().filter(|task| task.sequences() > 0) {
        task.abort(&connection.here);
    }
    connection.budget.idle().await;
}
