//! The JSON of the admin API: what a node says about itself, and what it can be asked.
//!
//! Its one rule: base units (bytes, seconds), and names as in the metrics.

pub mod mirror;
mod refusal;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::VolumeFacts;
use crate::settings::Protocol;

pub use mirror::MirrorStatus;
pub use refusal::{can_be_forced, refusal_text};

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node itself.
    pub node: NodeStatus,
    /// Where it serves.
    pub portals: Vec<PortalStatus>,
    /// TLS for its clients.
    pub tls: TlsStatus,
    /// Its cores.
    pub cores: Vec<CoreStatus>,
    /// Its volumes.
    pub volumes: Vec<VolumeStatus>,
    /// What it is to iSCSI initiators.
    pub iscsi: IscsiStatus,
    /// Its clients.
    pub clients: Vec<ClientStatus>,
    /// Clients turned away or dropped since the start, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What may not be meant, and no volume is to blame for: links between nodes that prove nothing, …
    #[serde(default)]
    pub remarks: Vec<String>,
    /// The time that rates and latencies were taken over; without it, there are no rates, and latencies are
    /// those since the start.
    pub window_seconds: Option<f64>,
}

/// The node itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NodeStatus {
    pub name: String,
    pub uuid: Uuid,
    pub version: String,
    pub process: u32,
    pub uptime_seconds: f64,
    pub config_files: Vec<PathBuf>,
    pub data_dir: PathBuf,
    pub state_dir: PathBuf,
    pub admin: Option<SocketAddr>,
}

/// One portal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortalStatus {
    /// `127.0.0.1:10809`, `unix:/run/ringsan/nbd.sock`.
    pub address: String,
    /// What it serves.
    pub protocol: Protocol,
    /// The service manager handed it over.
    pub inherited: bool,
}

/// TLS for clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TlsStatus {
    /// `off`, `allow` or `require`.
    pub mode: String,
    /// The certificate's file.
    pub certificate: Option<PathBuf>,
    /// Whose clients are let in; `None` for all.
    pub client_ca: Option<PathBuf>,
}

/// One core.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CoreStatus {
    pub cpu: usize,
    /// `adaptive`, `busy` or `off`.
    pub poll: String,
    pub features: Vec<String>,
    pub volumes: usize,
    pub connections: usize,
    pub operations: u64,
    pub system_calls: u64,
    pub polls: u64,
    pub sleeps: u64,
    /// Over the window if there is one, else since the start.
    pub system_calls_per_request: Option<f64>,
    /// The same.
    pub polls_per_request: Option<f64>,
    pub arena_bytes: u64,
    pub arena_used_bytes: u64,
}

/// One volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// A path, or `memory`.
    pub backing: String,
    /// `file`, `block`, `nvme` or `memory`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Writes are refused.
    pub read_only: bool,
    /// Client networks that may attach; empty for all.
    pub allow: Vec<String>,
    /// For clients to read.
    pub description: String,
    /// Where it is declared: a file and its line, a flag, or the admin API.
    pub declared_at: String,
    /// Why it is not served, when it is not.
    pub unavailable: Option<String>,
    /// The CPU of its core, when it is served.
    pub cpu: Option<usize>,
    /// What its store is, when it is served.
    pub facts: Option<VolumeFacts>,
    /// Clients attached, NBD's and iSCSI sessions.
    pub connections: usize,
    /// By operation; those never asked for are left out.
    pub operations: BTreeMap<String, OperationStatus>,
    /// Its mirror, when it has replicas and is served.
    #[serde(default)]
    pub mirror: Option<MirrorStatus>,
}

/// One operation of one volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OperationStatus {
    pub requests: u64,
    pub bytes: u64,
    pub errors: u64,
    pub requests_per_second: Option<f64>,
    pub bytes_per_second: Option<f64>,
    /// Absent when nothing was asked for in the window.
    pub latency: Option<Latency>,
}

/// How long something took: of a request, from its arrival to its reply handed to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub p99_9_seconds: f64,
    pub max_seconds: f64,
}

impl Latency {
    /// Of what was recorded, if anything was.
    pub fn of(histogram_ns: &Histogram<u64>) -> Option<Latency> {
        let seconds = |quantile| histogram_ns.value_at_quantile(quantile) as f64 / 1e9;
        (!histogram_ns.is_empty()).then(|| Latency {
            p50_seconds: seconds(0.5),
            p99_seconds: seconds(0.99),
            p99_9_seconds: seconds(0.999),
            max_seconds: seconds(1.0),
        })
    }
}

/// One client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ClientStatus {
    pub protocol: Protocol,
    /// Its address; `None` on a unix socket.
    pub address: Option<SocketAddr>,
    /// Empty while it negotiates, and for iSCSI, whose session names its logical units.
    pub volume: String,
    pub cpu: usize,
    pub tls: bool,
    pub requests_inflight: usize,
    pub requests: u64,
    /// Its iSCSI session, once it has logged in.
    pub session: Option<SessionStatus>,
}

/// The iSCSI front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IscsiStatus {
    /// Why nobody listens, when the default portal is taken.
    pub unavailable: Option<String>,
    /// What may not be meant: logical units without a volume, volumes without a target.
    pub remarks: Vec<String>,
    /// What SendTargets tells instead of the portals.
    pub advertised: Vec<String>,
    /// `none`, `chap` or `mutual_chap`.
    pub discovery_authentication: String,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
}

/// One target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TargetStatus {
    pub name: String,
    pub alias: String,
    /// `none`, `chap` or `mutual_chap`.
    pub authentication: String,
    /// Those that may log in; empty for all.
    pub initiators: Vec<String>,
    /// Networks that each must contain an initiator's address; empty for all.
    pub allow: Vec<Vec<String>>,
    /// The CPU of the core where its sessions live.
    pub cpu: usize,
    pub sessions: usize,
    pub luns: Vec<LunStatus>,
}

/// One logical unit of a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LunStatus {
    pub lun: u16,
    pub volume: String,
    pub read_only: bool,
    pub removable: bool,
    pub block_bytes: u32,
    /// Over all sessions that are there now.
    #[serde(flatten)]
    pub traffic: LunTraffic,
}

/// What was done with a logical unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LunTraffic {
    pub commands: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub commands_per_second: Option<f64>,
    pub read_bytes_per_second: Option<f64>,
    pub written_bytes_per_second: Option<f64>,
}

/// One iSCSI session; it has one connection, whose client this is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionStatus {
    pub initiator: String,
    pub initiator_alias: String,
    /// Empty for a discovery session.
    pub target: String,
    pub tsih: u16,
    pub isid: String,
    /// `None` when no proof was asked for.
    pub chap_user: Option<String>,
    /// The keys as agreed.
    pub negotiated: BTreeMap<String, String>,
    pub luns: Vec<SessionLunStatus>,
}

/// One logical unit, as one session uses it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SessionLunStatus {
    pub lun: u16,
    #[serde(flatten)]
    pub traffic: LunTraffic,
}

/// `PATCH /v1/volumes/{name}`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeRequest {
    /// The new size.
    pub size_bytes: u64,
    /// A smaller size loses data, and is meant.
    #[serde(default)]
    pub shrink: bool,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Done.
    pub changed: Vec<String>,
    /// Could not be done; the rest was.
    pub failed: Vec<String>,
    /// Takes effect at the next start.
    pub needs_restart: Vec<String>,
}

/// Every error of the admin API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// `not_found`, `conflict`, `invalid`, …
    pub kind: String,
    /// The thing, the cause, the next step.
    pub message: String,
}
