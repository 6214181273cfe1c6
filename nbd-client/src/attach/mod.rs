//! Volumes as devices of this machine: through the kernel's nbd driver, or as a file through FUSE.

mod device;
mod dials;
mod driver;
mod elastic;
mod fuse;
mod kernel;
mod netlink;
mod news;
mod nodes;
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
