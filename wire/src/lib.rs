//! Bytes to values and back, and sessions without sockets. Depends on nothing that does I/O.
#![forbid(unsafe_code)]

mod bytes;
pub mod iscsi;
pub mod nbd;
pub mod scsi;
