//! Whether this core has stood still (the process was stopped, the machine suspended) while the world went on.
//!
//! A client of a mirrored volume gives a node that does not answer up and sends its requests again to another one.
//! What it had sent here before must then not be carried out when the core wakes: newer writes may be there by now.
//! Its one rule: after standing still, a core hears nothing of what such clients had sent; they connect anew.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::driver::Moment;
use reactor::io as verbs;

use crate::clients::DropReason;
use crate::serve_core::ServingCore;
use crate::settings::Protocol;

/// Between beats.
const BEAT: Duration = Duration::from_millis(200);
/// Clients wait longer than this before they turn to another node.
const STILL: Duration = Duration::from_millis(900);

/// When the core last beat.
#[derive(Default)]
pub struct Heartbeat {
    last: Cell<Option<Moment>>,
}

impl Heartbeat {
    /// Whether the core has stood still and nobody has noticed yet.
    pub fn is_late(&self, now: Moment) -> bool {
        self.last.get().is_some_and(|last| now - last > STILL)
    }

    /// Begins to beat; once is enough.
    pub fn start(here: &Rc<ServingCore>) {
        if here.heartbeat().last.replace(Some(here.core().now())).is_none() {
            here.core().spawn(beat(here.clone()));
        }
    }
}

async fn beat(here: Rc<ServingCore>) {
    loop {
        verbs::sleep(here.core(), BEAT).await;
        let now = here.core().now();
        if here.heartbeat().is_late(now) {
            wake_up(&here, now);
        }
        here.heartbeat().last.set(Some(now));
    }
}

fn wake_up(here: &ServingCore, now: Moment) {
    let still = here.heartbeat().last.get().map_or(Duration::ZERO, |last| now - last);
    let mirrored = here.mirrored_volumes();
    let clients = here.clients().now();
    let theirs =
        |uuid: &uuid::Uuid| clients.iter().filter(|client| client.is_served(*uuid)).collect::<Vec<_>>();
    let clients: Vec<_> = mirrored.iter().flat_map(theirs).collect();
    tracing::warn!(
        ?still,
        clients = clients.len(),
        "this core has stood still, or its clock has jumped; clients of its mirrored volumes may have gone on elsewhere and \
         must connect anew"
    );
    for client in clients.iter().filter(|client| client.protocol() == Protocol::Nbd) {
        client.disconnect(DropReason::StoodStill);
    }
}
