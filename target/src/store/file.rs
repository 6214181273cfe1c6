//! The file backing, and block devices, which differ from files in a few commands.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::unistd::{Whence, lseek};
use reactor::{Buffer, Handle, Path, View, device, io as verbs};
use wire::nbd::transmission::{Extent, STATE_HOLE, STATE_ZERO};

use crate::fault::{Fault, Kind};
use crate::message::VolumeFacts;
use crate::store::{Zeroing, lacks_it, unsupported};

/// An open file or block device.
pub struct FileStore {
    pub(super) path: PathBuf,
    pub(super) handle: Handle,
    /// The same file, for calls on helper threads.
    pub(super) file: Arc<OwnedFd>,
    pub(super) facts: VolumeFacts,
    pub(super) size_bytes: Cell<u64>,
    pub(super) is_block_device: bool,
    /// A sync has failed: the kernel may have dropped what it could not write, so no later one can be believed.
    pub(super) sync_failed: Cell<bool>,
    /// Said once.
    pub(super) no_zero_range: Cell<bool>,
}

impl FileStore {
    pub(super) fn facts(&self) -> VolumeFacts {
        let mut facts = VolumeFacts { size_bytes: self.size_bytes.get(), ..self.facts.clone() };
        if facts.io_path.contains("IOPOLL") && self.handle.path() == Path::Ring {
            facts.io_path = facts.io_path.replace(" IOPOLL", "");
            facts.io_path_reason = "polling was refused when it was tried".into();
        }
        facts
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.get()
    }

    pub(super) fn set_size(&self, size_bytes: u64) -> Result<(), Fault> {
        if !size_bytes.is_multiple_of(self.block_bytes().into()) {
            let block = self.block_bytes();
            return Err(Fault::new(
                Kind::Invalid,
                format!("{size_bytes} is not a multiple of its blocks of {block} bytes"),
            ));
        }
        self.size_bytes.set(size_bytes);
        Ok(())
    }

    pub(super) fn block_bytes(&self) -> u32 {
        self.facts.block_bytes
    }

    pub(super) fn is_immediate(&self) -> bool {
        self.handle.path() == Path::Immediate
    }

    pub(super) async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        let (result, buffer) = verbs::read(&self.handle, buffer, offset).await;
        match result {
            Ok(()) => Ok(buffer),
            Err(error) => Err(self.fault("read", offset, error)),
        }
    }

    pub(super) async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        self.must_not_have_lost_writes(durable)?;
        let result = verbs::write(&self.handle, data, offset, durable).await;
        if durable && self.block_bytes() == 1 && result.as_ref().is_err_and(lost_writes) {
            // The kernel tells a file only once that it has lost pages of it, and has told this write.
            self.sync_failed.set(true);
        }
        result.map_err(|error| self.fault("write", offset, error))
    }

    pub(super) async fn sync(&self) -> Result<(), Fault> {
        self.must_not_have_lost_writes(true)?;
        let result = verbs::sync(&self.handle, true).await;
        result.map_err(|error| {
            self.sync_failed.set(true);
            Fault::io(
                format!(
                    "{}: fdatasync failed, acknowledged writes may be lost; flushes fail until the volume is opened anew",
                    self.path.display()
                ),
                error,
            )
        })
    }

    pub(super) async fn discard(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let result = match self.is_block_device {
            true => self.on_helper(move |file| device::discard(file.as_fd(), offset, len)).await,
            false => self.allocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len).await,
        };
        result.map_err(|error| match lacks_it(&error) {
            true => unsupported("discard", &self.path),
            false => self.fault("discard", offset, error),
        })
    }

    pub(super) async fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), Fault> {
        if how.may_unmap && self.facts.can_discard {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            match self.allocate(mode, offset, len).await {
                Err(error) if lacks_it(&error) => {}
                result => return result.map_err(|error| self.fault("zero", offset, error)),
            }
        }
        if self.is_block_device && how.fast_only {
            // BLKZEROOUT writes zeroes where the device has no command for it, and does not tell.
            return Err(unsupported("zero fast", &self.path));
        }
        if self.no_zero_range.get() {
            return Err(unsupported("zero a range", &self.path));
        }
        let result = match self.is_block_device {
            true => self.on_helper(move |file| device::zero_out(file.as_fd(), offset, len)).await,
            false => self.allocate(libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE, offset, len).await,
        };
        result.map_err(|error| match lacks_it(&error) {
            true => {
                self.no_zero_range.set(true);
                unsupported("zero a range", &self.path)
            }
            false => self.fault("zero", offset, error),
        })
    }

    pub(super) async fn extents(
        &self,
        offset: u64,
        len: u64,
        extents_max: usize,
    ) -> Result<Vec<Extent>, Fault> {
        if self.is_block_device {
            return Ok(vec![Extent { length: len, flags: 0 }]);
        }
        let found: Arc<Mutex<Vec<Extent>>> = Arc::default();
        let file = self.file.clone();
        let out = found.clone();
        let call = move || {
            *out.lock().unwrap_or_else(PoisonError::into_inner) =
                map_holes(&file, offset, offset + len, extents_max)?;
            Ok(0)
        };
        verbs::blocking(call).await.map_err(|error| self.fault("map the holes", offset, error))?;
        let extents = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(extents)
    }

    pub(super) async fn prefetch(&self, offset: u64, len: u64) -> Result<(), Fault> {
        if self.block_bytes() > 1 {
            return Ok(());
        }
        let advise = move |file: &OwnedFd| {
            let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            Ok(nix::fcntl::posix_fadvise(file, offset as i64, len as i64, advice)?)
        };
        self.on_helper(advise).await.map_err(|error| self.fault("prefetch", offset, error))
    }

    async fn allocate(&self, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        verbs::allocate(&self.handle, mode, offset, len).await
    }

    async fn on_helper(
        &self,
        call: impl FnOnce(&OwnedFd) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let file = self.file.clone();
        verbs::blocking(move || call(&file).map(|()| 0)).await.map(drop)
    }

    fn must_not_have_lost_writes(&self, durable: bool) -> Result<(), Fault> {
        if durable && self.sync_failed.get() {
            let path = self.path.display();
            return Err(Fault::new(
                Kind::Io,
                format!("{path}: an earlier fdatasync failed; open the volume anew"),
            ));
        }
        Ok(())
    }

    fn fault(&self, what: &str, offset: u64, error: io::Error) -> Fault {
        let path = self.path.display();
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let context = format!("{path}: cannot {what} at {offset}: the file is shorter than the volume");
            return Fault::caused(Kind::Io, context, error);
        }
        let context = format!("{path}: cannot {what} at {offset}");
        match error.raw_os_error() {
            // Names of kinds that a client must not take for its own mistake.
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::EINVAL | libc::EBUSY) => {
                Fault::caused(Kind::Io, context, error)
            }
            _ => Fault::io(context, error),
        }
    }
}

/// Whether a durable write of the page cache may have failed for the sake of earlier ones.
fn lost_writes(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// lseek(2) SEEK_HOLE and SEEK_DATA over `start..end`.
fn map_holes(file: &OwnedFd, start: u64, end: u64, extents_max: usize) -> io::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = start;
    while at < end && extents.len() < extents_max {
        let data = seek(file, at, Whence::SeekData)?.map_or(end, |data| data.min(end));
        if data > at {
            extents.push(Extent { length: data - at, flags: STATE_HOLE | STATE_ZERO });
            at = data;
            continue;
        }
        let hole = seek(file, at, Whence::SeekHole)?.map_or(end, |hole| hole.min(end));
        // A writer may have filled or punched it between the two calls; never stand still.
        let hole = hole.max(at + 1);
        extents.push(Extent { length: hole - at, flags: 0 });
        at = hole;
    }
    Ok(extents)
}

/// `None`: nothing of the kind up to the end of the file.
fn seek(file: &OwnedFd, at: u64, whence: Whence) -> io::Result<Option<u64>> {
    match lseek(file, at as i64, whence) {
        Ok(found) => Ok(Some(found as u64)),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
