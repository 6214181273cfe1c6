//! What the tests share: ringsan as a process, other people's tools, a client that breaks rules, and the
//! machine's disks. The one rule: everything made here is undone when its value is dropped, also when the
//! test fails.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod cluster;
pub mod device;
pub mod guest;
pub mod history;
pub mod iscsi;
pub mod launch;
pub mod ledger;
pub mod log;
pub mod nbd;
pub mod proxy;
pub mod qemu;
pub mod scratch;
pub mod skip;
pub mod target;
pub mod tool;

pub use launch::Launch;
pub use scratch::Scratch;
pub use target::Target;
pub use tool::Tool;

/// One KiB, MiB.
pub const KIB: u64 = 1 << 10;
/// One MiB.
pub const MIB: u64 = 1 << 20;

/// The backings that every machine has, as volume `disk` of `bytes`: memory, a file past the page cache where
/// that can be, a file through it.
pub fn backings(scratch: &Scratch, bytes: u64) -> [String; 3] {
    let file = |name| scratch.join(name).display().to_string();
    [
        format!("disk=memory,size={bytes}"),
        format!("disk={},size={bytes}", file("auto.img")),
        format!("disk={},size={bytes},cache=buffered", file("buffered.img")),
    ]
}
