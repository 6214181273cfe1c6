//! Descriptors as operations know them.
//!
//! A handle owns its descriptor; operations in flight hold the handle, so a descriptor number is
//! never reused under the kernel's feet. Slots in the driver's file table are given back when the last
//! holder lets go.

use std::cell::Cell;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

/// How operations on a descriptor are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By the ordinary ring.
    Ring,
    /// By the polled ring (`IORING_SETUP_IOPOLL`).
    Polled,
    /// By a system call at once: for what never waits for a device (tmpfs), where the ring would hand each
    /// operation to a worker thread.
    Immediate,
}

/// What a driver is told of its handles between operations.
pub trait Keeper {
    /// shutdown(2).
    fn shutdown(&self, fd: BorrowedFd<'_>, slot: Option<u32>, how: Shutdown);

    /// The last holder has let go of the handle with this slot; its descriptor is closed now.
    fn returned(&self, slot: u32);
}

/// A descriptor owned by one core.
#[derive(Clone)]
pub struct Handle(Rc<Inner>);

struct Inner {
    fd: OwnedFd,
    path: Cell<Path>,
    slot: Option<u32>,
    keeper: Rc<dyn Keeper>,
}

impl Handle {
    /// For drivers: `slot` is what the driver itself knows the descriptor by, where it has one.
    pub fn new(fd: OwnedFd, path: Path, slot: Option<u32>, keeper: Rc<dyn Keeper>) -> Handle {
        Handle(Rc::new(Inner { fd, path: Cell::new(path), slot, keeper }))
    }

    /// shutdown(2): operations in flight on a socket come back by themselves. A socket that is not connected, or no
    /// socket, stays as it is.
    pub fn shutdown(&self, how: Shutdown) {
        self.0.keeper.shutdown(self.as_fd(), self.0.slot, how);
    }

    /// How its operations are carried out.
    pub fn path(&self) -> Path {
        self.0.path.get()
    }

    /// Takes another path from the next operation on.
    pub fn set_path(&self, path: Path) {
        self.0.path.set(path);
    }

    /// What its driver knows it by.
    pub fn slot(&self) -> Option<u32> {
        self.0.slot
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.keeper.returned(slot);
        }
    }
}
