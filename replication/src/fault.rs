//! What can go wrong, and what is refused: the thing, the cause, the next step.

use crate::history::Comparison;
use crate::id::{Epoch, ReplicaId, ReplicaSet};

/// What a disk said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
pub enum DiskFault {
    /// It failed.
    #[error("input/output error")]
    Io,
    /// It is full.
    #[error("no space left")]
    NoSpace,
    /// It does not answer.
    #[error("timed out")]
    TimedOut,
}

/// Why a client's request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
pub enum Fault {
    /// The disk of the only replica that is left.
    #[error("the last replica's disk failed: {0}")]
    Disk(DiskFault),
    /// Nobody leads the volume, or not within reach.
    #[error("no leader within reach; `ringsan explain` says what to do")]
    NoLeader,
    /// The leader was lost while it had the request: it may or may not have been carried out.
    #[error("the leader was lost with the request; it may or may not have been carried out")]
    Indeterminate,
    /// Outside the volume, or empty, or longer than one request may be.
    #[error("outside the volume, or too long")]
    OutOfRange,
    /// More requests at once than the machine keeps.
    #[error("too many requests at once")]
    Busy,
}

/// Why a stored replica cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The metadata is another node's.
    #[error("the metadata belongs to another node: it was copied. Remove it to begin with an empty copy")]
    ForeignNode,
    /// The node's place in the list has changed.
    #[error(
        "the metadata is of {stored}, the configuration says {configured}: keep the order of `replicas`; or, if the \
         state directory was copied from another node, start with an empty one"
    )]
    OtherReplica {
        /// On disk.
        stored: ReplicaId,
        /// In the configuration.
        configured: ReplicaId,
    },
    /// Another size.
    #[error(
        "the metadata is of a volume of {stored} bytes, the configuration says {configured}: write the former size \
         there, or make another volume of the new size and copy this one to it"
    )]
    OtherSize {
        /// On disk.
        stored: u64,
        /// In the configuration.
        configured: u64,
    },
    /// Other regions.
    #[error(
        "the bitmaps have regions of {stored} bytes, the configuration says {configured}: keep the former"
    )]
    OtherRegions {
        /// On disk.
        stored: u64,
        /// In the configuration.
        configured: u64,
    },
    /// The configuration makes no sense.
    #[error("{0}")]
    Configuration(&'static str),
}

/// Why a command, a peer or an epoch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, bincode::Encode, bincode::Decode)]
pub enum Refusal {
    /// Another epoch has been promised.
    #[error("a newer epoch, {0}, has been promised")]
    OldEpoch(Epoch),
    /// Somebody leads.
    #[error("{0} leads and is within reach: demote it there first")]
    LeaderAlive(ReplicaId),
    /// A lease is out.
    #[error("a lease to the leader has not run out; it does within seconds, then try again")]
    LeaseOut,
    /// This replica leads already.
    #[error("it leads already")]
    AlreadyLeads,
    /// This replica does not lead.
    #[error("it does not lead: ask the node that does")]
    NotLeader,
    /// This copy lacks acknowledged writes.
    #[error(
        "this copy is not in sync since epoch {since}: it lacks acknowledged writes. Promote one of {in_sync:?}; \
         with --force, all that was written since then is lost"
    )]
    NotInSync {
        /// To which epoch it is whole.
        since: Epoch,
        /// Who is in sync by the latest record known.
        in_sync: ReplicaSet,
    },
    /// Somebody who may have gone on without us is not within reach.
    #[error(
        "{unreachable:?} may have gone on without this copy, and cannot be asked. If you know that it is down for \
         good, --force: what it acknowledged alone is lost, and its copy must be discarded when it returns"
    )]
    MayHaveGoneOn {
        /// Who.
        unreachable: ReplicaSet,
    },
    /// Too few agree.
    #[error(
        "only {reachable} of {replicas} replicas are within reach: a majority must agree; --force goes without"
    )]
    NoMajority {
        /// How many agree.
        reachable: usize,
        /// How many there are.
        replicas: usize,
    },
    /// A new volume with other new copies that cannot be asked.
    #[error(
        "this copy is new, and {unreachable:?} cannot be asked whether it holds data; --force begins anew"
    )]
    NewAndAlone {
        /// Who.
        unreachable: ReplicaSet,
    },
    /// A resync into this copy was cut short.
    #[error(
        "this copy is half of an old, half of a newer state; only --force makes it lead, data will be damaged"
    )]
    Mixed,
    /// This copy has lost power, another member has not.
    #[error(
        "this node was switched off or restarted uncleanly, so its copy may lack acknowledged writes that were not \
         flushed; {0} has them: promote it there, or --force"
    )]
    MayLackUnflushed(ReplicaId),
    /// The histories have diverged.
    #[error(
        "split brain with {0}: both copies hold writes of their own. `ringsan discard` names the one that yields"
    )]
    SplitBrain(ReplicaId),
    /// The coordinator did not agree, or did not answer.
    #[error("the coordinator did not agree; try again")]
    Coordinator,
    /// The local disk has failed.
    #[error("the local disk has failed: {0}")]
    Disk(DiskFault),
    /// Something of the kind is under way.
    #[error("another command is under way; wait for it")]
    Busy,
    /// Someone reachable did not agree in time.
    #[error("{0:?} did not answer in time; try again")]
    Unanswered(ReplicaSet),
    /// No member is left that could lead.
    #[error("no other replica is in sync")]
    NoSuccessor,
    /// This copy is the leader's.
    #[error("this copy leads: demote it first")]
    Leads,
    /// Another volume.
    #[error("it holds another volume under this name: check `backing` on both nodes, or discard its copy")]
    OtherVolume,
    /// Another size.
    #[error("its volume has {its} bytes, ours {own}: give both the same `size`")]
    OtherSize {
        /// The peer's.
        its: u64,
        /// Ours.
        own: u64,
    },
    /// Other regions.
    #[error("its regions have {its} bytes, ours {own}: give both the same")]
    OtherRegions {
        /// The peer's.
        its: u64,
        /// Ours.
        own: u64,
    },
    /// Another list of replicas.
    #[error("its list of replicas is another: give all nodes the same `replicas`, in the same order")]
    OtherReplicas,
    /// It says that it is somebody else.
    #[error("it says that it is {0}: two nodes with one name, or a wrong address under [peers]")]
    OtherName(ReplicaId),
    /// The histories do not say who is ahead.
    #[error("histories: {0:?}")]
    Histories(Comparison),
    /// Somebody who may have gone on without us has lost its copy since.
    #[error(
        "{by:?} may have gone on without this copy, and has lost its own: with --force this copy leads, and what was \
         acknowledged without it is lost"
    )]
    CopyLost {
        /// Who.
        by: ReplicaSet,
    },
}
