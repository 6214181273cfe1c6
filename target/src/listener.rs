//! Accepting clients on one portal.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use nix::libc;
use reactor::{Handle, io as verbs};

use crate::clients::{DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::serve_core::ServingCore;
use crate::settings::{Portal, Protocol};
use crate::{serve_iscsi, serve_mirror, serve_nbd};

/// How long to wait when the system has no descriptor or memory for a client.
const BREATH: Duration = Duration::from_millis(100);
/// Links of peers at once: one for each mirrored volume and peer, and those that nobody has authenticated yet.
const LINKS_MAX: usize = 8192;

/// Accepts until the listening socket is shut down.
pub async fn listen(here: Rc<ServingCore>, protocol: Protocol, portal: Portal, listener: Handle) {
    loop {
        match verbs::accept(&listener).await {
            Ok(socket) => welcome(&here, protocol, socket),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL | libc::EBADF | libc::ECANCELED) => return,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    if here.clients().may_log() {
                        tracing::warn!(
                            ?portal,
                            "cannot accept: {error}; raise the limits (ulimit -n), or connections_max is too high"
                        );
                    }
                    verbs::sleep(here.core(), BREATH).await;
                }
                // The client has gone again, or the network had a hiccup: accept(2), "Error handling".
                _ => {}
            },
        }
    }
}

fn welcome(here: &Rc<ServingCore>, protocol: Protocol, socket: OwnedFd) {
    let places_max = match protocol {
        Protocol::Nbd => here.directory_nbd(|nbd| nbd.connections_max),
        Protocol::Iscsi => here.directory().iscsi.connections_max,
        Protocol::Mirror => LINKS_MAX,
    };
    match (Place::take(here.places(protocol), places_max), protocol) {
        (Some(place), Protocol::Nbd) => here.core().spawn(serve_nbd::serve(here.clone(), socket, place)),
        (Some(place), Protocol::Iscsi) => here.core().spawn(serve_iscsi::serve(here.clone(), socket, place)),
        (Some(place), Protocol::Mirror) => {
            here.core().spawn(serve_mirror::serve(here.clone(), socket, place))
        }
        (None, _) => {
            let context = format!("all places are taken ({}.connections_max)", protocol.name());
            let fault = Fault::new(Kind::Resources, context);
            here.clients().dropped(DropReason::Limit, None, &fault);
        }
    }
}
