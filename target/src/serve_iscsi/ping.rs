//! Signs of life (RFC 7143, section 11.19): a silent initiator is asked, a dead one is dropped.

use std::rc::{Rc, Weak};

use reactor::io as verbs;
use wire::iscsi::pdu::Response;

use crate::clients::DropReason;
use crate::serve_iscsi::connection::Connection;

/// Looks after a session for as long as it lives, without keeping it alive.
pub fn watch(connection: &Rc<Connection>) {
    let core = connection.here.core().clone();
    let watched = Rc::downgrade(connection);
    core.clone().spawn(async move {
        loop {
            let Some(wait) = look(&watched) else { return };
            verbs::sleep(&core, wait).await;
        }
    });
}

/// How long until it is worth to look again; `None` when the session is over.
fn look(watched: &Weak<Connection>) -> Option<std::time::Duration> {
    let connection = watched.upgrade().filter(|connection| !connection.has_ended())?;
    let directory = connection.here.directory();
    let silence = connection.here.core().now() - connection.heard.get();
    let (interval, timeout) = (directory.iscsi.ping_interval, directory.iscsi.ping_timeout);
    let mut session = connection.session.borrow_mut();
    if silence < interval {
        return Some(interval - silence);
    }
    if session.ping_answered() {
        let ping = session.ping();
        connection.send(&Response::NopIn(ping), &[]);
        return Some(timeout);
    }
    drop(session);
    connection.end(DropReason::Dead);
    None
}
