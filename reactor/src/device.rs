//! Questions and commands for files and block devices that only raw system calls can put.
//!
//! Blocking: on the control thread or inside `io::blocking`, never on a core.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use request::*;

/// Of linux/fs.h and linux/nvme_ioctl.h.
mod request {
    use nix::{ioctl_none, ioctl_read, ioctl_read_bad, ioctl_write_ptr_bad, request_code_none};

    ioctl_read!(blkgetsize64, 0x12, 114, u64);
    ioctl_read_bad!(blksszget, request_code_none!(0x12, 104), libc::c_int);
    ioctl_read_bad!(blkpbszget, request_code_none!(0x12, 123), libc::c_uint);
    ioctl_write_ptr_bad!(blkdiscard, request_code_none!(0x12, 119), [u64; 2]);
    ioctl_write_ptr_bad!(blkzeroout, request_code_none!(0x12, 127), [u64; 2]);
    ioctl_none!(nvme_ioctl_id, b'N', 0x40);
}

/// What O_DIRECT asks of a file: statx(2), STATX_DIOALIGN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlignment {
    /// Of addresses in memory.
    pub memory_bytes: u32,
    /// Of offsets and lengths.
    pub offset_bytes: u32,
}

/// The alignment for O_DIRECT; `None` where the file system refuses it or the kernel does not say.
pub fn direct_alignment(file: BorrowedFd<'_>) -> io::Result<Option<DirectAlignment>> {
    // SAFETY: all-zero is a valid statx buffer.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let empty_path = c"".as_ptr();
    // SAFETY: the descriptor is borrowed, the path is a C string, and `stat` is exclusively ours.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), empty_path, libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &raw mut stat)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let known = stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align != 0;
    Ok(known.then_some(DirectAlignment {
        memory_bytes: stat.stx_dio_mem_align,
        offset_bytes: stat.stx_dio_offset_align,
    }))
}

/// The size of a block device in bytes.
pub fn block_size_bytes(device: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size = 0;
    // SAFETY: the request writes one u64.
    unsafe { blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// The logical and physical sector sizes of a block device in bytes.
pub fn sector_bytes(device: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut logical: libc::c_int = 0;
    // SAFETY: the request writes one int.
    unsafe { blksszget(device.as_raw_fd(), &raw mut logical) }?;
    let mut physical: libc::c_uint = 0;
    // SAFETY: the request writes one unsigned int.
    unsafe { blkpbszget(device.as_raw_fd(), &raw mut physical) }?;
    Ok((logical as u32, physical))
}

/// BLKDISCARD: what the range reads afterwards is up to the device.
pub fn discard(device: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: the request reads two u64.
    unsafe { blkdiscard(device.as_raw_fd(), &[offset, len]) }?;
    Ok(())
}

/// BLKZEROOUT: the range reads as zeroes afterwards and stays allocated.
pub fn zero_out(device: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: the request reads two u64.
    unsafe { blkzeroout(device.as_raw_fd(), &[offset, len]) }?;
    Ok(())
}

/// The namespace identifier of an NVMe character or block device.
pub fn nvme_namespace(device: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the request takes no argument and returns the identifier.
    let id = unsafe { nvme_ioctl_id(device.as_raw_fd()) }?;
    Ok(id as u32)
}
