//! The dozen things that we ask of a kernel, and what comes back.
//!
//! An operation owns everything the kernel may touch while it runs: descriptors by `Handle`, bytes by
//! `Buffer`, `View` or `Gather`. Its completion returns the operation whole.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::SockaddrStorage;

use crate::buffer::{Buffer, View};
use crate::gather::Gather;
use crate::handle::Handle;

/// Names an operation in flight to its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u32);

/// A request to the kernel.
pub enum Op {
    /// accept(2); gives `Output::Descriptor`.
    Accept {
        /// A listening socket.
        listener: Handle,
    },
    /// connect(2); gives `Output::Count`.
    Connect {
        /// A stream socket.
        socket: Handle,
        /// Where to; boxed, so that it stays where it is while the kernel reads it.
        address: Box<SockaddrStorage>,
    },
    /// recv(2) into a buffer that is taken when data has come; gives `Output::Buffer`, empty at the end of the stream.
    Receive {
        /// A stream socket.
        socket: Handle,
        /// At most so many bytes; 0 for a whole receive buffer.
        len_max: u32,
    },
    /// recv(2) into `buffer[start..]`; gives `Output::Count`, short unless `wait_all`.
    ReceiveInto {
        /// A stream socket.
        socket: Handle,
        /// Where to.
        buffer: Buffer,
        /// From this byte on.
        start: usize,
        /// MSG_WAITALL.
        wait_all: bool,
    },
    /// sendmsg(2) of what remains in `gather`; gives `Output::Count`.
    Send {
        /// A stream socket.
        socket: Handle,
        /// What.
        gather: Box<Gather>,
        /// SEND_ZC: completes once the kernel needs the bytes no more.
        zero_copy: bool,
    },
    /// pread(2) into `buffer[start..start + len]`.
    Read {
        /// A file or block device.
        file: Handle,
        /// Where to.
        buffer: Buffer,
        /// First byte of it.
        start: usize,
        /// Bytes.
        len: usize,
        /// Where from, in bytes.
        offset: u64,
    },
    /// pwrite(2) of `data`.
    Write {
        /// A file or block device.
        file: Handle,
        /// What.
        data: View,
        /// Where to, in bytes.
        offset: u64,
        /// RWF_DSYNC.
        durable: bool,
    },
    /// fsync(2), or fdatasync(2).
    Sync {
        /// A file or block device.
        file: Handle,
        /// fdatasync.
        data_only: bool,
    },
    /// fallocate(2).
    Allocate {
        /// A file or block device.
        file: Handle,
        /// FALLOC_FL_*.
        mode: i32,
        /// In bytes.
        offset: u64,
        /// In bytes.
        len: u64,
    },
    /// An NVMe I/O command by IORING_OP_URING_CMD on a generic character device; gives the status field.
    Nvme {
        /// `/dev/ngXnY`.
        file: Handle,
        /// The command.
        command: NvmeCommand,
        /// Its data.
        data: NvmeData,
    },
    /// Something that only blocking system calls can do, run on a helper thread; gives its value.
    Blocking(BlockingCall),
}

/// What a helper thread runs; `None` once it has been taken.
pub type BlockingCall = Option<Box<dyn FnOnce() -> io::Result<u64> + Send>>;

/// The fields of an NVMe submission queue entry that a caller sets (NVM Express Base Specification, "Common
/// Command Format").
#[derive(Clone, Copy, Debug, Default)]
pub struct NvmeCommand {
    /// OPC.
    pub opcode: u8,
    /// NSID.
    pub namespace: u32,
    /// Command dwords 10 to 15.
    pub dwords: [u32; 6],
}

/// The data of an NVMe command.
pub enum NvmeData {
    /// None.
    None,
    /// Controller to host, the buffer's length.
    In(Buffer),
    /// Host to controller.
    Out(View),
}

/// What an operation gives when it succeeds.
#[derive(Debug)]
pub enum Output {
    /// Bytes moved, or the value of a blocking call, or an NVMe status field.
    Count(u64),
    /// A new descriptor.
    Descriptor(OwnedFd),
    /// Received bytes.
    Buffer(Buffer),
}

/// A finished operation.
pub struct Completion {
    /// What the kernel said.
    pub result: io::Result<Output>,
    /// The operation, with all it owned.
    pub op: Op,
}

impl Completion {
    /// A count, from a system call's return value as io_uring gives it (negative for an error number).
    pub(crate) fn of_count(op: Op, value: i32) -> Completion {
        let result = match value {
            0.. => Ok(Output::Count(value as u64)),
            _ => Err(io::Error::from_raw_os_error(-value)),
        };
        Completion { result, op }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Accept { .. } => "accept",
            Op::Connect { .. } => "connect",
            Op::Receive { .. } => "receive",
            Op::ReceiveInto { .. } => "receive into",
            Op::Send { .. } => "send",
            Op::Read { .. } => "read",
            Op::Write { .. } => "write",
            Op::Sync { .. } => "sync",
            Op::Allocate { .. } => "allocate",
            Op::Nvme { .. } => "nvme",
            Op::Blocking(_) => "blocking",
        })
    }
}
