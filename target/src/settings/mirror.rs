//! A mirrored volume as its core knows it: who its replicas are, where they are, and how they prove who they are.
//!
//! Its one rule: `replicas` is the same list, in the same order, on every node.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use replication::OnPeerLoss;
use uuid::Uuid;

/// The mirror of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSettings {
    /// The names of all nodes that have a replica, 1 to 8.
    pub replicas: Vec<String>,
    /// Which of them this node is.
    pub own: usize,
    /// Where each listens, as `host:port`; `None` for this node, and where nobody has said it.
    pub addresses: Vec<Option<String>>,
    /// What a lost peer does to writes.
    pub on_peer_loss: OnPeerLoss,
    /// A peer that is silent for so long leaves the in-sync set.
    pub peer_timeout: Duration,
    /// This node.
    pub node: Uuid,
    /// The file of its metadata.
    pub metadata: PathBuf,
    /// The backing has just been made, and reads as zeros.
    pub blank: bool,
    /// The machine has not restarted since the backing was last written to.
    pub cache_kept: bool,
    /// As the replica knows it now.
    pub era: Era,
}

/// A number that changes when writes may be lost that were acknowledged and not flushed, and with nothing else: not
/// with the leader. Its replica sets it; negotiation on any core tells it to clients. 0: nobody knows yet.
#[derive(Clone, Debug, Default)]
pub struct Era(Arc<AtomicU64>);

impl Era {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A new one.
    pub fn set(&self, era: u64) {
        self.0.store(era, Ordering::Relaxed);
    }
}

/// Settings are the same whatever the era.
impl PartialEq for Era {
    fn eq(&self, _: &Era) -> bool {
        true
    }
}

impl Eq for Era {}

/// How nodes prove to each other who they are.
#[derive(Clone, Default)]
pub struct LinkAuthentication {
    /// The key that all share; at least 32 bytes.
    pub key: Option<Arc<[u8]>>,
    /// Certificates of both ends, each naming its node.
    pub tls: Option<LinkTls>,
}

/// TLS on links, with certificates on both ends.
#[derive(Clone)]
pub struct LinkTls {
    /// For links that peers dial.
    pub server: Arc<rustls::ServerConfig>,
    /// For links that we dial.
    pub client: Arc<rustls::ClientConfig>,
}

/// What holds for links of this node.
#[derive(Clone, Default)]
pub struct LinkSettings {
    /// The node's name.
    pub node_name: String,
    /// How they authenticate.
    pub authentication: LinkAuthentication,
    /// Where the node listens for them, once it does.
    pub listening: Option<SocketAddr>,
}

impl fmt::Debug for LinkAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkAuthentication(key: {}, TLS: {})", self.key.is_some(), self.tls.is_some())
    }
}
