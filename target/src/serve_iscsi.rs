//! The iSCSI front: from an accepted socket to the end of its session.
//!
//! Login runs on the core that accepted. When it has named the target, the connection moves to that target's
//! home core, once, and is served there to the end; discovery sessions stay where they are.

mod access;
mod connection;
mod data;
mod farewell;
mod login;
mod manage;
mod order;
mod perform;
mod ping;
mod read;
mod receive;
mod send;
mod sessions;
mod task;
mod write;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use wire::iscsi::login::{Agreed, SessionKind};
use wire::iscsi::pdu::{LoginResponse, Response};

use crate::channel::{Channel, Parts};
use crate::clients::{Client, DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::message::{Adopted, Ask};
use crate::serve_core::ServingCore;
use crate::serve_nbd::prepare;
use crate::settings::Protocol;

use connection::Connection;
pub use sessions::Sessions;

/// A connection that has logged in, on its way to its target's home core.
pub struct Handover {
    parts: Parts,
    entrance: Entrance,
    place: Place,
}

/// What a connection brings into the full feature phase.
struct Entrance {
    agreed: Box<Agreed>,
    /// The last login response, which still lacks its TSIH, and its text.
    reply: LoginResponse,
    text: Vec<u8>,
    /// Bytes that came behind the last login request.
    leftover: Vec<u8>,
}

/// Serves a connection that has just been accepted.
pub async fn serve(here: Rc<ServingCore>, socket: OwnedFd, place: Place) {
    let address = here.core().peer(socket.as_fd());
    prepare(&socket, address);
    let channel = Channel::new(here.core(), socket, address, here.zero_copy_bytes());
    let deadline = here.core().now() + here.directory().iscsi.login_timeout;
    let client = here.clients().enter(channel.socket(), Protocol::Iscsi, address, Some(deadline));
    let entrance = match login::login(&here, &channel, address).await {
        Ok(Some(entrance)) => entrance,
        Ok(None) => return here.clients().left(&client),
        Err(fault) => {
            let reason = client.reason().unwrap_or(reason(&fault));
            return here.clients().dropped(reason, address, &fault);
        }
    };
    match home_core(&here, &entrance.agreed) {
        Some(core) if core != here.index() => {
            drop(client);
            hand_over(&here, core, channel, entrance, address, place);
        }
        _ => full_feature_phase(&here, client, channel, entrance).await,
    }
}

/// Serves a connection that logged in on another core.
pub async fn resume(here: Rc<ServingCore>, handover: Handover) {
    let Handover { parts, entrance, place } = handover;
    let address = here.core().peer(parts.socket.as_fd());
    let channel = Channel::new(here.core(), parts.socket, address, here.zero_copy_bytes()).resume(parts.tls);
    let client = here.clients().enter(channel.socket(), Protocol::Iscsi, address, None);
    full_feature_phase(&here, client, channel, entrance).await;
    drop(place);
}

/// Where the target of a normal session lives.
fn home_core(here: &ServingCore, agreed: &Agreed) -> Option<usize> {
    match &agreed.session {
        SessionKind::Discovery => None,
        SessionKind::Normal { target_name } => {
            here.directory().iscsi.targets.get(target_name).map(|target| target.core)
        }
    }
}

async fn full_feature_phase(
    here: &Rc<ServingCore>,
    client: Rc<Client>,
    channel: Channel,
    entrance: Entrance,
) {
    let Entrance { agreed, mut reply, text, leftover } = entrance;
    let address = client.address();
    if let Err(refusal) = sessions::enter(here, &agreed, &mut reply) {
        let _ = login::send(&channel, &Response::Login(reply), &[]).await;
        let fault = Fault::new(Kind::Denied, format!("login of {}: {refusal}", agreed.initiator_name));
        return here.clients().dropped(DropReason::Login, address, &fault);
    }
    let queue_depth = here.directory().iscsi.queue_depth;
    reply.max_cmd_sn = reply.exp_cmd_sn.wrapping_add(queue_depth.saturating_sub(1));
    if let Err(fault) = login::send(&channel, &Response::Login(reply), &text).await {
        return here.clients().dropped(DropReason::Disconnected, address, &fault);
    }
    let connection = match Connection::new(here.clone(), client.clone(), channel, &agreed, reply.tsih).await {
        Ok(connection) => connection,
        Err(fault) => return here.clients().dropped(DropReason::VolumeGone, address, &fault),
    };
    match receive::serve(&connection, leftover).await {
        // An initiator that just goes away is nothing to report.
        Err(fault) if fault.kind() != Kind::Disconnected || client.reason().is_some() => {
            here.clients().dropped(client.reason().unwrap_or(reason(&fault)), address, &fault);
        }
        _ => here.clients().left(&client),
    }
}

fn hand_over(
    here: &ServingCore,
    core: usize,
    channel: Channel,
    entrance: Entrance,
    address: Option<SocketAddr>,
    place: Place,
) {
    match channel.into_parts() {
        Ok(parts) => {
            let handover = Handover { parts, entrance, place };
            here.tell(core, Ask::Adopt(Adopted::Iscsi(Box::new(handover))));
        }
        Err(fault) => here.clients().dropped(DropReason::Resources, address, &fault),
    }
}

fn reason(fault: &Fault) -> DropReason {
    match fault.kind() {
        Kind::Denied => DropReason::Login,
        Kind::Protocol => DropReason::Protocol,
        Kind::Disconnected => DropReason::Disconnected,
        Kind::NotFound => DropReason::VolumeGone,
        _ => DropReason::Resources,
    }
}
