//! Operations on descriptors that never wait for a device, done by a system call at once.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::handle::Path;
use crate::op::{Completion, Op, Output};

pub(super) fn applies(op: &Op) -> bool {
    match op {
        Op::Read { file, .. }
        | Op::Write { file, .. }
        | Op::Sync { file, .. }
        | Op::Allocate { file, .. } => file.path() == Path::Immediate,
        _ => false,
    }
}

pub(super) fn perform(mut op: Op) -> Completion {
    let value = match &mut op {
        Op::Read { file, buffer, start, len, offset } => {
            let to = &mut buffer.bytes_mut()[*start..*start + *len];
            pread(file.as_raw_fd(), to, *offset)
        }
        Op::Write { file, data, offset, .. } => {
            // SAFETY: the view keeps its bytes alive and the kernel only reads them.
            unsafe { libc::pwrite(file.as_raw_fd(), data.ptr().cast(), data.len(), *offset as i64) as i64 }
        }
        Op::Sync { file, .. } => {
            // SAFETY: takes no pointers.
            unsafe { libc::fdatasync(file.as_raw_fd()).into() }
        }
        Op::Allocate { file, mode, offset, len } => {
            // SAFETY: takes no pointers.
            unsafe { libc::fallocate(file.as_raw_fd(), *mode, *offset as i64, *len as i64).into() }
        }
        other => unreachable!("{other:?} is never immediate"),
    };
    let result = match value {
        0.. => Ok(Output::Count(value as u64)),
        _ => Err(io::Error::last_os_error()),
    };
    Completion { result, op }
}

fn pread(fd: RawFd, to: &mut [u8], offset: u64) -> i64 {
    // SAFETY: `to` is an exclusive borrow of its whole length.
    unsafe { libc::pread(fd, to.as_mut_ptr().cast(), to.len(), offset as i64) as i64 }
}
