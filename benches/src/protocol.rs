//! The protocols over which servers are measured.

use serde::Serialize;

/// One protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// NBD.
    Nbd,
    /// iSCSI.
    Iscsi,
}

impl Protocol {
    /// All, in the order in which they are measured.
    pub const ALL: [Protocol; 2] = [Protocol::Nbd, Protocol::Iscsi];

    /// For people and for `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Nbd => "nbd",
            Protocol::Iscsi => "iscsi",
        }
    }
}
