//! iSCSI as the harness speaks it: the generator's initiator, the floor's target, and iscsi-perf.

mod dial;
pub mod floor;
mod frames;
mod login;
mod pdu;
pub mod perf;
mod talk;

pub use dial::dial;
