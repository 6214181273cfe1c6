//! Mirrored volumes in the configuration: `[peers]`, `[mirror]`, and what `[[volume]]` says of replicas.
//!
//! Its one rule: nodes are known by name; addresses only say where a name may be found.

pub mod draft;
mod key;
mod resolve;
mod volume;

use std::collections::BTreeMap;
use std::time::Duration;

use replication::OnPeerLoss;

use super::mistake::{At, Origin, Slot, Wrong};
use super::tls::TlsFiles;
use super::volume::Declaration;
use crate::settings::{LinkAuthentication, Portal};

pub use resolve::{check_own_names, resolve};
pub use volume::ReplicasDraft;

/// A peer that is silent for so long is lost, where nothing else is said.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// The links between nodes as they are configured.
#[derive(Clone, Default)]
pub struct MirrorConfig {
    /// Where links are taken, once a volume has replicas; `None` when nothing was said.
    pub portal: Slot<Portal>,
    /// Where nodes listen, by name, as `host:port`.
    pub peers: BTreeMap<String, At<String>>,
    /// How nodes prove who they are.
    pub authentication: LinkAuthentication,
    /// Where its certificates came from.
    pub tls_files: Option<TlsFiles>,
    /// Changes when they do.
    pub tls_fingerprint: Vec<u8>,
}

/// What is declared of a mirrored volume's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorDeclaration {
    /// The nodes that hold a copy each, in the order that all of them have.
    pub replicas: At<Vec<String>>,
    /// What a lost peer does to writes.
    pub on_peer_loss: OnPeerLoss,
    /// A peer that is silent for so long is lost.
    pub peer_timeout: Duration,
}

impl MirrorDeclaration {
    /// Which replica the node called `name` has.
    pub fn place_of(&self, name: &str) -> Result<usize, Wrong> {
        let replicas = &self.replicas.value;
        replicas.iter().position(|replica| replica == name).ok_or_else(|| {
            let cause =
                format!("this node is called `{name}`, which is none of `replicas`: {}", replicas.join(", "));
            Wrong::new(cause, "add it, or set name in [node] (--name) to the one that it is")
        })
    }
}

impl MirrorConfig {
    /// What is no mistake and yet may not be meant, for `volumes`, on the node called `own`.
    pub fn remarks<'v>(&self, own: &str, volumes: impl IntoIterator<Item = &'v Declaration>) -> Vec<String> {
        let mirrored =
            volumes.into_iter().filter_map(|volume| Some((volume.name.as_str(), volume.mirror.as_ref()?)));
        let mirrored: Vec<_> = mirrored.collect();
        let mut remarks: Vec<String> = Vec::new();
        let has_peers = mirrored.iter().any(|(_, mirror)| mirror.replicas.value.len() > 1);
        if has_peers && self.authentication.key.is_none() && self.authentication.tls.is_none() {
            remarks.push(
                "peers are let in by their address alone: give all nodes the same `key_file` in [mirror], or TLS"
                    .to_owned(),
            );
        }
        for (volume, mirror) in mirrored {
            remarks.extend(mirror.remark(volume));
            for name in mirror.replicas.value.iter().filter(|name| *name != own) {
                if !self.peers.contains_key(name) {
                    remarks.push(unknown_address(name, &mirror.replicas.origin));
                }
            }
        }
        remarks.dedup();
        remarks
    }
}

impl MirrorDeclaration {
    /// What so few replicas do not give.
    fn remark(&self, volume: &str) -> Option<String> {
        let At { value: replicas, origin } = &self.replicas;
        match (replicas.as_slice(), self.on_peer_loss) {
            ([only], _) => Some(format!(
                "{origin}: volume `{volume}` has one replica, on `{only}`: nothing is mirrored until another node is \
                 added to `replicas`"
            )),
            ([_, _], OnPeerLoss::Suspend) => Some(format!(
                "{origin}: volume `{volume}` has two replicas and on_peer_loss = \"suspend\": writes wait while either \
                 node is away; add a third, or choose \"continue\""
            )),
            _ => None,
        }
    }
}

fn unknown_address(name: &str, origin: &Origin) -> String {
    format!(
        "{origin}: the replica `{name}` has no address under [peers]: its node can link to this one, not the other \
         way round"
    )
}

#[cfg(test)]
mod tests;
