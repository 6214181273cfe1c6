//! What the mirror of one volume is and did, at one moment.

use hdrhistogram::Histogram;

/// The mirror of one volume.
#[derive(Clone, Debug)]
pub struct MirrorSnapshot {
    /// Role, leader, epoch, in-sync set, histories, peers.
    pub status: replication::Status,
    /// Cause and next step in words, for all that is not in sync; empty when everything is.
    pub explanation: Vec<String>,
    /// One entry for each of `Stage::ALL`, in that order, for writes of which this node is the leader.
    pub stages: Vec<Histogram<u64>>,
    /// One for each peer, in the order of the replicas.
    pub links: Vec<LinkSnapshot>,
    /// The last comparison of replicas that was asked for here.
    pub verification: Option<VerificationSnapshot>,
}

/// A part of a mirrored write's latency, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From its submission to the start of its writing (ordering, marks in the activity log).
    Order,
    /// Of the local backing.
    LocalWrite,
    /// From its sending to a peer to that peer's answer.
    PeerWrite,
    /// From submission to completion.
    Total,
}

impl Stage {
    /// All, in the order of their numbers.
    pub const ALL: [Stage; 4] = [Stage::Order, Stage::LocalWrite, Stage::PeerWrite, Stage::Total];

    /// The label in metrics and status.
    pub fn name(self) -> &'static str {
        ["order", "local_write", "peer_write", "total"][self as usize]
    }
}

/// The link to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// The peer's name.
    pub peer: String,
    /// Whether there is one now.
    pub is_up: bool,
    /// Links made since the start.
    pub links: u64,
    /// Links that ended by a corrupt or foreign frame.
    pub corrupt: u64,
    /// Bytes sent, frames and payload.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Why there is none, in words; empty while there is one.
    pub trouble: String,
    /// Those words say what is to be done.
    pub is_advised: bool,
}

/// A comparison of replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VerificationSnapshot {
    /// It is under way.
    pub is_running: bool,
    /// Differing ranges were, or are, to be mended from the leader.
    pub repairs: bool,
    /// Bytes compared so far.
    pub bytes: u64,
    /// Bytes of regions that differed.
    pub differing_bytes: u64,
    /// The first differing ranges, as (peer, offset, length); at most 64.
    pub differences: Vec<(String, u64, u64)>,
    /// Why it ended before all was compared; empty if it did not.
    pub trouble: String,
}
