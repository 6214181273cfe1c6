//! The handshake of a link: who is there, of which version, for which volume; nobody else gets in.
//!
//! ```text
//! dialer                                            acceptor
//! Greeting (versions, features, name, nonce) ─▶
//!                                            ◀─ Greeting
//! Attach (volume, replicas, sizes, proof)    ─▶     Wanted: the caller looks the volume up, then
//!                                            ◀─ Accepted (proof), or Refused (reason) at any time, either way
//! frames                                    ◀─▶     frames
//! proof = HMAC-SHA-256(key, role | SHA-256(all packets so far, this one up to its proof))
//! ```
//! Its one rule: what is said of volumes is looked at only after the dialer has proved who it is.

mod acceptor;
mod dialer;
mod packet;
mod proof;
mod reason;

pub use acceptor::{AcceptStep, Acceptor, Wanted};
pub use dialer::{DialStep, Dialer};
pub use packet::PACKET_BYTES_MAX;
pub use proof::{KEY_BYTES_MIN, Key, KeyTooShort};
pub use reason::{HandshakeError, Reason};

use crate::id::{NodeId, ReplicaId};

use packet::Greeting;
use reason::Reason as R;

/// Random bytes, drawn anew for each handshake.
pub type Nonce = [u8; 32];

/// The protocol versions that a node speaks: all from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Versions = Versions { lowest: 1, highest: 1 };

    /// The highest that both speak.
    pub fn agree(self, other: Versions) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// What a node can beyond its version, a bit each. Who does not know a bit ignores it, unless it is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Features {
    /// What it can.
    pub offered: u64,
    /// Which of these the peer must offer, too.
    pub required: u64,
}

/// How nodes prove who they are. Both ends must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all: the network is trusted.
    None,
    /// By a secret that all nodes share. It keeps strangers out, and does not encrypt.
    Key(Key),
    /// By certificates, in the TLS handshake that has come before.
    Tls {
        /// The names that the peer's certificate is valid for (of those we would know, at least).
        certified: Vec<String>,
    },
}

impl Auth {
    fn kind(&self) -> AuthKind {
        match self {
            Auth::None => AuthKind::None,
            Auth::Key(_) => AuthKind::Key,
            Auth::Tls { .. } => AuthKind::Tls,
        }
    }
}

/// Which of `Auth` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum AuthKind {
    /// Nothing.
    None,
    /// A shared key.
    Key,
    /// TLS.
    Tls,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its name: not empty, at most 255 bytes.
    pub name: String,
    /// Its UUID.
    pub node: NodeId,
    /// What it speaks: `Versions::OURS`, but for tests.
    pub versions: Versions,
    /// What it can.
    pub features: Features,
    /// How it proves who it is.
    pub auth: Auth,
}

/// A mirrored volume as this node is configured.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct VolumeFacts {
    /// Its name.
    pub volume: String,
    /// The names of the nodes that hold it, in order.
    pub replicas: Vec<String>,
    /// Which of them this node is.
    pub own: ReplicaId,
    /// The volume's size.
    pub size_bytes: u64,
    /// How its bitmaps are cut.
    pub region_bytes: u64,
}

/// What both have agreed on. Frames follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// For `frame::Stamp` and `frame::Header::decode`.
    pub version: u16,
    /// What both can.
    pub features: u64,
    /// Who is there.
    pub peer: ReplicaId,
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub node: NodeId,
}

/// What two greetings lead to, whoever looks at them.
#[derive(Clone, Copy, Debug)]
struct Terms {
    version: u16,
    features: u64,
}

impl Local {
    fn greeting(&self, nonce: Nonce) -> Greeting {
        Greeting {
            versions: self.versions,
            features: self.features,
            auth: self.auth.kind(),
            nonce,
            name: self.name.clone(),
            node: self.node,
        }
    }

    /// All that two greetings say of each other.
    fn meet(&self, peer: &Greeting) -> Result<Terms, Reason> {
        let (own_name, peer_name) = (self.name.clone(), peer.name.clone());
        if self.node == peer.node {
            return Err(if own_name == peer_name {
                R::Itself { node: own_name }
            } else {
                R::SameUuid { one: own_name, other: peer_name }
            });
        }
        if own_name == peer_name {
            return Err(R::SameName { name: own_name });
        }
        let Some(version) = self.versions.agree(peer.versions) else {
            let (one, other) = (self.versions, peer.versions);
            return Err(R::NoCommonVersion { one: own_name, speaks: one, other: peer_name, its: other });
        };
        self.meet_features(peer)?;
        if self.auth.kind() != peer.auth {
            return Err(R::OtherAuth {
                one: own_name,
                by: self.auth.kind(),
                other: peer_name,
                its: peer.auth,
            });
        }
        if let Auth::Tls { certified } = &self.auth
            && !certified.contains(&peer.name)
        {
            return Err(R::Certificate { node: peer_name });
        }
        Ok(Terms { version, features: self.features.offered & peer.features.offered })
    }

    fn meet_features(&self, peer: &Greeting) -> Result<(), Reason> {
        let missed = |requires: &Features, has: &Features| requires.required & !has.offered;
        let (ours, its) = (missed(&self.features, &peer.features), missed(&peer.features, &self.features));
        let (own_name, peer_name) = (self.name.clone(), peer.name.clone());
        if ours != 0 {
            return Err(R::FeatureMissing { requires: own_name, lacks: peer_name, bits: ours });
        }
        if its != 0 {
            return Err(R::FeatureMissing { requires: peer_name, lacks: own_name, bits: its });
        }
        Ok(())
    }
}
