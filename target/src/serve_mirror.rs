//! Links that peers dial: shake hands, move to the volume's core, serve.
//!
//! Its one rule: nothing of a volume is told to who has not proved who it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Core, io as verbs};
use replication::NodeId;
use replication::wire::handshake::{
    AcceptStep, Acceptor, Auth, Features, Key, Local, Nonce, Reason, Versions, Wanted,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use uuid::Uuid;

use crate::channel::{Channel, Parts};
use crate::clients::{DropReason, Place};
use crate::fault::{Fault, Kind};
use crate::message::{Adopted, Ask};
use crate::mirror::{Mirror, serve_link};
use crate::serve_core::ServingCore;
use crate::serve_nbd::prepare;
use crate::settings::LinkSettings;

/// A handshake must be over after so long.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// An authenticated link on its way to its volume's core.
pub struct Handover {
    parts: Parts,
    leftover: Vec<u8>,
    acceptor: Acceptor,
    wanted: Wanted,
    volume: Uuid,
    _place: Place,
}

/// Serves a link that has just been accepted.
pub async fn serve(here: Rc<ServingCore>, socket: OwnedFd, place: Place) {
    let address = here.core().peer(socket.as_fd());
    prepare(&socket, address);
    let channel = Channel::new(here.core(), socket, address, None);
    let socket = channel.socket().clone();
    let expire = move || socket.shutdown(Shutdown::Both);
    let deadline = here.core().now() + HANDSHAKE;
    let met = verbs::with_deadline(deadline, meet(&here, channel), expire).await;
    let result = match met {
        Ok(met) => go_home(&here, met, address, place).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = result {
        turned_away(&here, address, &fault);
    }
}

/// Serves a link that was accepted on another core.
pub async fn resume(here: Rc<ServingCore>, handover: Handover) {
    let Handover { parts, mut leftover, acceptor, wanted, volume, _place } = handover;
    leftover.extend_from_slice(&parts.plaintext);
    let address = here.core().peer(parts.socket.as_fd());
    let channel = Channel::new(here.core(), parts.socket, address, None).resume(parts.tls);
    let met = Met { channel, leftover, acceptor, wanted };
    if let Err(fault) = accept(&here, met, volume, address).await {
        turned_away(&here, address, &fault);
    }
}

/// Says why once, and not each time that the same peer tries again.
fn turned_away(here: &ServingCore, address: Option<SocketAddr>, fault: &Fault) {
    let from = address.map_or_else(String::new, |address| address.ip().to_string());
    here.clients().count_dropped(DropReason::Link);
    if here.link_troubles().is_news(&from, &fault.to_string()) {
        tracing::warn!(from, "a link is refused: {fault}");
    }
}

/// What was last said of links from each address.
#[derive(Default)]
pub struct LinkTroubles(RefCell<BTreeMap<String, String>>);

impl LinkTroubles {
    /// Of so many addresses.
    const ADDRESSES_MAX: usize = 64;

    fn is_news(&self, from: &str, trouble: &str) -> bool {
        let mut known = self.0.borrow_mut();
        if known.get(from).is_some_and(|last| last == trouble) {
            return false;
        }
        if known.len() >= Self::ADDRESSES_MAX {
            known.clear();
        }
        known.insert(from.to_owned(), trouble.to_owned());
        true
    }
}

/// Who has come, before it is let in.
struct Met {
    channel: Channel,
    leftover: Vec<u8>,
    acceptor: Acceptor,
    wanted: Wanted,
}

async fn meet(here: &Rc<ServingCore>, mut channel: Channel) -> Result<Met, Fault> {
    let directory = here.directory();
    let links = &directory.links;
    if let Some(tls) = &links.authentication.tls {
        channel.start_tls(&tls.server).await.map_err(untrusted)?;
    }
    let mirrors = || directory.exports.values().filter_map(|entry| entry.settings.mirror.as_ref());
    let names: Vec<String> = mirrors().flat_map(|mirror| mirror.replicas.iter().cloned()).collect();
    let Some(node) = mirrors().map(|mirror| mirror.node).next() else {
        return Err(Fault::new(Kind::NotFound, "a peer has come, and no volume here is mirrored"));
    };
    let mut acceptor = Acceptor::new(local_of(links, node, certified(&channel, &names)), nonce(here.core())?);
    let mut input: Vec<u8> = Vec::new();
    let mut out = Vec::new();
    loop {
        let Some(more) = channel.receive(0).await.map_err(untrusted)? else {
            return Err(Fault::new(Kind::Disconnected, "a peer has hung up in the handshake"));
        };
        input.extend_from_slice(more.bytes());
        let (taken, step) = acceptor.step(&input, &mut out);
        input.drain(..taken);
        channel.send_bytes(&out).await?;
        out.clear();
        match step {
            AcceptStep::More => {}
            AcceptStep::Wanted(wanted) => return Ok(Met { channel, leftover: input, acceptor, wanted }),
            AcceptStep::Failed(error) => return Err(Fault::caused(Kind::Protocol, "a peer's link", error)),
        }
    }
}

/// The volume may live on another core.
async fn go_home(
    here: &Rc<ServingCore>,
    met: Met,
    address: Option<SocketAddr>,
    place: Place,
) -> Result<(), Fault> {
    let directory = here.directory();
    let entry = directory.exports.get(&met.wanted.volume).filter(|entry| entry.settings.mirror.is_some());
    let Some(entry) = entry else {
        let (node, volume) = (directory.links.node_name.clone(), met.wanted.volume.clone());
        return refuse(met, Reason::UnknownVolume { node, volume }).await;
    };
    let volume = entry.settings.uuid;
    if entry.core == here.index() {
        let result = accept(here, met, volume, address).await;
        drop(place);
        return result;
    }
    let Met { channel, leftover, acceptor, wanted } = met;
    let parts = channel.into_parts()?;
    let handover = Handover { parts, leftover, acceptor, wanted, volume, _place: place };
    here.tell(entry.core, Ask::Adopt(Adopted::Mirror(Box::new(handover))));
    Ok(())
}

async fn accept(
    here: &Rc<ServingCore>,
    met: Met,
    volume: Uuid,
    address: Option<SocketAddr>,
) -> Result<(), Fault> {
    let mirror = here.volume(volume).and_then(|volume| volume.mirror().cloned());
    let Some(mirror) = mirror.filter(|mirror| !mirror.has_failed()) else {
        let (node, volume) = (here.directory().links.node_name.clone(), met.wanted.volume.clone());
        return refuse(met, Reason::NotNow { node, volume }).await;
    };
    if let Some(reason) = wrong_address(here, &mirror, &met.wanted, address) {
        return refuse(met, reason).await;
    }
    let Met { channel, leftover, acceptor, wanted } = met;
    let mut out = Vec::new();
    let known = mirror.node_linked(wanted.replica);
    let linked = acceptor.accept(&mirror.facts(), known, &mut out);
    channel.send_bytes(&out).await?;
    let linked = linked.map_err(|error| Fault::caused(Kind::Protocol, "a peer's link", error))?;
    serve_link(mirror, channel, linked, leftover).await;
    Ok(())
}

async fn refuse(met: Met, reason: Reason) -> Result<(), Fault> {
    let mut out = Vec::new();
    let error = met.acceptor.refuse(reason, &mut out);
    met.channel.send_bytes(&out).await?;
    Err(Fault::caused(Kind::Protocol, "a peer's link", error))
}

/// Where nothing else proves who a peer is, it must come from its own address.
fn wrong_address(
    here: &ServingCore,
    mirror: &Mirror,
    wanted: &Wanted,
    address: Option<SocketAddr>,
) -> Option<Reason> {
    let links = here.directory().links.clone();
    if links.authentication.key.is_some() || links.authentication.tls.is_some() {
        return None;
    }
    let settings = mirror.settings();
    let stated: SocketAddr = settings.addresses.get(wanted.replica.index())?.as_ref()?.parse().ok()?;
    let (stated, from) = (stated.ip().to_canonical(), address?.ip().to_canonical());
    (stated != from).then(|| Reason::WrongAddress {
        one: links.node_name.clone(),
        node: wanted.name.clone(),
        from: from.to_string(),
        stated: stated.to_string(),
    })
}

/// This node, as a handshake introduces it.
pub fn local_of(links: &LinkSettings, node: Uuid, certified: Vec<String>) -> Local {
    let authentication = &links.authentication;
    let key = authentication.key.as_ref();
    let key = key.map(|key| Key::new(key.to_vec()).expect("a shorter key is refused when it is read"));
    let auth = match (&authentication.tls, key) {
        (Some(_), _) => Auth::Tls { certified },
        (None, Some(key)) => Auth::Key(key),
        (None, None) => Auth::None,
    };
    Local {
        name: links.node_name.clone(),
        node: NodeId(*node.as_bytes()),
        versions: Versions::OURS,
        features: Features::default(),
        auth,
    }
}

/// Those of `names` that the certificate of the other end is valid for.
pub fn certified(channel: &Channel, names: &[String]) -> Vec<String> {
    let Some(certificate) = channel.peer_certificate() else { return Vec::new() };
    names.iter().filter(|name| is_valid_for(&certificate, name)).cloned().collect()
}

fn is_valid_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let parsed = ParsedCertificate::try_from(certificate).ok();
    let name = ServerName::try_from(name).ok();
    parsed
        .zip(name)
        .is_some_and(|(certificate, name)| rustls::client::verify_server_name(&certificate, &name).is_ok())
}

/// A node's name as a certificate has it.
pub fn own_name(name: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Fault::new(Kind::Invalid, format!("the node's name {name} cannot stand in a certificate; rename it"))
    })
}

/// TLS between nodes has failed. One that has only hung up has not said why.
pub fn untrusted(fault: Fault) -> Fault {
    if fault.kind() != Kind::Protocol {
        return fault;
    }
    let remedy = "give each node a certificate with its own name, signed by the authority that is `tls_ca` in [mirror] of \
                  all nodes";
    Fault::new(Kind::Protocol, format!("{fault}: {remedy}"))
}

/// Random bytes for one handshake.
pub fn nonce(core: &Core) -> Result<Nonce, Fault> {
    let mut nonce = [0; 32];
    core.random(&mut nonce)
        .map_err(|error| Fault::caused(Kind::Resources, "no random numbers from the kernel", error))?;
    Ok(nonce)
}
