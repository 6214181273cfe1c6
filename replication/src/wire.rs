//! What nodes say to each other, as bytes: the handshake of a link, then frames with messages.
//!
//! One TCP connection for each mirrored volume and pair of nodes; the replica with the greater number dials.
//! Its one rule: bytes in, values out; sockets, time and randomness are the caller's.

pub(crate) mod encoding;
pub mod frame;
pub mod handshake;
pub mod message;
