//! The settings of a node after the configuration has been read: values that cannot be wrong in form.
//!
//! `config` makes them from TOML and flags; cores and stores only ever see these.

mod iscsi;
mod mirror;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;

pub use iscsi::{IscsiAuthentication, IscsiLun, IscsiSettings, IscsiTarget};
pub use mirror::{Era, LinkAuthentication, LinkSettings, LinkTls, MirrorSettings};

/// Where the bytes of a volume lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A regular file.
    File {
        /// Its path.
        path: PathBuf,
        /// How its bytes reach the disk.
        cache: FileCache,
    },
    /// A block device.
    Block {
        /// Its path, `/dev/…`.
        path: PathBuf,
    },
    /// An NVMe namespace by its generic character device.
    Nvme {
        /// Its path, `/dev/ngXnY`.
        path: PathBuf,
    },
    /// Anonymous memory: its bytes end with the process.
    Memory,
}

/// How a file backing uses the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FileCache {
    /// O_DIRECT, or buffered (said once) where the file system refuses it.
    #[default]
    Auto,
    /// O_DIRECT, or an error.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// One volume as an operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSettings {
    /// The export's name, 1 to 255 bytes.
    pub name: String,
    /// The identity that never changes.
    pub uuid: Uuid,
    /// Where its bytes lie.
    pub backing: Backing,
    /// Bytes; `None` takes the size of an existing backing.
    pub size_bytes: Option<u64>,
    /// What NBD_INFO_DESCRIPTION says; empty for nothing.
    pub description: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Client addresses that may attach; empty for all. Unix-socket clients always may.
    pub allow: Vec<IpNet>,
    /// Its replicas, where it has any but this.
    pub mirror: Option<Arc<MirrorSettings>>,
}

/// How a core waits for work (DESIGN: "Polled, but polite").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Poll {
    /// Spin for a bounded time after work, then sleep in the kernel.
    #[default]
    Adaptive,
    /// Never sleep.
    Busy,
    /// Never spin.
    Off,
}

/// The reactor's cores, alike but for their CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSettings {
    /// One core (pinned thread) for each CPU named here.
    pub cpus: Vec<usize>,
    /// How they wait.
    pub poll: Poll,
    /// The bound of adaptive spinning.
    pub poll_time: Duration,
    /// Bytes of the registered buffer arena of each core.
    pub arena_bytes: usize,
    /// Sends of at least so many bytes use SEND_ZC, except on loopback and unix sockets; `None` for never.
    pub zero_copy_send_bytes: Option<usize>,
    /// Kernel features not to use, by name, to try the paths of older kernels.
    pub without: Vec<String>,
}

/// Whether clients may, or must, start TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// NBD_OPT_STARTTLS is refused.
    #[default]
    Off,
    /// Clients may start TLS.
    Allow,
    /// Nothing but TLS and LIST-less negotiation is answered before STARTTLS.
    Require,
}

/// What holds for each NBD client of this node.
#[derive(Clone)]
pub struct NbdSettings {
    /// STARTTLS policy.
    pub tls: TlsMode,
    /// Certificates and client verification; present unless `tls` is `Off`.
    pub tls_server: Option<Arc<rustls::ServerConfig>>,
    /// The export that an empty name means; `None` refuses the empty name.
    pub default_export: Option<String>,
    /// Clients at once, over all portals.
    pub connections_max: usize,
    /// From accept to the end of negotiation, TLS included.
    pub handshake_timeout: Duration,
    /// A send that makes no progress for so long ends the connection.
    pub stall_timeout: Duration,
    /// Requests of one client being served at once.
    pub requests_max: usize,
    /// Payload bytes of one client held in memory at once.
    pub inflight_bytes_max: usize,
}

/// What a portal serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// NBD.
    Nbd,
    /// iSCSI.
    Iscsi,
    /// Links between nodes that mirror a volume.
    Mirror,
}

impl Protocol {
    /// As it is written in settings, status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Nbd => "nbd",
            Protocol::Iscsi => "iscsi",
            Protocol::Mirror => "mirror",
        }
    }
}

/// An address that the node listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Portal {
    /// TCP, v4 or v6.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
    /// A listening socket handed over by systemd (LISTEN_FDS), by its number.
    Inherited(i32),
}
