//! Descriptors as operations know them.
//!
//! A handle owns its descriptor; operations in flight hold the handle, so a descriptor number is
//! never reused under the kernel's feet. Slots in the rings' file tables are given back when the last
//! holder lets go.

use std::cell::{Cell, RefCell};
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

/// A descriptor owned by one core.
#[derive(Clone)]
pub struct Handle(Rc<Inner>);

struct Inner {
    fd: OwnedFd,
    path: Cell<Path>,
    slot: Option<u32>,
    returned: Rc<RefCell<Vec<u32>>>,
}

impl Handle {
    pub(crate) fn new(fd: OwnedFd, path: Path, slot: Option<u32>, returned: Rc<RefCell<Vec<u32>>>) -> Handle {
        Handle(Rc::new(Inner { fd, path: Cell::new(path), slot, returned }))
    }

    /// How its operations are carried out.
    pub fn path(&self) -> Path {
        self.0.path.get()
    }

    /// Takes another path from the next operation on.
    pub fn set_path(&self, path: Path) {
        self.0.path.set(path);
    }

    pub(crate) fn slot(&self) -> Option<u32> {
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
            self.returned.borrow_mut().push(slot);
        }
    }
}
