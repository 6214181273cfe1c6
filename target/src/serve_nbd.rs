//! The NBD front: from an accepted socket to the end of its session.
//!
//! Negotiation runs on the core that accepted. When it has named the export, the client moves to its volume's
//! core, once, and is served there to the end.

mod commands;
mod connection;
mod negotiate;
mod read;
mod write;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use socket2::SockRef;
use uuid::Uuid;
use wire::nbd::handshake::Agreed;

use crate::channel::{Channel, Parts};
use crate::clients::{Client, DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::message::{Adopted, Ask};
use crate::serve_core::ServingCore;
use crate::settings::Protocol;

use connection::Connection;
use negotiate::Negotiated;
pub use negotiate::export_table;

/// A negotiated client on its way to its volume's core.
pub struct Handover {
    parts: Parts,
    session: Session,
    place: Place,
}

/// What a client has agreed on.
struct Session {
    agreed: Agreed,
    uuid: Uuid,
    /// Bytes of the transmission phase that have already been received.
    leftover: Vec<u8>,
}

/// Serves a client that has just been accepted.
pub async fn serve(here: Rc<ServingCore>, socket: OwnedFd, place: Place) {
    let address = here.core().peer(socket.as_fd());
    prepare(&socket, address);
    let channel = Channel::new(here.core(), socket, address, here.zero_copy_bytes());
    let client = here.clients().enter(channel.socket(), Protocol::Nbd, address, here.handshake_deadline());
    match negotiate::negotiate(&here, channel, address).await {
        Ok(Some(Negotiated { channel, leftover, agreed, entry })) => {
            let session = Session { agreed, uuid: entry.settings.uuid, leftover };
            if entry.core == here.index() {
                transmit(&here, client, channel, session).await;
            } else {
                drop(client);
                hand_over(&here, entry.core, channel, session, address, place);
            }
        }
        Ok(None) => here.clients().left(&client),
        Err(fault) => here.clients().dropped(client.reason().unwrap_or(reason(&fault)), address, &fault),
    }
}

/// Serves a client that negotiated on another core.
pub async fn resume(here: Rc<ServingCore>, handover: Handover) {
    let Handover { parts, mut session, place } = handover;
    session.leftover.extend_from_slice(&parts.plaintext);
    let address = here.core().peer(parts.socket.as_fd());
    let channel = Channel::new(here.core(), parts.socket, address, here.zero_copy_bytes()).resume(parts.tls);
    let client = here.clients().enter(channel.socket(), Protocol::Nbd, address, None);
    transmit(&here, client, channel, session).await;
    drop(place);
}

async fn transmit(here: &Rc<ServingCore>, client: Rc<Client>, channel: Channel, session: Session) {
    let Session { agreed, uuid, leftover } = session;
    let address = client.address();
    client.named(&agreed.export.name, agreed.tls);
    let Some(volume) = here.volume(uuid) else {
        let fault =
            Fault::new(Kind::NotFound, format!("volume {} has just been removed", agreed.export.name));
        here.clients().dropped(DropReason::VolumeGone, address, &fault);
        return;
    };
    let connection = Connection::new(here.clone(), client.clone(), channel, volume, agreed);
    match commands::serve(&connection, leftover).await {
        // A client that just goes away is nothing to report.
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
    session: Session,
    address: Option<SocketAddr>,
    place: Place,
) {
    match channel.into_parts() {
        Ok(parts) => here.tell(core, Ask::Adopt(Adopted::Nbd(Box::new(Handover { parts, session, place })))),
        Err(fault) => here.clients().dropped(DropReason::Resources, address, &fault),
    }
}

/// No waiting for more to send, and a word from the kernel when the client's machine is gone.
pub fn prepare(socket: &OwnedFd, address: Option<SocketAddr>) {
    if address.is_some() {
        let fd = socket.as_fd();
        let socket = SockRef::from(&fd);
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(std::time::Duration::from_secs(60))
            .with_interval(std::time::Duration::from_secs(10))
            .with_retries(6);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_keepalive(&keepalive);
    }
}

fn reason(fault: &Fault) -> DropReason {
    match fault.kind() {
        Kind::Protocol => DropReason::Protocol,
        Kind::Disconnected => DropReason::Disconnected,
        Kind::NotFound => DropReason::VolumeGone,
        _ => DropReason::Resources,
    }
}
