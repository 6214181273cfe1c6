//! One side of a copy as one worker uses it: bytes in and out, zeroes, what is known to be zero.
//!
//! Its one rule: an operation is whole or an error, and the error names the side.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{Whence, lseek};

use super::map::Map;
use crate::runtime::File;
use crate::{Client, Error, Kind, TransmissionFlags, Zero};

/// Zeroes are written in pieces of this length where there is no better way.
const ZEROES_BYTES: u64 = 256 << 10;

/// A file, a block device or an export in use.
pub(super) enum Side {
    File(Local),
    Export(Client),
}

/// A file or block device, and its name for messages.
pub(super) struct Local {
    file: File,
    name: String,
    /// It lies in memory, so no call ever waits; the ring would hand each to a thread of the kernel, which costs
    /// more. A disk may make a call wait for long, and with it all connections of this thread.
    is_memory: bool,
}

impl Side {
    /// Fills `buffer` from `offset` on.
    pub(super) async fn read(&self, offset: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self {
            Side::File(local) => {
                let (result, buffer) = local.read(offset, buffer).await;
                result.map_err(|error| local.cannot(&format!("be read at {offset}"), error))?;
                Ok(buffer)
            }
            Side::Export(client) => {
                let (result, buffer) = client.read(offset, buffer).await;
                result.map(|()| buffer)
            }
        }
    }

    /// Writes all of `buffer` at `offset`.
    pub(super) async fn write(&self, offset: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self {
            Side::File(local) => {
                let (result, buffer) = local.write(offset, buffer).await;
                result.map_err(|error| local.cannot(&format!("be written at {offset}"), error))?;
                Ok(buffer)
            }
            Side::Export(client) => {
                let (result, buffer) = client.write(offset, buffer, false).await;
                result.map(|()| buffer)
            }
        }
    }

    /// Makes `range` read as zeroes, without space of its own where that can be.
    pub(super) async fn zero(&self, range: Range<u64>) -> Result<(), Error> {
        let is_done = match self {
            Side::File(local) => local.zero(&range).await?,
            Side::Export(client) => zero_export(client, &range).await?,
        };
        if is_done { Ok(()) } else { self.write_zeroes(range).await }
    }

    /// What is known to be zero in `range`.
    pub(super) async fn map(&self, range: Range<u64>) -> Result<Map, Error> {
        match self {
            Side::File(local) => local.map(range),
            Side::Export(client) if client.export().has_allocation() => {
                let extents = client.block_status(range.start, range.end - range.start).await?;
                let zeroes = extents.into_iter().filter(|extent| extent.zero);
                Ok(Map::with_zeroes(range, zeroes.map(|extent| extent.offset..extent.offset + extent.length)))
            }
            Side::Export(_) => Ok(Map::data(range)),
        }
    }

    /// Makes durable what was written here.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        match self {
            Side::File(local) => local.file.sync().await.map_err(|error| local.cannot("be flushed", error)),
            Side::Export(client) if client.export().has(TransmissionFlags::SEND_FLUSH) => {
                client.flush().await
            }
            Side::Export(_) => Ok(()),
        }
    }

    /// Takes leave, politely; nobody waits for the result.
    pub(super) async fn close(self) {
        if let Side::Export(client) = self {
            let _ = client.disconnect().await;
        }
    }

    async fn write_zeroes(&self, range: Range<u64>) -> Result<(), Error> {
        let mut buffer = Vec::new();
        for start in range.clone().step_by(ZEROES_BYTES as usize) {
            buffer.resize((range.end - start).min(ZEROES_BYTES) as usize, 0);
            buffer = self.write(start, buffer).await?;
        }
        Ok(())
    }
}

impl Local {
    pub(super) fn new(file: File, name: String) -> Local {
        let kind = fstatfs(file.as_std()).map(|facts| facts.filesystem_type());
        Local { file, name, is_memory: kind == Ok(TMPFS_MAGIC) }
    }

    async fn read(&self, offset: u64, mut buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self.is_memory {
            true => (self.file.as_std().read_exact_at(&mut buffer, offset), buffer),
            false => self.file.read_at(buffer, offset).await,
        }
    }

    async fn write(&self, offset: u64, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self.is_memory {
            true => (self.file.as_std().write_all_at(&buffer, offset), buffer),
            false => self.file.write_at(buffer, offset).await,
        }
    }

    /// Whether it could be done.
    async fn zero(&self, range: &Range<u64>) -> Result<bool, Error> {
        for how in [FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE] {
            let mode = (how | FallocateFlags::FALLOC_FL_KEEP_SIZE).bits();
            match self.file.allocate(range.start, range.end - range.start, mode).await {
                Ok(()) => return Ok(true),
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(self.cannot(&format!("be zeroed at {}", range.start), error)),
            }
        }
        Ok(false)
    }

    fn map(&self, range: Range<u64>) -> Result<Map, Error> {
        let mut zeroes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let Some(data) = self.seek(at, Whence::SeekData)? else { return Ok(Map::data(range)) };
            zeroes.push(at..data);
            if data >= range.end {
                break;
            }
            at = self.seek(data, Whence::SeekHole)?.unwrap_or(range.end);
        }
        Ok(Map::with_zeroes(range, zeroes))
    }

    /// Where the next data or hole is; the end of all things if there is none, `None` if nobody can tell.
    fn seek(&self, at: u64, whence: Whence) -> Result<Option<u64>, Error> {
        let offset = i64::try_from(at).expect("the kernel has no larger files");
        match lseek(self.file.as_std().as_fd(), offset, whence) {
            Ok(found) => Ok(Some(found.unsigned_abs())),
            Err(Errno::ENXIO) => Ok(Some(u64::MAX)),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(self.cannot("tell where its holes are", error.into())),
        }
    }

    fn cannot(&self, what: &str, error: io::Error) -> Error {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room and start the same copy again: it goes on where it stopped"
            }
            io::ErrorKind::FileTooLarge => "raise the limit of file sizes, or choose another file system",
            io::ErrorKind::UnexpectedEof => "it became shorter meanwhile; copy when nothing changes it",
            _ => "see the kernel's log",
        };
        Error::caused(Kind::Local, format!("{} cannot {what}", self.name), error).remedy(remedy)
    }
}

/// Whether it could be done.
async fn zero_export(client: &Client, range: &Range<u64>) -> Result<bool, Error> {
    if !client.export().has(TransmissionFlags::SEND_WRITE_ZEROES) {
        return Ok(false);
    }
    match client.zero(range.start, range.end - range.start, Zero::default()).await {
        Err(error) if error.errno() == Some(crate::Errno::NotSup) => Ok(false),
        result => result.map(|()| true),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::ENOSYS | Errno::ENODEV | Errno::EINVAL)
        )
}
