//! What a server says of an export.

use serde::Serialize;
use uuid::Uuid;
use wire::nbd::transmission::{ReplyStyle, TransmissionFlags};

/// An export in a server's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// Its name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

/// What the server wants of offsets and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockSizes {
    /// All are multiples of it.
    pub min: u32,
    /// The unit that performs best.
    pub preferred: u32,
    /// The longest read or write.
    pub payload_max: u32,
}

/// Everything that the server said when we connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The server's name for it, else the one that we asked for.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Its size.
    pub size_bytes: u64,
    /// What it can do.
    pub flags: TransmissionFlags,
    /// What the server told, or what the protocol says of a server that tells nothing.
    pub block_sizes: BlockSizes,
    /// Whether the server told its block sizes.
    pub tells_block_sizes: bool,
    /// Which headers both sides use.
    pub style: ReplyStyle,
    /// The metadata contexts that the server selected.
    pub contexts: Vec<String>,
    /// Those that it lists; where only described, also those that were not asked for.
    pub offered_contexts: Vec<String>,
    /// Whether TLS is in use.
    pub tls: bool,
    /// The volume's identity, where the server tells one (ringsan does).
    pub uuid: Option<Uuid>,
    /// As long as it is the same, the server has lost nothing that it acknowledged.
    pub incarnation: Option<Uuid>,
}

impl Export {
    /// Whether all of `flags` are set.
    pub fn has(&self, flags: TransmissionFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.has(TransmissionFlags::READ_ONLY)
    }

    /// Whether what one connection wrote and flushed is seen, and durable, on all of them.
    pub fn can_multi_conn(&self) -> bool {
        self.has(TransmissionFlags::CAN_MULTI_CONN)
    }

    /// Whether the server tells where there is data (base:allocation).
    pub fn has_allocation(&self) -> bool {
        self.contexts.iter().any(|context| context == "base:allocation")
    }
}

/// A stretch of an export, as base:allocation describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// Its length; never 0.
    pub length: u64,
    /// Nothing is allocated here.
    pub hole: bool,
    /// This reads as zeroes.
    pub zero: bool,
}
