//! Why a handshake ends without a link, in words that fit both ends: nodes are named, nobody is "I" or "you".
//!
//! Its one rule: each reason says the thing, the cause and the next step, and has a number that never changes.

use super::{AuthKind, Versions};

/// Why one node refuses another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what the fields are")]
pub enum Reason {
    /// Too far apart.
    #[error(
        "node `{one}` speaks versions {speaks} of the protocol between nodes and node `{other}` {its}: update the \
         older one"
    )]
    NoCommonVersion { one: String, speaks: Versions, other: String, its: Versions },
    /// A required feature is not offered.
    #[error(
        "node `{requires}` requires features {bits:#x}, which node `{lacks}` lacks: update node `{lacks}`"
    )]
    FeatureMissing { requires: String, lacks: String, bits: u64 },
    /// One wants a key, the other TLS, or nothing.
    #[error(
        "node `{one}` is configured to authenticate peers by {by}, node `{other}` by {its}: configure both alike"
    )]
    OtherAuth { one: String, by: AuthKind, other: String, its: AuthKind },
    /// The keys differ.
    #[error(
        "nodes `{one}` and `{other}` have different shared keys: give both the same `key_file` in [mirror]"
    )]
    OtherKey { one: String, other: String },
    /// The certificate is somebody else's.
    #[error(
        "who calls itself node `{node}` has a certificate for another name: give each node a certificate with its \
         name"
    )]
    Certificate { node: String },
    /// Another node answers.
    #[error(
        "at the address of node `{expected}` node `{found}` answers: correct [peers], or the node's name"
    )]
    WrongName { expected: String, found: String },
    /// A node has dialed itself.
    #[error("node `{node}` has dialed itself: under [peers], give each node its own address")]
    Itself { node: String },
    /// A copied state directory.
    #[error(
        "nodes `{one}` and `{other}` have the same UUID: the state directory of one was copied from the other's; \
         start that one with an empty state directory"
    )]
    SameUuid { one: String, other: String },
    /// Two nodes with one name: both ends.
    #[error("two nodes are named `{name}`: give one of them another name")]
    SameName { name: String },
    /// Two nodes with one name: both dial a third.
    #[error(
        "two nodes are named `{name}`, and one of them is connected already: give one of them another name, or \
         wait until that one is gone if it was installed anew"
    )]
    NameTaken { name: String },
    /// It has no copy of the volume.
    #[error(
        "node `{node}` is not in `replicas` of volume `{volume}`: add it there on all nodes, or take the volume \
         from that node"
    )]
    NotAReplica { node: String, volume: String },
    /// The lists of replicas differ.
    #[error(
        "volume `{volume}` has replicas {one:?} on one node and {other:?} on the other: give all nodes the same \
         `replicas`, in the same order"
    )]
    OtherReplicas { volume: String, one: Vec<String>, other: Vec<String> },
    /// There is no such volume.
    #[error("node `{node}` has no mirrored volume `{volume}`: declare it there as well")]
    UnknownVolume { node: String, volume: String },
    /// The sizes differ.
    #[error(
        "volume `{volume}` has {size} bytes on node `{one}` and {its} on node `{other}`: give both the same `size`"
    )]
    OtherSize { volume: String, one: String, size: u64, other: String, its: u64 },
    /// The regions differ.
    #[error(
        "volume `{volume}` has regions of {size} bytes on node `{one}` and of {its} on node `{other}`: give both \
         the same"
    )]
    OtherRegions { volume: String, one: String, size: u64, other: String, its: u64 },
    /// Nothing but its address says who it is, and that is another.
    #[error(
        "who calls itself node `{node}` comes from {from} and not from {stated}: correct [peers] on node `{one}`, or \
         give all nodes the same key file"
    )]
    WrongAddress { one: String, node: String, from: String, stated: String },
    /// Not now.
    #[error("node `{node}` does not serve volume `{volume}` at the moment: it is tried again")]
    NotNow { node: String, volume: String },
}

impl Reason {
    /// Its number in a packet.
    pub fn code(&self) -> u16 {
        match self {
            Reason::NoCommonVersion { .. } => 1,
            Reason::FeatureMissing { .. } => 2,
            Reason::OtherAuth { .. } => 3,
            Reason::OtherKey { .. } => 4,
            Reason::Certificate { .. } => 5,
            Reason::WrongName { .. } => 6,
            Reason::Itself { .. } => 7,
            Reason::SameUuid { .. } => 8,
            Reason::SameName { .. } => 9,
            Reason::NameTaken { .. } => 10,
            Reason::NotAReplica { .. } => 11,
            Reason::OtherReplicas { .. } => 12,
            Reason::UnknownVolume { .. } => 13,
            Reason::OtherSize { .. } => 14,
            Reason::OtherRegions { .. } => 15,
            Reason::NotNow { .. } => 16,
            Reason::WrongAddress { .. } => 17,
        }
    }
}

/// How a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// We refuse the peer; it has been told.
    #[error("{0}")]
    Refuses(Reason),
    /// The peer refuses us.
    #[error("refused by the peer: {text}")]
    Refused {
        /// `Reason::code`, or one of a newer version.
        code: u16,
        /// Its words: at most 1024 letters, printable.
        text: String,
    },
    /// What came is not what must come.
    #[error("the handshake of a peer is damaged: {0}")]
    Malformed(&'static str),
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

impl std::fmt::Display for AuthKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AuthKind::None => "nothing",
            AuthKind::Key => "a shared key",
            AuthKind::Tls => "TLS certificates",
        })
    }
}
