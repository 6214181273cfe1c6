//! Counters of one core at one moment, copied out for the control thread.

mod mirror;

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use uuid::Uuid;

use crate::settings::Protocol;

pub use mirror::{LinkSnapshot, MirrorSnapshot, Stage, VerificationSnapshot};

/// Commands that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Operation {
    Read,
    Write,
    Flush,
    Trim,
    WriteZeroes,
    Cache,
    BlockStatus,
}

impl Operation {
    /// All, in the order of their numbers.
    pub const ALL: [Operation; 7] = [
        Operation::Read,
        Operation::Write,
        Operation::Flush,
        Operation::Trim,
        Operation::WriteZeroes,
        Operation::Cache,
        Operation::BlockStatus,
    ];

    /// The label in metrics and status.
    pub fn name(self) -> &'static str {
        ["read", "write", "flush", "trim", "write_zeroes", "cache", "block_status"][self as usize]
    }
}

/// What one operation of one volume has done so far.
#[derive(Clone, Debug)]
pub struct OperationCounters {
    /// Which.
    pub operation: Operation,
    /// Requests answered, errors included.
    pub requests: u64,
    /// Payload or range bytes of the requests answered without error.
    pub bytes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// From the request's arrival to its reply handed to the socket, in nanoseconds.
    pub latency_ns: Histogram<u64>,
}

/// One volume's counters.
#[derive(Clone, Debug)]
pub struct VolumeSnapshot {
    /// Which.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Clients attached.
    pub connections: usize,
    /// As it is served now (an `IOPOLL` path may have fallen back at run time).
    pub facts: crate::message::VolumeFacts,
    /// One entry for each of `Operation::ALL`, in that order.
    pub operations: Vec<OperationCounters>,
    /// Its mirror, if it has replicas.
    pub mirror: Option<MirrorSnapshot>,
}

/// One client.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ClientSnapshot {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its address; `None` for a unix socket.
    pub address: Option<SocketAddr>,
    /// The volume's name; empty while negotiating, and for iSCSI, whose session names its units.
    pub volume: String,
    /// TLS is in use.
    pub tls: bool,
    /// Requests being served.
    pub requests_inflight: usize,
    /// Requests answered since it attached.
    pub requests: u64,
    /// Its iSCSI session, once it has logged in.
    pub session: Option<SessionSnapshot>,
}

/// One iSCSI session.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionSnapshot {
    /// The initiator's name.
    pub initiator: String,
    /// Its alias; empty for none.
    pub initiator_alias: String,
    /// The target's name; empty for a discovery session.
    pub target: String,
    /// The target's handle of the session.
    pub tsih: u16,
    /// The initiator's part of the session's identity, in hexadecimal.
    pub isid: String,
    /// The CHAP user that it showed, if it was asked.
    pub chap_user: Option<String>,
    /// The keys as agreed, in the order of their negotiation.
    pub negotiated: Vec<(String, String)>,
    /// What it did with each of its logical units.
    pub luns: Vec<LunSnapshot>,
}

/// What one session did with one logical unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LunSnapshot {
    /// Its number.
    pub lun: u16,
    /// Commands answered.
    pub commands: u64,
    /// Payload bytes sent.
    pub read_bytes: u64,
    /// Payload bytes taken.
    pub written_bytes: u64,
}

/// One core.
#[derive(Clone, Debug)]
pub struct CoreSnapshot {
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// Calls of io_uring_enter and other system calls made by the core's thread.
    pub system_calls: u64,
    /// Turns of the loop that looked for completions without entering the kernel.
    pub polls: u64,
    /// Times the core slept.
    pub sleeps: u64,
    /// Operations started.
    pub operations: u64,
    /// Bytes of the arena, and of those in use.
    pub arena_bytes: usize,
    /// In use now.
    pub arena_used_bytes: usize,
    /// Kernel features in use and missed, for people: `DEFER_TASKRUN`, `no SEND_ZC (…)`.
    pub features: Vec<String>,
    /// Volumes that live here.
    pub volumes: Vec<VolumeSnapshot>,
    /// Clients served here.
    pub clients: Vec<ClientSnapshot>,
    /// Clients turned away or dropped since the start, by reason (`handshake timeout`, `limit`, `protocol`, …).
    pub dropped: Vec<(&'static str, u64)>,
}
