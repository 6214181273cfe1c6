//! What the control thread and the cores say to each other. Nothing here is on the path of an I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::fault::Fault;
use crate::settings::{IscsiSettings, LinkSettings, NbdSettings, Portal, Protocol, VolumeSettings};
use crate::snapshot::CoreSnapshot;
use crate::store::Opened;

/// Where an answer goes; dropped unanswered when the core ended.
pub type Reply<T> = oneshot::Sender<T>;

/// What a core is asked to do.
pub enum Ask {
    /// Serve this volume here. Its store was opened, and where need be created, on the control thread.
    AddVolume {
        /// The volume.
        settings: Arc<VolumeSettings>,
        /// Its open store.
        opened: Opened,
        /// Its open metadata, where it has replicas.
        mirror: Option<Box<crate::mirror::OpenMetadata>>,
        /// Answered when clients can be handed over.
        reply: Reply<Result<VolumeFacts, Fault>>,
    },
    /// The backing has been grown or shrunk to `size_bytes`; serve that size from now on.
    ResizeVolume {
        /// Which.
        uuid: Uuid,
        /// The new size.
        size_bytes: u64,
        /// Answered when it is in force.
        reply: Reply<Result<VolumeFacts, Fault>>,
    },
    /// Disconnect the volume's clients, finish or fail what is in flight, flush and close it.
    RemoveVolume {
        /// Which.
        uuid: Uuid,
        /// Bound for what is in flight.
        grace: Duration,
        /// Answered when the store is closed.
        reply: Reply<Result<(), Fault>>,
    },
    /// The exports of the node and the settings for its clients, whole. New clients meet the new ones.
    Directory(Arc<Directory>),
    /// Accept clients on this listening socket (non-blocking or not, already bound and listening).
    Listen {
        /// The portal it is.
        portal: Portal,
        /// What its clients speak.
        protocol: Protocol,
        /// The listening socket.
        listener: OwnedFd,
    },
    /// Stop accepting there; its clients stay.
    Unlisten {
        /// Which.
        portal: Portal,
        /// What its clients speak: two portals may share the wish for any free port.
        protocol: Protocol,
        /// Answered when the socket is closed.
        reply: Reply<()>,
    },
    /// A negotiated client whose volume lives on this core.
    Adopt(Adopted),
    /// A command of an operator to the mirror of a volume of this core.
    Mirror {
        /// Which.
        uuid: Uuid,
        /// What.
        command: replication::Command,
        /// Answered when it is done, or refused with the reason.
        reply: Reply<Result<(), replication::Refusal>>,
    },
    /// Of sessions and logical units on different cores.
    Scsi(crate::scsi_unit::ScsiAsk),
    /// Copy out the counters.
    Snapshot {
        /// Where to.
        reply: Reply<CoreSnapshot>,
    },
    /// Stop accepting, finish or fail what is in flight within `grace`, flush, close, end the thread.
    Stop {
        /// The bound.
        grace: Duration,
        /// Answered when all is closed: the flush errors, if any.
        reply: Reply<Vec<Fault>>,
    },
}

/// A client on its way from the core that accepted it.
pub enum Adopted {
    /// Of the NBD front.
    Nbd(Box<crate::serve_nbd::Handover>),
    /// Of the iSCSI front.
    Iscsi(Box<crate::serve_iscsi::Handover>),
    /// A peer's link.
    Mirror(Box<crate::serve_mirror::Handover>),
}

/// What a volume turned out to be once its store was opened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeFacts {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Smallest unit without a read-modify-write, a power of two.
    pub block_bytes: u32,
    /// The unit that performs best, a power of two.
    pub preferred_bytes: u32,
    /// How its I/O is done and completes, for people: `io_uring O_DIRECT`, `io_uring IOPOLL`, `memory`, …
    pub io_path: String,
    /// Why a better path was not taken, empty when the best one was.
    pub io_path_reason: String,
    /// Discards reach the backing.
    pub can_discard: bool,
    /// Zeroing without writing zeroes.
    pub can_fast_zero: bool,
}

/// The exports of a node, as negotiation on any core sees them.
pub struct Directory {
    /// Settings for NBD clients.
    pub nbd: Arc<NbdSettings>,
    /// Targets and settings for iSCSI clients.
    pub iscsi: Arc<IscsiSettings>,
    /// For links of peers.
    pub links: Arc<LinkSettings>,
    /// By name.
    pub exports: BTreeMap<String, DirectoryEntry>,
}

/// One export.
#[derive(Clone)]
pub struct DirectoryEntry {
    /// The volume.
    pub settings: Arc<VolumeSettings>,
    /// As opened.
    pub facts: VolumeFacts,
    /// Index of the core where it lives.
    pub core: usize,
}

impl DirectoryEntry {
    /// Whether a client at `address` may attach; `None` is a unix socket.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let allow = &self.settings.allow;
        match address {
            Some(address) if !allow.is_empty() => {
                allow.iter().any(|net| net.contains(&address.to_canonical()))
            }
            _ => true,
        }
    }
}
