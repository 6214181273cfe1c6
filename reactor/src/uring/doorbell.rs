//! Waking a core from another thread: an eventfd that the core's ring always reads.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Rings at a core.
#[derive(Clone)]
pub struct Doorbell(Arc<Inner>);

struct Inner {
    event: EventFd,
    /// Rung and not yet heard: further rings need no system call.
    pending: AtomicBool,
}

impl Doorbell {
    /// A doorbell for a core that is to be.
    pub fn new() -> io::Result<Doorbell> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?;
        Ok(Doorbell(Arc::new(Inner { event, pending: AtomicBool::new(false) })))
    }

    /// Wakes the core. What was done before is seen by the core when it hears.
    pub fn ring(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            let _ = self.0.event.write(1);
        }
    }

    /// Whether it was rung and not heard yet.
    pub fn is_rung(&self) -> bool {
        self.0.pending.load(Ordering::Acquire)
    }

    /// The core looks for what was left for it: from now on it is to be rung again.
    pub fn heard(&self) {
        self.0.pending.store(false, Ordering::Release);
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }
}
