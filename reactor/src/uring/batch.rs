//! Reads and writes of files in memory, many in one system call: io_submit(2) carries them out before it returns.
//!
//! io_uring would hand each of them to a worker thread, because such file systems do not say that they never
//! wait. Where the kernel has no io_submit, each is a system call of its own.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::op::{Op, Token};

/// Operations in one call at the most.
const BATCH_MAX: usize = 256;

/// `struct iocb` of linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_descriptor: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct IoEvent {
    data: u64,
    iocb: u64,
    result: i64,
    result2: i64,
}

const PREAD: u16 = 0;
const PWRITE: u16 = 1;

/// What is to be done in the next turn.
pub(super) struct Batch {
    /// An aio_context_t, where the kernel gave one.
    context: Option<libc::c_ulong>,
    waiting: Vec<Token>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one word.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, BATCH_MAX, &raw mut context) };
        Batch { context: (result == 0).then_some(context), waiting: Vec::new() }
    }

    /// Whether several operations can share a call.
    pub(super) fn is_offered(&self) -> bool {
        self.context.is_some()
    }

    pub(super) fn push(&mut self, token: Token) {
        self.waiting.push(token);
    }

    /// Takes up to `BATCH_MAX` of those that wait.
    pub(super) fn take(&mut self) -> Vec<Token> {
        let count = self.waiting.len().min(BATCH_MAX);
        self.waiting.drain(..count).collect()
    }

    /// Carries out `operations`; what comes back is each one's result as io_uring would give it. Those that are
    /// missing were not done.
    pub(super) fn submit(&self, operations: &mut [(Token, &mut Op)]) -> io::Result<Vec<(Token, i32)>> {
        let context = self.context.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let mut iocbs: Vec<Iocb> = operations.iter_mut().map(|(token, op)| iocb(*token, op)).collect();
        let mut pointers: Vec<*mut Iocb> = iocbs.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: each pointer names a live iocb, whose buffer its operation owns; both outlive the wait below.
        let submitted =
            unsafe { libc::syscall(libc::SYS_io_submit, context, pointers.len(), pointers.as_mut_ptr()) };
        if submitted < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut events = vec![IoEvent::default(); submitted as usize];
        let mut seen = 0;
        while seen < events.len() {
            let (left, rest) = (events.len() - seen, events[seen..].as_mut_ptr());
            let no_timeout = ptr::null_mut::<libc::timespec>();
            // SAFETY: `rest` has room for `left` events.
            let got = unsafe { libc::syscall(libc::SYS_io_getevents, context, left, left, rest, no_timeout) };
            if got < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                // The kernel may still be writing: freeing the buffers now would be worse than ending.
                std::process::abort();
            }
            seen += got.max(0) as usize;
        }
        Ok(events.iter().map(|event| (Token(event.data as u32), event.result as i32)).collect())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            // SAFETY: the context is ours, and nothing is in flight: `submit` waits for all that it starts.
            unsafe { libc::syscall(libc::SYS_io_destroy, context) };
        }
    }
}

/// Whether an operation can be part of a batch.
pub(super) fn takes(op: &Op) -> bool {
    matches!(op, Op::Read { .. } | Op::Write { .. })
}

fn iocb(token: Token, op: &mut Op) -> Iocb {
    let data = u64::from(token.0);
    match op {
        Op::Read { file, buffer, start, len, offset } => {
            let to = &mut buffer.bytes_mut()[*start..*start + *len];
            Iocb {
                data,
                opcode: PREAD,
                descriptor: file.as_raw_fd() as u32,
                buffer: to.as_mut_ptr() as u64,
                bytes: to.len() as u64,
                offset: *offset as i64,
                ..Iocb::default()
            }
        }
        Op::Write { file, data: view, offset, .. } => Iocb {
            data,
            opcode: PWRITE,
            descriptor: file.as_raw_fd() as u32,
            buffer: view.ptr() as u64,
            bytes: view.len() as u64,
            offset: *offset as i64,
            ..Iocb::default()
        },
        other => unreachable!("{other:?} is not for a batch"),
    }
}
