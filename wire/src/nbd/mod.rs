//! The NBD protocol (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>).

pub mod dial;
pub mod handshake;
pub mod transmission;
