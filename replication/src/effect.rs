//! What a replica's machine asks of its mover.
//!
//! Who holds payload: the machine holds each `DataId` that came in by an event, and gives each back once: by
//! `Release`, or with `Complete`. The mover keeps the bytes longer where its own sends and writes still need them.
//! Its one rule: effects are carried out in their order; sends to one peer leave in that order.

use crate::coordinator::Record;
use crate::event::Change;
use crate::fault::{Fault, Refusal};
use crate::history::History;
use crate::id::{CommandId, DataId, Epoch, OpId, ReplicaId, ReplicaSet, RequestId, Session, Time};
use crate::message::Message;
use crate::region::ByteRange;
use crate::superblock::MetadataRecord;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read bytes of the local backing into a new `DataId`.
    ReadLocal {
        /// Comes back in `LocalDone`.
        op: OpId,
        /// Where.
        range: ByteRange,
        /// The client's read that this serves, if it is one of ours: its own buffer may be used.
        request: Option<RequestId>,
    },
    /// Change bytes of the local backing.
    WriteLocal {
        /// Comes back in `LocalDone`.
        op: OpId,
        /// Where.
        range: ByteRange,
        /// To what.
        change: Change,
        /// The payload.
        data: Option<DataId>,
        /// Report only when durable.
        durable: bool,
    },
    /// Make every local write that was reported durable.
    FlushLocal {
        /// Comes back in `LocalDone`.
        op: OpId,
    },
    /// The checksum of bytes of the local backing (the mover's choice, the same on all nodes).
    ChecksumLocal {
        /// Comes back in `LocalDone`.
        op: OpId,
        /// Where.
        range: ByteRange,
    },
    /// Write a record of metadata, and report when it is durable.
    WriteMetadata {
        /// Comes back in `MetadataDone`.
        op: OpId,
        /// What.
        record: MetadataRecord,
    },
    /// Send a message. Dropped without a word if the session is gone.
    Send {
        /// To whom.
        to: ReplicaId,
        /// Over which link.
        session: Session,
        /// What.
        message: Message,
        /// Its payload.
        data: Option<DataId>,
    },
    /// The machine no longer needs these bytes.
    Release {
        /// Which.
        data: DataId,
    },
    /// Answer a client. For a read that succeeded, with its bytes.
    Complete {
        /// Which request.
        request: RequestId,
        /// How it went.
        result: Result<Option<DataId>, Fault>,
    },
    /// Ask the external coordinator to replace its record.
    Propose {
        /// The epoch that its record must have now.
        expected: Epoch,
        /// The new one.
        record: Record,
    },
    /// End this link.
    Disconnect {
        /// To whom.
        peer: ReplicaId,
        /// Which. No `PeerLost` need follow.
        session: Session,
        /// Why.
        reason: DisconnectReason,
    },
    /// Send a `Tick` at this time. A later `WakeAt` replaces an earlier one.
    WakeAt(Time),
    /// For the log.
    Notice(Notice),
    /// Answer an operator. (`Err` says why nothing was done.)
    Answer {
        /// Which command.
        command: CommandId,
        /// How it went.
        result: Result<(), Refusal>,
    },
}

/// Why a link is ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// It has answered nothing for too long.
    #[error("it has answered nothing for {0} ms")]
    Silent(u64),
    /// Its disk failed.
    #[error("its disk failed: {0}")]
    Disk(crate::fault::DiskFault),
    /// Another link to the same peer has come up.
    #[error("a newer link to it has come up")]
    Replaced,
    /// It is not what it should be.
    #[error("{0}")]
    Refused(Refusal),
    /// It said what nobody may say in its place.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    /// The state of things changed under the link; it may come back at once.
    #[error("leader or member set has changed; it may come back at once")]
    Changed,
}

/// What an operator may want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A record is in force.
    InForce(Record),
    /// This replica leads.
    Leads(Epoch),
    /// This replica follows.
    Follows {
        /// Whom.
        leader: ReplicaId,
        /// Since when.
        epoch: Epoch,
    },
    /// A peer has left the in-sync set.
    Left {
        /// Who.
        peer: ReplicaId,
        /// What it will lack, so far.
        bytes: u64,
    },
    /// A peer is being brought up to date.
    Resyncs {
        /// Who.
        peer: ReplicaId,
        /// What it may lack.
        bytes: u64,
    },
    /// A peer is in the in-sync set.
    Joined {
        /// Who.
        peer: ReplicaId,
        /// What was sent.
        bytes: u64,
    },
    /// Two histories have diverged.
    SplitBrain {
        /// With whom.
        peer: ReplicaId,
        /// Ours.
        own: History,
        /// Its.
        its: History,
    },
    /// A peer was refused.
    PeerRefused {
        /// Who.
        peer: ReplicaId,
        /// Why.
        reason: Refusal,
    },
    /// The local disk has failed: this copy is out.
    DiskFailed(crate::fault::DiskFault),
    /// Writes wait: too few replicas are reachable for a new in-sync set.
    Suspended {
        /// Who is missing.
        missing: ReplicaSet,
    },
    /// A verification has found a difference.
    Differs {
        /// On which peer.
        peer: ReplicaId,
        /// Where.
        range: ByteRange,
        /// Whether the leader's bytes are being sent there.
        repaired: bool,
    },
    /// A verification has ended.
    Verified {
        /// Bytes compared.
        bytes: u64,
        /// Bytes of regions that differed.
        differing_bytes: u64,
    },
}
