//! What a session is told from outside.

/// What a session needs to know beyond what the login agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The window of CmdSN: how many commands an initiator may have under way.
    pub queue_depth: u32,
    /// SendTargets only.
    pub is_discovery: bool,
    /// The bound of what is kept of a text negotiation, or of data in requests that wait for an earlier one.
    pub collect_bytes_max: u32,
}

/// What SendTargets tells.
pub trait SendTargets {
    /// What this initiator may see: each target's name and its addresses, "host:port,portal group".
    fn targets(&self) -> Vec<(String, Vec<String>)>;
}
