//! Operations as submission queue entries.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use nix::sys::socket::SockaddrLike;

use crate::buffer::{Buffer, View};
use crate::handle::Handle;
use crate::op::{NvmeCommand, NvmeData, Op};

/// Index of the arena among the registered buffers.
pub(super) const ARENA: u16 = 0;
/// The group of provided receive buffers.
pub(super) const RECEIVE_GROUP: u16 = 0;
/// `_IOWR('N', 0x80, struct nvme_uring_cmd)` of linux/nvme_ioctl.h.
const NVME_URING_CMD_IO: u32 = 0xC048_4E80;

/// The entry of an operation on the ordinary ring.
pub(super) fn of(op: &mut Op, buffer_ring: bool) -> Entry {
    match op {
        Op::Accept { listener } => {
            let (fd, flags) = target(listener);
            opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .flags(flags)
        }
        Op::Connect { socket, address } => {
            let (fd, flags) = target(socket);
            opcode::Connect::new(fd, address.as_ptr(), address.len()).build().flags(flags)
        }
        Op::Receive { socket, len_max } => {
            assert!(buffer_ring, "without a buffer ring the driver takes the buffer itself");
            let (fd, flags) = target(socket);
            let receive = opcode::Recv::new(fd, ptr::null_mut(), *len_max).buf_group(RECEIVE_GROUP);
            receive.build().flags(flags | Flags::BUFFER_SELECT)
        }
        Op::ReceiveInto { socket, buffer, start, wait_all } => {
            let (fd, flags) = target(socket);
            assert!(*start <= buffer.len(), "a receive stays in its buffer");
            let len = (buffer.len() - *start) as u32;
            let wait = if *wait_all { libc::MSG_WAITALL } else { 0 };
            opcode::Recv::new(fd, buffer.ptr().wrapping_add(*start), len).flags(wait).build().flags(flags)
        }
        Op::Send { socket, gather, zero_copy } => {
            let (fd, flags) = target(socket);
            let message = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
            let header = gather.prepare();
            match zero_copy {
                true => opcode::SendMsgZc::new(fd, header).flags(message).build().flags(flags),
                false => opcode::SendMsg::new(fd, header).flags(message).build().flags(flags),
            }
        }
        Op::Sync { file, data_only } => {
            let (fd, flags) = target(file);
            let kind = if *data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
            opcode::Fsync::new(fd).flags(kind).build().flags(flags)
        }
        Op::Allocate { file, mode, offset, len } => {
            let (fd, flags) = target(file);
            opcode::Fallocate::new(fd, *len).offset(*offset).mode(*mode).build().flags(flags)
        }
        Op::Read { file, buffer, start, len, offset } => read(target(file), buffer, *start, *len, *offset),
        Op::Write { file, data, offset, durable } => write(target(file), data, *offset, *durable),
        Op::Nvme { .. } | Op::Blocking(_) => unreachable!("goes another way"),
    }
}

pub(super) fn read(
    (fd, flags): (types::Fd, Flags),
    buffer: &Buffer,
    start: usize,
    len: usize,
    offset: u64,
) -> Entry {
    assert!(start.checked_add(len).is_some_and(|end| end <= buffer.len()), "a read stays in its buffer");
    let to = buffer.ptr().wrapping_add(start);
    match buffer.is_registered() {
        true => opcode::ReadFixed::new(fd, to, len as u32, ARENA).offset(offset).build().flags(flags),
        false => opcode::Read::new(fd, to, len as u32).offset(offset).build().flags(flags),
    }
}

pub(super) fn write((fd, flags): (types::Fd, Flags), data: &View, offset: u64, durable: bool) -> Entry {
    let len = data.len() as u32;
    let how = if durable { libc::RWF_DSYNC } else { 0 };
    match data.is_registered() {
        true => opcode::WriteFixed::new(fd, data.ptr(), len, ARENA)
            .offset(offset)
            .rw_flags(how)
            .build()
            .flags(flags),
        false => opcode::Write::new(fd, data.ptr(), len).offset(offset).rw_flags(how).build().flags(flags),
    }
}

/// The entry of an NVMe passthrough command. `struct nvme_uring_cmd` of linux/nvme_ioctl.h, 72 bytes.
pub(super) fn nvme(
    file: &Handle,
    command: &NvmeCommand,
    data: &NvmeData,
    may_use_registered: bool,
) -> io_uring::squeue::Entry128 {
    let (address, len, registered) = match data {
        NvmeData::None => (0, 0, false),
        NvmeData::In(buffer) => (buffer.ptr() as u64, buffer.len() as u32, buffer.is_registered()),
        NvmeData::Out(view) => (view.ptr() as u64, view.len() as u32, view.is_registered()),
    };
    let mut cmd = [0u8; 80];
    cmd[0] = command.opcode;
    cmd[4..8].copy_from_slice(&command.namespace.to_ne_bytes());
    cmd[24..32].copy_from_slice(&address.to_ne_bytes());
    cmd[36..40].copy_from_slice(&len.to_ne_bytes());
    for (i, dword) in command.dwords.iter().enumerate() {
        cmd[40 + 4 * i..44 + 4 * i].copy_from_slice(&dword.to_ne_bytes());
    }
    let index = (registered && may_use_registered).then_some(ARENA);
    opcode::UringCmd80::new(types::Fd(file.as_raw_fd()), NVME_URING_CMD_IO).cmd(cmd).buf_index(index).build()
}

/// The doorbell's read.
pub(super) fn doorbell(fd: RawFd, value: &mut u64) -> Entry {
    opcode::Read::new(types::Fd(fd), ptr::from_mut(value).cast(), 8).build()
}

/// The descriptor that an accept returned.
pub(super) fn descriptor(value: i32) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for this completion, and nobody else has seen its number.
    unsafe { OwnedFd::from_raw_fd(value) }
}

/// A registered file is named by its slot and a flag.
fn target(handle: &Handle) -> (types::Fd, Flags) {
    match handle.slot() {
        Some(slot) => (types::Fd(slot as i32), Flags::FIXED_FILE),
        None => (types::Fd(handle.as_raw_fd()), Flags::empty()),
    }
}
