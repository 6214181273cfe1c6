//! Links that peers dial: authenticate, move to the volume's core, serve.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::clients::Place;
use crate::serve_core::ServingCore;

/// An authenticated link on its way to its volume's core.
pub struct Handover {}

/// Serves a link that has just been accepted.
pub async fn serve(_here: Rc<ServingCore>, _socket: OwnedFd, _place: Place) {}

/// Serves a link that was accepted on another core.
pub async fn resume(_here: Rc<ServingCore>, _handover: Handover) {}
