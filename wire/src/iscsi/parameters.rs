//! What two sides agree on for a session (RFC 7143 §13), and how.

mod key;
mod negotiation;

pub use key::Key;
pub use negotiation::{Negotiation, NegotiationError};

use crate::iscsi::text::{NOT_UNDERSTOOD, REJECT};

/// What holds in the full feature phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// CRC32C after every header.
    pub header_digest: bool,
    /// CRC32C after every data segment.
    pub data_digest: bool,
    /// What the peer takes: the bound of what we send.
    pub max_recv_data_segment_length: u32,
    /// What we take.
    pub own_max_recv_data_segment_length: u32,
    /// The longest sequence of Data-In or solicited Data-Out.
    pub max_burst_length: u32,
    /// The most that an initiator may send unasked.
    pub first_burst_length: u32,
    /// Whether an initiator waits for an R2T, immediate data aside.
    pub initial_r2t: bool,
    /// Whether a command may bring data.
    pub immediate_data: bool,
    /// R2Ts of one task at a time.
    pub max_outstanding_r2t: u16,
    /// Seconds before the initiator comes back after a loss.
    pub default_time2wait: u16,
    /// Seconds that tasks survive a loss.
    pub default_time2retain: u16,
    /// Always 1 here.
    pub max_connections: u16,
    /// Always 0 here.
    pub error_recovery_level: u8,
}

impl Default for Parameters {
    /// What holds where nothing was said (§13).
    fn default() -> Parameters {
        Parameters {
            header_digest: false,
            data_digest: false,
            max_recv_data_segment_length: 8192,
            own_max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_outstanding_r2t: 1,
            default_time2wait: 2,
            default_time2retain: 20,
            max_connections: 1,
            error_recovery_level: 0,
        }
    }
}

impl Parameters {
    /// Takes a key of a text request in the full feature phase, and says what to answer it with, if anything.
    ///
    /// Only MaxRecvDataSegmentLength may change there; SendTargets is not a parameter, and the caller's.
    pub fn redeclare(&mut self, key: &str, value: &str) -> Option<&'static str> {
        match (key, Key::from_name(key)) {
            (_, Some(declared @ Key::MaxRecvDataSegmentLength)) => {
                match negotiation::declared_length(declared, value) {
                    Ok(length) => self.max_recv_data_segment_length = length,
                    Err(_) => return Some(REJECT),
                }
                None
            }
            ("InitiatorAlias", _) => None,
            (_, Some(_)) => Some(REJECT),
            _ if LOGIN_KEYS.contains(&key) => Some(REJECT),
            _ => Some(NOT_UNDERSTOOD),
        }
    }
}

/// Keys of the login phase that are no parameters, and keys that only a target sends.
const LOGIN_KEYS: [&str; 13] = [
    "InitiatorName",
    "TargetName",
    "SessionType",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "AuthMethod",
    "CHAP_A",
    "CHAP_I",
    "CHAP_C",
    "CHAP_N",
    "CHAP_R",
    "SendTargets",
];

/// Whether CRC32C is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DigestPolicy {
    /// Never.
    Off,
    /// The first of the initiator's list that we know.
    #[default]
    Allowed,
    /// A login without it fails.
    Required,
}

/// What this target is ready to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// CRC32C after every header.
    pub header_digest: DigestPolicy,
    /// CRC32C after every data segment.
    pub data_digest: DigestPolicy,
    /// What we declare to take in one PDU.
    pub own_max_recv_data_segment_length: u32,
    /// At most.
    pub max_burst_length: u32,
    /// At most.
    pub first_burst_length: u32,
    /// `true`: unasked data is refused, immediate data aside.
    pub initial_r2t: bool,
    /// `false`: immediate data is refused.
    pub immediate_data: bool,
    /// At most.
    pub max_outstanding_r2t: u16,
}

impl Default for Offers {
    /// Digests as the initiator wishes, a quarter megabyte in one PDU, a megabyte in one burst, data unasked.
    fn default() -> Offers {
        Offers {
            header_digest: DigestPolicy::Allowed,
            data_digest: DigestPolicy::Allowed,
            own_max_recv_data_segment_length: 262_144,
            max_burst_length: 1_048_576,
            first_burst_length: 262_144,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 8,
        }
    }
}
