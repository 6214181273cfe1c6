//! The sockets of a device.
//!
//! Its one rule: a slot has our descriptor of its socket as long as the connection lives, and no longer.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use super::sockets;
use super::state::{Connection, now_seconds};
use crate::client::KernelSocket;
use crate::error::{Error, Kind};
use crate::uri::Endpoint;

/// A socket of the device. The driver fills a dead one's place with whatever socket comes next.
#[derive(Debug)]
pub(super) struct Slot {
    pub node: usize,
    /// Our end of it as long as it lives; `None` also if another process attached it.
    pub socket: Option<OwnedFd>,
    pub connection: Connection,
}

/// A socket of each server in turn, so that the device's first queues, which may be all it has, reach all of them. A
/// server that is to come later has a dead socket to be replaced.
pub(super) fn interleave(
    endpoints: &[Endpoint],
    sockets: Vec<Vec<KernelSocket>>,
    each: usize,
    hold_places: bool,
) -> Result<Vec<Slot>, Error> {
    let mut nodes: Vec<_> = sockets.into_iter().map(Vec::into_iter).collect();
    let mut slots = Vec::new();
    for _ in 0..each {
        for (node, sockets) in nodes.iter_mut().enumerate() {
            let host = &endpoints[node];
            match sockets.next() {
                Some(dialed) => slots.push(Slot::live(node, host, dialed.socket)),
                None if hold_places => slots.push(Slot::dead(node, host)?),
                None => {}
            }
        }
    }
    Ok(slots)
}

/// Slots of which there is but a record.
pub(super) fn of_another_process(endpoints: &[Endpoint], connections: &[Connection]) -> Vec<Slot> {
    let node = |host: &str| endpoints.iter().position(|endpoint| endpoint.to_string() == host);
    let slot = |connection: &Connection| {
        Some(Slot { node: node(&connection.host)?, socket: None, connection: connection.clone() })
    };
    connections.iter().filter_map(slot).collect()
}

impl Slot {
    pub(super) fn live(node: usize, host: &Endpoint, socket: OwnedFd) -> Slot {
        let (local, remote) = addresses(&socket);
        let connection =
            Connection { host: host.to_string(), local, remote, live: true, since: now_seconds() };
        Slot { node, socket: Some(socket), connection }
    }

    /// A socket whose other end is closed: the driver finds it dead at once.
    fn dead(node: usize, host: &Endpoint) -> Result<Slot, Error> {
        let failed = |error| Error::caused(Kind::Local, "no pair of sockets", error);
        let (ours, _) = UnixStream::pair().map_err(failed)?;
        let mut slot = Slot::live(node, host, ours.into());
        slot.connection.live = false;
        Ok(slot)
    }

    /// The connection has ended.
    pub(super) fn end(&mut self) {
        if let Some(socket) = self.socket.take() {
            sockets::stop_delivering(&socket);
        }
        self.connection.live = false;
        self.connection.since = now_seconds();
    }
}

fn addresses(socket: &OwnedFd) -> (String, String) {
    let socket = SockRef::from(socket);
    let text = |address: io::Result<socket2::SockAddr>| match address.ok().and_then(|it| it.as_socket()) {
        Some(address) => address.to_string(),
        None => "unix".to_owned(),
    };
    (text(socket.local_addr()), text(socket.peer_addr()))
}
