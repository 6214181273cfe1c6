//! What replicas of one volume say to each other, over a link that keeps order and loses nothing while it lives.
//!
//! ```text
//! both ways          Hello
//! candidate ─▶ all   Prepare        ◀─ Promise, Refused
//! leader ─▶ others   Lead           ◀─ Led
//!                    InForce, Durable
//!                    Write, Resync, Flush, Ping, Checksum   ◀─ Written, Resynced, Flushed, Pong, Checksummed
//! others ─▶ leader   Forward        ◀─ Forwarded
//! ```
//! A link keeps the order in which messages were sent, but for those that may pass a resync that waits (`Place`).
//! Its one rule: what obeys an epoch carries it; the receiver refuses what is older than its promise (rule 4).

use crate::coordinator::Record;
use crate::event::{Change, Operation};
use crate::fault::{DiskFault, Fault, Refusal};
use crate::history::History;
use crate::id::{Epoch, FlushId, ForwardId, Incarnation, ReplicaId, ReplicaSet, Seq, VolumeId};
use crate::region::{ByteRange, RegionSet};

/// Who one is: the first message of each side on a new link.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Hello {
    /// Which replica speaks.
    pub replica: ReplicaId,
    /// Of which volume; None while it belongs to none.
    pub volume: Option<VolumeId>,
    /// The names of all replicas, in order: both must have the same list.
    pub names: Vec<String>,
    /// The volume's size.
    pub size_bytes: u64,
    /// How its bitmaps are cut.
    pub region_bytes: u64,
    /// Which run of its process.
    pub incarnation: Incarnation,
    /// Nothing older is obeyed.
    pub promised: Epoch,
    /// The latest record it knows.
    pub record: Option<Record>,
    /// Whose writes its copy holds, as far as it must be taken to hold them.
    pub history: History,
    /// Whether it leads now.
    pub leads: bool,
    /// A new copy, and all zeros.
    pub blank: bool,
    /// It has been a member without a break since some epoch: it lacks nothing that was acknowledged, flushed or not.
    pub unbroken: bool,
    /// Where its copy may hold writes that others do not: its activity log, or what it knows better.
    pub activity: RegionSet,
}

/// A leader's word on the epoch that now begins.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Lead {
    /// Of the volume (a new replica takes it over).
    pub volume: VolumeId,
    /// The volume's era (see `Superblock`).
    pub era: u64,
    /// The record. Who is not in its in-sync set receives a resync.
    pub record: Record,
    /// The leader's history, without this record unless that is in force already.
    pub history: History,
    /// Replicas that have ever been in the in-sync set.
    pub joined: ReplicaSet,
    /// The first epoch of this leader's term.
    pub term: Epoch,
    /// Whether the term begins with this very record, so that it is not known to count before `InForce`.
    pub begins: bool,
    /// Answer with your activity.
    pub report: bool,
}

/// A client's request of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub struct Origin {
    /// Whose client.
    pub replica: ReplicaId,
    /// In which run of its process.
    pub incarnation: Incarnation,
    /// Which request.
    pub id: ForwardId,
    /// The replica has the answers to all before this.
    pub answered_below: ForwardId,
}

/// A message. Those with payload say so; the payload travels beside them.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Message {
    /// Who I am.
    Hello(Box<Hello>),
    /// Promise to obey nothing older than this epoch: I want to lead.
    Prepare {
        /// The epoch that the candidate would begin.
        epoch: Epoch,
        /// An operator has forced it: consent although you lead or have granted a lease.
        forced: bool,
    },
    /// Promised, durably.
    Promise {
        /// As prepared.
        epoch: Epoch,
        /// The latest record that the promiser knows.
        record: Option<Record>,
        /// Its history.
        history: History,
        /// It has been a member without a break since before this run of the last leader ended: it lacks nothing that
        /// was acknowledged, flushed or not.
        unbroken: bool,
    },
    /// Not obeyed.
    Refused {
        /// The epoch of what was refused.
        epoch: Epoch,
        /// What the sender has promised.
        promised: Epoch,
        /// The latest record that it knows.
        record: Option<Record>,
        /// Why.
        reason: Refusal,
    },
    /// I lead, and this is the record.
    Lead(Box<Lead>),
    /// Adopted, durably.
    Led {
        /// The record's.
        epoch: Epoch,
        /// Where the copy may hold writes that others do not; empty unless it was asked for.
        activity: RegionSet,
    },
    /// All that had to have adopted the record of this epoch.
    InForce {
        /// Which.
        epoch: Epoch,
    },
    /// Change these bytes. Payload for `Change::Data`.
    Write {
        /// The leader's latest.
        epoch: Epoch,
        /// Its place.
        seq: Seq,
        /// Where.
        range: ByteRange,
        /// To what.
        change: Change,
        /// Acknowledge only when durable.
        durable: bool,
        /// The client's request that it carries out, if that came from another replica.
        origin: Option<Origin>,
    },
    /// It is done, or failed.
    Written {
        /// Of the write.
        epoch: Epoch,
        /// Which.
        seq: Seq,
        /// How it went.
        result: Result<(), DiskFault>,
        /// Others of this epoch that are done, and went well.
        also: Vec<Seq>,
    },
    /// Make all that was sent before this durable.
    Flush {
        /// The leader's latest.
        epoch: Epoch,
        /// Which.
        flush: FlushId,
    },
    /// It is done, or failed.
    Flushed {
        /// Of the flush.
        epoch: Epoch,
        /// Which.
        flush: FlushId,
        /// How it went.
        result: Result<(), DiskFault>,
    },
    /// All that was sent before this flush is durable on every member: marks of it may be dropped.
    Durable {
        /// The leader's latest.
        epoch: Epoch,
        /// Which.
        flush: FlushId,
        /// The differences that an unclean end had left are mended as well.
        mended: bool,
    },
    /// Another replica may lack these regions: know it, should you lead one day.
    Lacking {
        /// The leader's latest.
        epoch: Epoch,
        /// Who.
        of: ReplicaId,
        /// Some of them; at most a bitmap page.
        regions: RegionSet,
    },
    /// The leader's bytes here, which you may lack. Payload: all of the range.
    Resync {
        /// The leader's latest.
        epoch: Epoch,
        /// Which.
        seq: Seq,
        /// Where.
        range: ByteRange,
    },
    /// They are in place, or not.
    Resynced {
        /// Of the resync.
        epoch: Epoch,
        /// Which.
        seq: Seq,
        /// How it went.
        result: Result<(), DiskFault>,
    },
    /// Are you there; and grant me a lease, if you are a member.
    Ping {
        /// The leader's latest.
        epoch: Epoch,
        /// Which.
        number: u64,
    },
    /// I am, and grant it for so long.
    Pong {
        /// Of the ping.
        epoch: Epoch,
        /// Which.
        number: u64,
        /// For so many nanoseconds from the ping on the leader may count on us; 0: not at all.
        granted: u64,
    },
    /// What are your bytes' checksums here.
    Checksum {
        /// The leader's latest.
        epoch: Epoch,
        /// Which.
        seq: Seq,
        /// Where.
        range: ByteRange,
    },
    /// These.
    Checksummed {
        /// Of the question.
        epoch: Epoch,
        /// Which.
        seq: Seq,
        /// The checksum, by the algorithm of `Effect::ChecksumLocal`.
        result: Result<u64, DiskFault>,
    },
    /// A client's request, for the leader to carry out. Payload for a write of data.
    Forward {
        /// Which.
        id: ForwardId,
        /// All requests before this have been answered: forget them.
        answered_below: ForwardId,
        /// If it was sent to an earlier leader, or over an earlier link: the epoch of that time.
        sent_before: Option<Epoch>,
        /// What.
        operation: Operation,
    },
    /// How it went. Payload for a read that succeeded.
    Forwarded {
        /// Which.
        id: ForwardId,
        /// How.
        result: Result<(), Fault>,
    },
    /// Stop forwarding to me: I do not lead (any more).
    NotLeading {
        /// Which request.
        id: ForwardId,
    },
}

/// Where a message stands among those of its link that wait to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind all before it, and before all after it.
    InTurn,
    /// Before those that yield; behind all others.
    Ahead,
    /// Those that may go ahead pass it.
    Yields,
}

/// So many acknowledgements in one message.
const ALSO_MAX: usize = 256;

impl Message {
    /// Takes in the next message of its link, if it can say both. Nothing else may have been sent in between.
    pub fn absorb(&mut self, next: &Message) -> bool {
        match (self, next) {
            (
                Message::Written { epoch, result: Ok(()), also, .. },
                Message::Written { epoch: same, seq, result: Ok(()), also: more },
            ) if epoch == same && also.len() + more.len() < ALSO_MAX => {
                also.push(*seq);
                also.extend(more);
                true
            }
            _ => false,
        }
    }

    /// Whom it may pass. A resync yields: no write to its range is under way with it, and a flush covers only those
    /// that have been answered. A record does not pass one: it would make it one of an older epoch.
    pub fn place(&self) -> Place {
        match self {
            Message::Resync { .. } => Place::Yields,
            Message::Write { .. }
            | Message::Written { .. }
            | Message::Flush { .. }
            | Message::Flushed { .. }
            | Message::Durable { .. }
            | Message::Resynced { .. }
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::Checksummed { .. }
            | Message::Forward { .. }
            | Message::Forwarded { .. } => Place::Ahead,
            _ => Place::InTurn,
        }
    }

    /// Whether bytes travel with it.
    pub fn has_payload(&self) -> bool {
        match self {
            Message::Write { change, .. } => *change == Change::Data,
            Message::Forward { operation, .. } => {
                matches!(operation, Operation::Write { change: Change::Data, .. })
            }
            Message::Resync { .. } => true,
            _ => false,
        }
    }
}
