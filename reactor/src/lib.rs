//! The machine under ringsan: what a core asks of the kernel, and the tasks that wait for it.
//!
//! The only crate with `unsafe`, kept behind one ownership rule: what the kernel was given is the
//! kernel's until its completion. Operations own their buffers and descriptors; both come back with
//! the result, also when the task that asked is gone.

pub mod buffer;
pub mod cores;
pub mod device;
pub mod driver;
pub mod executor;
pub mod gather;
pub mod handle;
pub mod io;
pub mod op;
pub mod region;
pub mod sync;
pub mod uring;

pub use buffer::{Arena, Buffer, View};
pub use executor::Core;
pub use gather::Gather;
pub use handle::{Handle, Path};
pub use region::Region;
