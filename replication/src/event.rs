//! What a replica's machine is told.
//!
//! Its one rule: each number that the machine has given out (an operation, a metadata write) comes back once.

use crate::config::{OnPeerLoss, Timing};
use crate::coordinator::{Decision, Record};
use crate::fault::DiskFault;
use crate::id::{CommandId, DataId, Epoch, OpId, ReplicaId, RequestId, Session};
use crate::message::Message;
use crate::region::ByteRange;

/// What a write does to its bytes. The same on every replica, so that they stay equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Change {
    /// Puts the payload there.
    Data,
    /// Makes them zero.
    Zero {
        /// Space may be given back, if they read as zero then.
        deallocate: bool,
    },
}

/// What a client asks. Ranges are not empty and lie within the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Operation {
    /// Change bytes.
    Write {
        /// Where.
        range: ByteRange,
        /// To what. Trim is `Zero { deallocate: true }`.
        change: Change,
        /// Answer only when durable on every member (FUA).
        durable: bool,
    },
    /// Make everything that has been answered durable on every member.
    Flush,
    /// Read bytes.
    Read {
        /// Where.
        range: ByteRange,
    },
}

/// What local I/O brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalResult {
    /// A write, flush or metadata write is done.
    Done,
    /// A read: the bytes, now held under this number.
    Data(DataId),
    /// The checksum.
    Checksum(u64),
}

impl LocalResult {
    /// The bytes that it brought.
    pub(crate) fn data(self) -> Option<DataId> {
        match self {
            LocalResult::Data(data) => Some(data),
            LocalResult::Done | LocalResult::Checksum(_) => None,
        }
    }
}

/// What an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Lead.
    Promote {
        /// Even where that may lose writes.
        force: bool,
    },
    /// Stop leading.
    Demote,
    /// Let another member lead on, and stay one: this node is about to stop.
    HandOver,
    /// Compare all members while the volume is in use.
    Verify {
        /// And send the leader's bytes where they differ.
        repair: bool,
    },
    /// Give this copy up: its bytes yield to the leader's.
    Discard,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client's request. Payload for a write of data, which the machine holds until it releases it.
    Submit {
        /// Comes back in `Effect::Complete`.
        request: RequestId,
        /// What.
        operation: Operation,
        /// The payload.
        data: Option<DataId>,
    },
    /// Local I/O has ended.
    LocalDone {
        /// Which.
        op: OpId,
        /// How. `LocalResult` is of the kind that was asked for.
        result: Result<LocalResult, DiskFault>,
    },
    /// A metadata write is durable, or failed (then what is on disk is the old or the new).
    MetadataDone {
        /// Which.
        op: OpId,
        /// How.
        result: Result<(), DiskFault>,
    },
    /// There is a link to a peer: authenticated, of a version we speak.
    PeerUp {
        /// To whom.
        peer: ReplicaId,
        /// Which.
        session: Session,
    },
    /// It is gone. Nothing more comes of this session, and what was sent may or may not have arrived.
    PeerLost {
        /// To whom.
        peer: ReplicaId,
        /// Which.
        session: Session,
    },
    /// A message has come.
    Received {
        /// From whom.
        peer: ReplicaId,
        /// Over which link; one that is gone is ignored.
        session: Session,
        /// What.
        message: Message,
        /// Its payload, which the machine holds until it releases it. A `Forwarded` read has one too.
        data: Option<DataId>,
    },
    /// Bytes of a message have come that is not whole yet: the peer is there, however slow the line is.
    Heard {
        /// From whom.
        peer: ReplicaId,
        /// Over which link.
        session: Session,
    },
    /// Time has passed: at the latest when `Effect::WakeAt` asked for it; oftener does no harm.
    Tick,
    /// The external coordinator's answer to `Effect::Propose`: one for each. (No other is proposed before it comes.)
    Decided {
        /// Of the record that was proposed.
        epoch: Epoch,
        /// What became of it.
        decision: Decision,
    },
    /// The external coordinator's record is this now (at the start, and whenever it changes).
    RecordChanged(Record),
    /// An operator's command.
    Command {
        /// Comes back in `Effect::Answer`.
        command: CommandId,
        /// What.
        what: Command,
    },
    /// The configuration has changed. `on_peer_loss` of more than `OnPeerLoss::RECONFIGURED_MAX` replicas stays as it is.
    Reconfigured {
        /// What the loss of a peer does from now on.
        on_peer_loss: OnPeerLoss,
        /// Times from now on.
        timing: Timing,
    },
}
