//! Volumes as devices of this machine: through the kernel's nbd driver, or as a file through FUSE.
//!
//! ```text
//! attach:  kernel ─▶ nodes (dial, compare) ─▶ plan (what the driver is told) ─▶ driver ─▶ state
//! watch:   driver's events, hung-up sockets ─▶ redial, elastic (machines) ─▶ dials ─▶ nodes ─▶ driver
//! ```
//! Its one rule: what is attached is always told by the kernel; our own files only say more about it.

mod device;
mod dials;
mod driver;
mod elastic;
mod fuse;
mod kernel;
mod netlink;
mod news;
pub(crate) mod nodes;
mod plan;
mod redial;
mod slots;
mod sockets;
mod state;
mod status;
mod watch;

pub use device::Device;
pub use fuse::{FuseWish, detach_fuse, serve};
pub use kernel::{Attached, Wish, attach, detach};
pub use news::{End, News};
pub use nodes::Common;
pub use state::{Attachment, Connection, StateFolder};
pub use status::{ConnectionReport, Report, status};
