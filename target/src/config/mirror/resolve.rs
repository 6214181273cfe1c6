//! From the drafts of `[peers]` and `[mirror]` to what they mean.
//!
//! Its one rule: keys and certificates are read here, so that a node with unusable ones does not start.

use std::net::SocketAddr;

use super::draft::{MirrorDraft, PeersDraft};
use super::{MirrorConfig, key};
use crate::config::mistake::{At, Mistake, Slot, Wrong};
use crate::config::tls::TlsFiles;
use crate::config::values::MIRROR_PORT;
use crate::config::volume::Declaration;
use crate::settings::{LinkAuthentication, LinkTls, Portal};

/// The configuration that the drafts mean for the node called `own`, as far as they mean one.
pub fn resolve(
    peers: PeersDraft,
    draft: MirrorDraft,
    own: &str,
    mistakes: &mut Vec<Mistake>,
) -> MirrorConfig {
    check_addresses(&peers, own, mistakes);
    let tls_files = tls_files(&draft, mistakes);
    let tls = tls_files.as_ref().and_then(|files| match load_tls(&files.value, own) {
        Ok(tls) => Some(tls),
        Err(wrong) => {
            mistakes.push(wrong.on_machine().at(&files.origin));
            None
        }
    });
    let key = draft.key_file.and_then(|file| match key::read(&file.value) {
        Ok(key) => Some(key),
        Err(wrong) => {
            mistakes.push(wrong.on_machine().at(&file.origin));
            None
        }
    });
    let portal = draft.portal.or_else(|| own_portal(peers.addresses.get(own)?));
    let tls_files = tls_files.map(|at| at.value);
    MirrorConfig {
        portal,
        peers: peers.addresses,
        authentication: LinkAuthentication { key, tls },
        tls_fingerprint: tls_files.as_ref().map(TlsFiles::fingerprint).unwrap_or_default(),
        tls_files,
    }
}

/// A mirrored volume is declared on the nodes that hold it.
pub fn check_own_names(volumes: &[Declaration], own: &str, mistakes: &mut Vec<Mistake>) {
    for mirror in volumes.iter().filter_map(|volume| volume.mirror.as_ref()) {
        mistakes.extend(mirror.place_of(own).err().map(|wrong| wrong.at(&mirror.replicas.origin)));
    }
}

fn check_addresses(peers: &PeersDraft, own: &str, mistakes: &mut Vec<Mistake>) {
    let addresses: Vec<_> = peers.addresses.iter().collect();
    for (index, (name, address)) in addresses.iter().enumerate() {
        let is_any = |address: SocketAddr| address.ip().is_unspecified();
        if name.as_str() != own && address.value.parse().is_ok_and(is_any) {
            let cause =
                format!("peer `{name}`: {} is where one listens, not where another finds it", address.value);
            let remedy = format!("write the node's own address, as in 10.0.0.2:{MIRROR_PORT}");
            mistakes.push(Wrong::new(cause, remedy).at(&address.origin));
        }
        if let Some((other, _)) = addresses[..index].iter().find(|(_, other)| other.value == address.value) {
            let cause = format!("the peers `{other}` and `{name}` have the same address, {}", address.value);
            mistakes.push(Wrong::new(cause, "give each node its own").at(&address.origin));
        }
    }
}

/// Where a node listens that others find at `address`: there, or, behind a host's name, at that port.
fn own_portal(address: &At<String>) -> Slot<Portal> {
    let listening = address.value.parse().ok().or_else(|| {
        let (_, port) = address.value.rsplit_once(':')?;
        Some(SocketAddr::from(([0u16; 8], port.parse().ok()?)))
    })?;
    Some(At::new(Portal::Tcp(listening), address.origin.clone()))
}

fn tls_files(draft: &MirrorDraft, mistakes: &mut Vec<Mistake>) -> Slot<TlsFiles> {
    let MirrorDraft { tls_certificate, tls_key, tls_ca, .. } = draft;
    match (tls_certificate, tls_key, tls_ca) {
        (Some(certificate), Some(key), Some(ca)) => {
            let client_ca = Some(ca.value.clone());
            let files =
                TlsFiles { certificate: certificate.value.clone(), key: key.value.clone(), client_ca };
            Some(At::new(files, certificate.origin.clone()))
        }
        (None, None, None) => None,
        _ => {
            let one = [tls_certificate, tls_key, tls_ca]
                .into_iter()
                .flatten()
                .next()
                .expect("one of them is there");
            let cause = "TLS between nodes needs a certificate, its key, and the CA of all nodes";
            let wrong = Wrong::new(cause, "set tls_certificate, tls_key and tls_ca, or none of them");
            mistakes.push(wrong.at(&one.origin));
            None
        }
    }
}

fn load_tls(files: &TlsFiles, own: &str) -> Result<LinkTls, Wrong> {
    files.check_name(own)?;
    Ok(LinkTls { server: files.load_link_server()?, client: files.load_link_client()? })
}
