//! What a replica's machine is told once, at its start.

use crate::coordinator::Coordination;
use crate::fault::OpenError;
use crate::id::{Incarnation, NodeId, ReplicaId, ReplicaSet, VolumeId};
use crate::region::Geometry;

/// What the loss of a peer does to writes, where no external coordinator decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPeerLoss {
    /// They go on without it. In exchange nobody is promoted while the old leader cannot be asked, unless forced.
    #[default]
    Continue,
    /// They wait until a majority of all replicas agrees to go on. In exchange a majority may promote another.
    Suspend,
}

impl OnPeerLoss {
    /// With more replicas than this it is what it was at the machine's start.
    pub const RECONFIGURED_MAX: usize = 2;
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that the machine keeps at once, clients' and forwarded ones together.
    pub requests_max: usize,
    /// Bytes on their way to one peer, beyond which further writes are held back.
    pub peer_bytes_max: u64,
    /// Extents that may be marked at once; at most `ACTIVE_EXTENTS_MAX / 2`.
    pub active_extents: usize,
    /// The most that one resync message carries.
    pub resync_bytes: u64,
    /// Bytes of a resync under way to one peer, at most; one message always is.
    pub resync_window: u64,
    /// Bytes of a resync a second, at least, that a peer is sent while clients ask, if it takes so many. Not 0, so that
    /// it ends.
    pub resync_min_rate: u64,
}

impl Limits {
    /// What the activity log on disk has room for.
    pub const ACTIVE_EXTENTS_MAX: usize = 4096;
    /// The longest range of one write or read; a mover cuts longer ones.
    pub const OPERATION_BYTES_MAX: u64 = 32 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests_max: 4096,
            peer_bytes_max: 64 << 20,
            active_extents: 1024,
            resync_bytes: 256 << 10,
            resync_window: 4 << 20,
            resync_min_rate: 32 << 20,
        }
    }
}

/// Times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A peer that answers nothing for so long leaves the in-sync set (rule 6).
    pub peer_timeout: u64,
    /// The same for a flush, while the peer answers otherwise.
    pub flush_timeout: u64,
    /// How long a granted lease lasts by the clock of who granted it (rule 9).
    pub lease: u64,
    /// The part of it that the leader does not count on, against clocks of different speed.
    pub lease_margin: u64,
    /// How often a leader pings.
    pub ping: u64,
    /// How long a request waits for a leader before it fails.
    pub leader_wait: u64,
    /// After so long without a write, marks are flushed away.
    pub idle_flush: u64,
}

impl Timing {
    /// How long a follower hears nothing of its leader before it gives the link up. No client waits for that: those of
    /// the leader are served without the follower, and its own have nobody else to go to. So a leader that stood still
    /// for less than `peer_timeout`, which its next ping but one tells, keeps its followers.
    pub(crate) fn patience(&self) -> u64 {
        self.peer_timeout.saturating_add(self.ping.saturating_mul(2))
    }
}

const MILLISECOND: u64 = 1_000_000;

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            peer_timeout: 1000 * MILLISECOND,
            flush_timeout: 4000 * MILLISECOND,
            lease: 1000 * MILLISECOND,
            lease_margin: 200 * MILLISECOND,
            ping: 200 * MILLISECOND,
            leader_wait: 30_000 * MILLISECOND,
            idle_flush: 2000 * MILLISECOND,
        }
    }
}

/// One deliberate bug, for tests that show that the simulator finds it. Without the feature `sabotage` none is ever on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Rule 1: a write is complete when the leader has it.
    AcknowledgeBeforePeer,
    /// Rule 2: a flush is complete when the leader has done it.
    UnflushedIsDurable,
    /// Rule 3: any replica may be promoted.
    PromoteStale,
    /// Rule 4: messages of an older epoch are obeyed.
    ForgetEpochCheck,
    /// Rule 4: a promise is given before it is on disk.
    PromiseInMemory,
    /// Rule 5: overlapping writes run together.
    SkipRangeOrder,
    /// Rule 6: a write completes as soon as the lost peer's removal is proposed.
    CompleteBeforeRemoval,
    /// Rule 7: a returning replica receives only what was written since it left.
    ForgetUnconfirmed,
    /// Rule 7: a returning replica joins before it has everything.
    JoinTooEarly,
    /// Rule 8: nothing is marked before it is written.
    DropActivityLog,
    /// Rule 8: the marks of other members are not asked for.
    IgnorePeersActivity,
    /// Rule 9: a leader reads without a lease.
    IgnoreLease,
    /// Rule 9: a member whose clock leaps takes its grant for over.
    BelieveLeapingClock,
    /// Rule 10: a copy that has diverged counts as one that is behind.
    OverwriteDiverged,
    /// A read is served although a write to the same bytes is not complete.
    ReadUnfinishedWrite,
    /// The leader takes a returning replica's bytes where they differ, in place of sending its own.
    ResyncFromStale,
}

/// What a machine is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// Which replica this is.
    pub own: ReplicaId,
    /// The names of all, in the order of the volume's `replicas`.
    pub names: Vec<String>,
    /// This node.
    pub node: NodeId,
    /// Size and regions.
    pub geometry: Geometry,
    /// The UUID that the volume gets if this replica is the first that leads it: drawn at random.
    pub new_volume: VolumeId,
    /// This run: drawn at random at each start.
    pub incarnation: Incarnation,
    /// The backing is known to be all zeros (it has just been made).
    pub blank: bool,
    /// The backing holds all that was written to it in the last run, flushed or not (the machine has not restarted).
    pub cache_kept: bool,
    /// Who decides.
    pub coordination: Coordination,
    /// What the loss of a peer does.
    pub on_peer_loss: OnPeerLoss,
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// A deliberate bug.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<Sabotage>,
}

impl ReplicaConfig {
    /// With defaults for all that can have one.
    pub fn new(own: ReplicaId, names: Vec<String>, node: NodeId, size_bytes: u64) -> ReplicaConfig {
        ReplicaConfig {
            own,
            names,
            node,
            geometry: Geometry { size_bytes, region_bytes: 64 << 10 },
            new_volume: VolumeId(node.0),
            incarnation: Incarnation(0),
            blank: false,
            cache_kept: false,
            coordination: Coordination::Static,
            on_peer_loss: OnPeerLoss::Continue,
            limits: Limits::default(),
            timing: Timing::default(),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }

    /// All replicas of the volume.
    pub fn all(&self) -> ReplicaSet {
        ReplicaSet::first(self.names.len())
    }

    /// Whether so many are a majority.
    pub fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.names.len()
    }

    /// Whether this bug was asked for.
    #[inline]
    pub fn sabotaged(&self, _bug: Sabotage) -> bool {
        #[cfg(feature = "sabotage")]
        return self.sabotage == Some(_bug);
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let fail = |why| Err(OpenError::Configuration(why));
        if self.names.is_empty() || self.names.len() > ReplicaId::COUNT_MAX {
            return fail("a volume has 1 to 8 replicas");
        }
        if self.own.index() >= self.names.len() {
            return fail("this replica is not in the list");
        }
        if !self.geometry.region_bytes.is_power_of_two() || self.geometry.region_bytes < 512 {
            return fail("a region's size is a power of two, at least 512");
        }
        if self.geometry.size_bytes == 0 || !self.geometry.size_bytes.is_multiple_of(512) {
            return fail("a mirrored volume's size is a multiple of 512 bytes, and not 0");
        }
        if self.geometry.regions() > u64::from(u32::MAX) * 64 {
            return fail("the volume is too large for its regions");
        }
        if self.limits.active_extents == 0 || self.limits.active_extents > Limits::ACTIVE_EXTENTS_MAX / 2 {
            return fail("active extents: 1 to 2048");
        }
        if self.limits.resync_min_rate == 0 {
            return fail("a resync needs a rate at which it ends");
        }
        if self.limits.resync_bytes < self.geometry.region_bytes {
            return fail("a resync message carries at least a region");
        }
        if self.timing.lease_margin >= self.timing.lease {
            return fail("the margin of a lease is smaller than the lease");
        }
        Ok(())
    }
}
