//! Accepting clients on one portal.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use nix::libc;
use reactor::{Handle, io as verbs};

use crate::clients::{DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::serve_core::ServingCore;
use crate::serve_nbd;
use crate::settings::{Portal, Protocol};

/// How long to wait when the system has no descriptor or memory for a client.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts until the listening socket is shut down.
pub async fn listen(here: Rc<ServingCore>, protocol: Protocol, portal: Portal, listener: Handle) {
    loop {
        match verbs::accept(&listener).await {
            Ok(socket) if protocol == Protocol::Nbd => welcome(&here, socket),
            Ok(socket) => drop(socket),
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

fn welcome(here: &Rc<ServingCore>, socket: OwnedFd) {
    match Place::take(here.places(), here.directory_nbd(|nbd| nbd.connections_max)) {
        Some(place) => here.core().spawn(serve_nbd::serve(here.clone(), socket, place)),
        None => {
            let fault = Fault::new(Kind::Resources, "all places are taken (nbd.connections_max)");
            here.clients().dropped(DropReason::Limit, None, &fault);
        }
    }
}
