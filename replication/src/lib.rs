//! The mirror of one volume: every acknowledged write is on every replica that is in sync.
//!
//! `Replica` is one node's machine for one volume: `step(event, now, effects)`. It does no I/O, reads no clock,
//! never waits. The other files are its parts, and the values that it takes and gives.
//! Its one rule: payload never comes in here. It is named by a `DataId`, and the mover holds the bytes.
#![forbid(unsafe_code)]

mod base;
mod candidate;
pub mod config;
pub mod coordinator;
pub mod disk;
pub mod effect;
pub mod event;
pub mod fault;
mod forward;
pub mod history;
pub mod id;
mod journal;
mod lease;
pub mod message;
mod numbered;
mod order;
mod primary;
pub mod region;
pub mod replica;
mod secondary;
pub mod status;
pub mod superblock;
pub mod wire;
mod witness;

pub use config::{Limits, OnPeerLoss, ReplicaConfig, Sabotage, Timing};
pub use coordinator::{Coordination, Decision, Record};
pub use effect::{DisconnectReason, Effect, Notice};
pub use event::{Change, Command, Event, LocalResult, Operation};
pub use fault::{DiskFault, Fault, OpenError, Refusal};
pub use history::{Comparison, History, Term};
pub use id::{
    CommandId, DataId, Epoch, FlushId, ForwardId, Incarnation, NodeId, OpId, ReplicaId, ReplicaSet,
    RequestId, Seq, Session, Time, VolumeId,
};
pub use message::{Message, Place};
pub use region::{ByteRange, Geometry, RegionSet};
pub use replica::{ReadAtOnce, Replica};
pub use status::{PeerState, PeerStatus, RoleState, Status, Step};
pub use superblock::{BitmapPage, MetadataRecord, Stored, Superblock};
