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

use crate::channel::Channel;
use crate::clients::{Client, DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::message::Ask;
use crate::serve_core::Node;

use connection::Connection;
use negotiate::Outcome;
pub use negotiate::export_table;

/// A negotiated client on its way to its volume's core.
pub struct Handover {
    socket: OwnedFd,
    tls: Option<Box<rustls::ServerConnection>>,
    /// Bytes of the session that have already been received.
    leftover: Vec<u8>,
    agreed: Agreed,
    uuid: Uuid,
    address: Option<SocketAddr>,
    place: Place,
}

/// Serves a client that has just been accepted.
pub async fn serve(node: Rc<Node>, socket: OwnedFd, place: Place) {
    let address = SockRef::from(&socket.as_fd()).peer_addr().ok().and_then(|address| address.as_socket());
    prepare(&socket, address);
    let channel = Channel::new(node.core(), socket, address, node.zero_copy_bytes());
    let client = node.clients().enter(channel.socket(), address, node.handshake_deadline());
    match negotiate::negotiate(&node, channel, address).await {
        Ok(Outcome::Agreed { channel, leftover, agreed, entry }) => {
            let here = entry.core == node.index();
            if here {
                client.named(&agreed.export.name, agreed.tls);
                transmit(&node, client, channel, leftover, agreed, entry.settings.uuid).await;
            } else {
                drop(client);
                let uuid = entry.settings.uuid;
                hand_over(&node, entry.core, channel, leftover, agreed, uuid, address, place);
            }
        }
        Ok(Outcome::Left) => {}
        Err(fault) => node.clients().dropped(client.reason().unwrap_or(reason(&fault)), address, &fault),
    }
}

/// Serves a client that negotiated on another core.
pub async fn resume(node: Rc<Node>, handover: Handover) {
    let Handover { socket, tls, leftover, agreed, uuid, address, place } = handover;
    let channel = Channel::new(node.core(), socket, address, node.zero_copy_bytes()).resume(tls);
    let client = node.clients().enter(channel.socket(), address, None);
    client.named(&agreed.export.name, agreed.tls);
    transmit(&node, client, channel, leftover, agreed, uuid).await;
    drop(place);
}

async fn transmit(
    node: &Rc<Node>,
    client: Rc<Client>,
    channel: Channel,
    leftover: Vec<u8>,
    agreed: Agreed,
    uuid: Uuid,
) {
    let address = client.address();
    let Some(volume) = node.volume(uuid) else {
        let fault =
            Fault::new(Kind::NotFound, format!("volume {} has just been removed", agreed.export.name));
        node.clients().dropped(DropReason::VolumeGone, address, &fault);
        return;
    };
    let connection = Connection::new(node.clone(), client.clone(), channel, volume, agreed);
    if let Err(fault) = commands::serve(&connection, leftover).await {
        // A client that just goes away is nothing to report.
        if fault.kind() != Kind::Disconnected || client.reason().is_some() {
            node.clients().dropped(client.reason().unwrap_or(reason(&fault)), address, &fault);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of a handover, each used once")]
fn hand_over(
    node: &Node,
    core: usize,
    channel: Channel,
    leftover: Vec<u8>,
    agreed: Agreed,
    uuid: Uuid,
    address: Option<SocketAddr>,
    place: Place,
) {
    match channel.into_parts() {
        Ok((socket, tls, mut plaintext)) => {
            let mut all = leftover;
            all.append(&mut plaintext);
            let handover = Handover { socket, tls, leftover: all, agreed, uuid, address, place };
            node.tell(core, Ask::Adopt(Box::new(handover)));
        }
        Err(fault) => node.clients().dropped(DropReason::Resources, address, &fault),
    }
}

/// No waiting for more to send, and a word from the kernel when the client's machine is gone.
fn prepare(socket: &OwnedFd, address: Option<SocketAddr>) {
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
