//! What a replica says of itself, as values and in words.
//!
//! Its one rule: only `in sync` with every peer in sync sounds like nothing needs doing.

use crate::fault::{DiskFault, Fault};
use crate::history::History;
use crate::id::{Epoch, ReplicaId, ReplicaSet};

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleState {
    /// New: it has never been part of the volume.
    New,
    /// It leads, and serves.
    Leads,
    /// It leads but writes wait: a lost peer cannot be removed without a majority, or the coordinator is away.
    Suspended,
    /// It is about to lead: it asks the others, or waits for the record to be in force.
    Begins,
    /// It gives up the lead.
    StepsDown,
    /// It follows a leader, in sync.
    InSync,
    /// It follows a leader that brings it up to date.
    Joining,
    /// It was in sync when it last heard of anybody, and hears of no leader: consistent, not known up to date.
    Consistent,
    /// It is out of date, and hears of no leader.
    Outdated,
    /// Its copy is half of an old, half of a newer state, and it hears of no leader.
    Mixed,
    /// Its history and a peer's have diverged.
    SplitBrain,
    /// Its disk has failed.
    Failed(DiskFault),
}

/// How a peer stands, as a leader sees it (or a follower, who only knows connected or not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// No link.
    Absent,
    /// A link, and nothing agreed yet.
    Connected,
    /// It receives what it lacks.
    Resyncing,
    /// It holds every acknowledged write.
    InSync,
    /// Its history and ours have diverged.
    SplitBrain,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: ReplicaId,
    /// How it stands.
    pub state: PeerState,
    /// Whether the latest record has it in the in-sync set.
    pub in_sync: bool,
    /// What it may lack.
    pub resync_bytes: u64,
    /// What has been sent of the resync under way.
    pub resynced_bytes: u64,
    /// Bytes of writes on their way to it.
    pub lag_bytes: u64,
    /// Its history, if it has diverged.
    pub diverged: Option<History>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who speaks.
    pub own: ReplicaId,
    /// What it does.
    pub role: RoleState,
    /// The leader, if known.
    pub leader: Option<ReplicaId>,
    /// The latest epoch known.
    pub epoch: Epoch,
    /// The epoch promised.
    pub promised: Epoch,
    /// The in-sync set by the latest record known.
    pub in_sync: ReplicaSet,
    /// Our history.
    pub history: History,
    /// Each peer.
    pub peers: Vec<PeerStatus>,
    /// Requests under way and waiting.
    pub requests: usize,
    /// Extents marked.
    pub active_extents: usize,
    /// The last fault of the machine's own, if any.
    pub last_fault: Option<Fault>,
}
