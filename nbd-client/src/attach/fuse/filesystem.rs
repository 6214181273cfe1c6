//! A folder with one file, as FUSE wants it answered. What needs the server goes into the channel.
//!
//! Its one rule: nothing here waits.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::libc;
use nix::unistd::{getegid, geteuid};

use crate::export::Export;
use crate::runtime::mpsc;

const FILE: INodeNo = INodeNo(2);
/// Nothing of the file but its times ever changes.
const FOREVER: Duration = Duration::from_secs(3600);
const WRITE_BYTES_MAX: u32 = 1 << 20;
const IN_FLIGHT_MAX: u16 = 128;

/// What the kernel wants of the server, and where the answer goes.
pub(super) enum Wanted {
    Read {
        offset: u64,
        length: u32,
        reply: ReplyData,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
        durable: bool,
        reply: ReplyWrite,
    },
    Flush {
        reply: ReplyEmpty,
    },
    Zero {
        offset: u64,
        length: u64,
        keep_space: bool,
        reply: ReplyEmpty,
    },
    /// The folder was unmounted.
    End,
    /// The folder is to be unmounted.
    Stop,
}

pub(super) struct OneFile {
    name: String,
    size_bytes: u64,
    block_bytes: u32,
    read_only: bool,
    since: SystemTime,
    wants: mpsc::UnboundedSender<Wanted>,
}

impl OneFile {
    pub(super) fn new(export: &Export, read_only: bool, wants: mpsc::UnboundedSender<Wanted>) -> OneFile {
        OneFile {
            name: file_name(&export.name),
            size_bytes: export.size_bytes,
            block_bytes: export.block_sizes.preferred,
            read_only,
            since: SystemTime::now(),
            wants,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn want(&self, wanted: Wanted) {
        // nobody listens only after the end, when the kernel waits for nothing any more
        let _ = self.wants.send(wanted);
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, mode, links, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o755, 2, 0),
            FILE => (FileType::RegularFile, if self.read_only { 0o400 } else { 0o600 }, 1, self.size_bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind,
            perm: mode,
            nlink: links,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            rdev: 0,
            blksize: self.block_bytes,
            flags: 0,
        })
    }

    fn contains(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size_bytes)
    }
}

/// An export's name as that of a file.
fn file_name(export: &str) -> String {
    let name = export.replace(['/', '\0'], "_");
    match name.as_str() {
        "" | "." | ".." => "disk".to_owned(),
        _ => name.chars().take(60).collect(),
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // what an older kernel does not have only makes it slower
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        let _ = config.set_max_background(IN_FLIGHT_MAX);
        Ok(())
    }

    fn destroy(&mut self) {
        self.want(Wanted::End);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE).filter(|_| parent == INodeNo::ROOT && name == self.name.as_str()) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Times may be set, to no effect; the size of a volume is its server's matter.
    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.is_some_and(|size| size != self.size_bytes);
        if resized || mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Errno::EPERM);
        }
        self.getattr(request, inode, handle, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let folder = [(INodeNo::ROOT, FileType::Directory, "."), (INodeNo::ROOT, FileType::Directory, "..")];
        let entries = folder.into_iter().chain([(FILE, FileType::RegularFile, self.name.as_str())]);
        for (next, (inode, kind, name)) in (1..).zip(entries).skip(offset as usize) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    /// No page cache: what other clients write is seen, and a loop device has the only copy.
    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.read_only && flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size_bytes.saturating_sub(offset);
        match size.min(u32::try_from(left).unwrap_or(u32::MAX)) {
            0 => reply.data(&[]),
            length => self.want(Wanted::Read { offset, length, reply }),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if !self.contains(offset, data.len() as u64) {
            return reply.error(Errno::ENOSPC);
        }
        let durable = flags.0 & libc::O_DSYNC != 0;
        self.want(Wanted::Write { offset, data: data.to_vec(), durable, reply });
    }

    /// Each close(2): the kernel waits for nothing.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.want(Wanted::Flush { reply });
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS); // the kernel asks no more
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    /// Both ways of making zeroes, which is what a loop device makes of a discard.
    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keep_space = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            libc::FALLOC_FL_PUNCH_HOLE => false,
            libc::FALLOC_FL_ZERO_RANGE => true,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        if self.read_only {
            return reply.error(Errno::EROFS);
        }
        if !self.contains(offset, length) {
            return reply.error(Errno::ENOSPC);
        }
        self.want(Wanted::Zero { offset, length, keep_space, reply });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_has_a_name_that_a_file_can_have() {
        for (export, file) in [("db", "db"), ("", "disk"), ("..", "disk"), ("a/b", "a_b")] {
            assert_eq!(file_name(export), file);
        }
        assert!(file_name(&"é".repeat(4096)).len() <= 255);
    }
}
