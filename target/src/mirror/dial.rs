//! Dialing peers: one task for each, which brings a link up whenever there is none.
//!
//! Its one rule: the replica with the greater number dials at once, the other only when no link has come for a
//! while, for a peer that does not know our address.

use std::net::{IpAddr, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reactor::io as verbs;
use replication::ReplicaId;
use replication::wire::handshake::{DialStep, Dialer, Linked};
use socket2::SockRef;

use super::{Mirror, serve_link};
use crate::channel::Channel;
use crate::fault::{Fault, Kind};
use crate::serve_mirror::{certified, local_of, nonce, own_name, untrusted};
use crate::serve_nbd::prepare;

/// A link must be up after so long.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the lesser waits for the greater.
const COURTESY: Duration = Duration::from_secs(2);

/// Starts a task for each peer.
pub fn start(mirror: &Rc<Mirror>) {
    for peer in 0..mirror.settings().replicas.len() {
        let peer = ReplicaId(peer as u8);
        if peer != mirror.own {
            mirror.core.spawn(keep_linked(mirror.clone(), peer));
        }
    }
}

async fn keep_linked(mirror: Rc<Mirror>, peer: ReplicaId) {
    let mut pause = PAUSE_MIN;
    while !mirror.is_closed.get() {
        if mirror.links.is_up(peer) {
            mirror.links.changed.wait().await;
            continue;
        }
        let Some(address) = mirror.settings().addresses[peer.index()].clone() else {
            let why = "its address is not under [peers], and it has not dialed this node: add it there";
            mirror.links.trouble(peer, why, true);
            mirror.links.changed.wait().await;
            continue;
        };
        if mirror.has_failed() {
            verbs::sleep(&mirror.core, PAUSE_MAX).await;
            continue;
        }
        if mirror.own < peer {
            verbs::sleep(&mirror.core, COURTESY).await;
            if mirror.links.is_up(peer) {
                continue;
            }
        }
        match dial(&mirror, peer, &address).await {
            Ok((channel, linked, leftover)) => {
                let since = mirror.core.now();
                serve_link(mirror.clone(), channel, linked, leftover).await;
                // One that ends at once would end at once again.
                if mirror.core.now() - since > PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
            }
            Err(fault) => {
                let is_news = mirror.links.trouble(peer, &fault.to_string(), fault.kind() == Kind::Protocol);
                if is_news && !mirror.links.is_up(peer) {
                    let peer = mirror.name_of(peer);
                    tracing::warn!(volume = mirror.name, peer, address, "cannot be linked: {fault}");
                }
            }
        }
        verbs::sleep(&mirror.core, pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn dial(
    mirror: &Rc<Mirror>,
    peer: ReplicaId,
    address: &str,
) -> Result<(Channel, Linked, Vec<u8>), Fault> {
    let core = &mirror.core;
    let address = resolve(address).await?;
    let fd = core.socket(address).map_err(|error| Fault::io("cannot make a socket for a link", error))?;
    prepare(&fd, Some(address));
    come_from_own_address(mirror, &fd, address);
    let channel = Channel::new(core, fd, Some(address), None);
    let socket = channel.socket().clone();
    let expire = move || socket.shutdown(Shutdown::Both);
    verbs::with_deadline(core.now() + ATTEMPT, shake_hands(mirror, peer, channel, address), expire).await
}

/// A peer may know us by the very address that we listen on.
fn come_from_own_address(mirror: &Mirror, fd: &OwnedFd, to: SocketAddr) {
    let listening = mirror.link_settings.borrow().listening.map(|address| address.ip());
    let fits = |own: &IpAddr| {
        !own.is_unspecified() && own.is_ipv4() == to.is_ipv4() && own.is_loopback() == to.ip().is_loopback()
    };
    if let Some(own) = listening.filter(fits) {
        // An address that is not there any more is no reason to stay alone.
        let _ = SockRef::from(fd).bind(&SocketAddr::new(own, 0).into());
    }
}

async fn shake_hands(
    mirror: &Rc<Mirror>,
    peer: ReplicaId,
    mut channel: Channel,
    address: SocketAddr,
) -> Result<(Channel, Linked, Vec<u8>), Fault> {
    let connected = verbs::connect(channel.socket(), address).await;
    connected
        .map_err(|error| Fault::caused(Kind::Disconnected, format!("{address} cannot be reached"), error))?;
    let links = mirror.link_settings.borrow().clone();
    if let Some(tls) = &links.authentication.tls {
        let name = mirror.name_of(peer);
        channel.connect_tls(&tls.client, own_name(&name)?).await.map_err(untrusted)?;
    }
    let local = local_of(&links, mirror.settings().node, certified(&channel, &mirror.settings().replicas));
    let mut out = Vec::new();
    let mut dialer = Dialer::new(local, mirror.facts(), peer, nonce(&mirror.core)?, &mut out);
    let mut input: Vec<u8> = Vec::new();
    loop {
        channel.send_bytes(&out).await?;
        out.clear();
        let Some(more) = channel.receive(0).await.map_err(untrusted)? else {
            return Err(Fault::new(Kind::Disconnected, "the peer has hung up in the handshake"));
        };
        input.extend_from_slice(more.bytes());
        let (taken, step) = dialer.step(&input, &mut out);
        input.drain(..taken);
        match step {
            DialStep::More => {}
            DialStep::Linked(linked) => {
                channel.send_bytes(&out).await?;
                return Ok((channel, linked, input));
            }
            DialStep::Failed(error) => {
                channel.send_bytes(&out).await?;
                return Err(Fault::caused(Kind::Protocol, "the handshake", error));
            }
        }
    }
}

/// Names are looked up on a helper thread.
async fn resolve(address: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let found: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let (name, to) = (address.to_owned(), found.clone());
    let looked_up = verbs::blocking(move || {
        *to.lock().expect("nobody panics while holding it") = name.to_socket_addrs()?.next();
        Ok(0)
    });
    let looked_up = looked_up.await;
    looked_up
        .map_err(|error| Fault::caused(Kind::NotFound, format!("{address} cannot be looked up"), error))?;
    let found = found.lock().expect("nobody panics while holding it").take();
    found.ok_or_else(|| Fault::new(Kind::NotFound, format!("{address} has no address")))
}
