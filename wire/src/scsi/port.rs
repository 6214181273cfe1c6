//! The two ends of a nexus, and how SCSI writes them down (SPC-4 7.6.4.6, 7.8.6).

/// The initiator's end: its name and the session's initiator part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InitiatorPort {
    /// The iSCSI name.
    pub name: String,
    /// The ISID of its session.
    pub isid: [u8; 6],
}

/// The target's end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetPort {
    /// The target's iSCSI name.
    pub target_name: String,
    /// The target portal group tag.
    pub portal_group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER; from 1.
    pub relative_port: u16,
}
