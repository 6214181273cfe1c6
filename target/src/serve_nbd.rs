//! The NBD front.

/// A negotiated client on its way to its volume's core.
pub struct Handover {}
