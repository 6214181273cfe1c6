//! Opening, making, resizing and deleting backings. Blocking: on the control thread only.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use nix::libc;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use reactor::{Core, Path, device};

use crate::fault::{Fault, Kind};
use crate::message::VolumeFacts;
use crate::settings::{Backing, FileCache, VolumeSettings};
use crate::store::file::FileStore;
use crate::store::memory::MemoryStore;
use crate::store::nvme::{self, NvmeStore};
use crate::store::{Store, unsupported};

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// The unit of sizes: NBD clients and kernels know no smaller sector.
const SECTOR_BYTES: u64 = 512;

/// An open store, not yet attached to a core.
pub struct Opened {
    facts: VolumeFacts,
    kind: OpenedKind,
}

enum OpenedKind {
    File {
        path: PathBuf,
        file: Arc<OwnedFd>,
        ring_path: Path,
        is_block_device: bool,
    },
    Nvme {
        path: PathBuf,
        device: OwnedFd,
        held: File,
        namespace: u32,
        transfer_bytes_max: usize,
        polled: bool,
    },
    Memory,
}

impl Opened {
    /// What it turned out to be.
    pub fn facts(&self) -> VolumeFacts {
        self.facts.clone()
    }

    /// A regular file that somebody else has opened, and knows the facts of.
    pub fn of_file(path: PathBuf, file: OwnedFd, ring_path: Path, facts: VolumeFacts) -> Opened {
        Opened {
            facts,
            kind: OpenedKind::File { path, file: Arc::new(file), ring_path, is_block_device: false },
        }
    }

    pub(super) fn attach(self, core: &Core) -> Result<Store, Fault> {
        let facts = self.facts;
        match self.kind {
            OpenedKind::Memory => MemoryStore::new(facts.size_bytes).map(Store::Memory),
            OpenedKind::File { path, file, ring_path, is_block_device } => {
                let fd = file.try_clone().map_err(|error| Fault::io(path.display().to_string(), error))?;
                Ok(Store::File(FileStore {
                    path,
                    handle: core.adopt(fd, ring_path),
                    file,
                    size_bytes: Cell::new(facts.size_bytes),
                    facts,
                    is_block_device,
                    sync_failed: Cell::new(false),
                    no_zero_range: Cell::new(false),
                }))
            }
            OpenedKind::Nvme { path, device, held, namespace, transfer_bytes_max, polled } => {
                let handle = core.adopt(device, nvme::path_for(polled));
                let core = core.clone();
                let size_bytes = Cell::new(facts.size_bytes);
                let _held = held;
                Ok(Store::Nvme(NvmeStore {
                    path,
                    core,
                    handle,
                    _held,
                    namespace,
                    facts,
                    size_bytes,
                    transfer_bytes_max,
                }))
            }
        }
    }
}

/// Opens the backing of `settings`, which must exist (memory is made when attached).
pub fn open(settings: &VolumeSettings) -> Result<Opened, Fault> {
    match &settings.backing {
        Backing::File { path, cache } => open_file(settings, path, *cache),
        Backing::Block { path } => open_block(settings, path),
        Backing::Nvme { path } => open_nvme(settings, path),
        Backing::Memory => open_memory(settings),
    }
}

/// Makes a file backing of the wanted size, sparse. Fails where anything exists at that path; for other
/// backings there is nothing to make.
pub fn create(settings: &VolumeSettings) -> Result<(), Fault> {
    let Backing::File { path, .. } = &settings.backing else { return Ok(()) };
    let size_bytes = settings.size_bytes.ok_or_else(|| {
        Fault::new(Kind::Invalid, format!("{} does not exist; give a size to have it made", path.display()))
    })?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| Fault::io(format!("cannot make {}", path.display()), error))?;
    let made = file.set_len(size_bytes).and_then(|()| file.sync_all());
    made.map_err(|error| {
        let _ = std::fs::remove_file(path);
        Fault::io(format!("cannot make {} of {size_bytes} bytes", path.display()), error)
    })
}

/// Grows or shrinks a file backing; the caller then tells the core. A device must have that size already.
pub fn resize(settings: &VolumeSettings, size_bytes: u64) -> Result<(), Fault> {
    check_size(&settings.name, size_bytes, SECTOR_BYTES)?;
    match &settings.backing {
        Backing::Memory => Ok(()),
        Backing::File { path, .. } => {
            let file = OpenOptions::new().write(true).open(path);
            let resized = file.and_then(|file| file.set_len(size_bytes).and_then(|()| file.sync_all()));
            resized.map_err(|error| Fault::io(format!("cannot resize {}", path.display()), error))
        }
        Backing::Block { path } | Backing::Nvme { path } => {
            let actual = device_size(path)?;
            if actual < size_bytes {
                let context = format!("{} has {actual} bytes; grow the device first", path.display());
                return Err(Fault::new(Kind::Invalid, context));
            }
            Ok(())
        }
    }
}

/// Deletes a file backing. Never touches a device.
pub fn remove(settings: &VolumeSettings) -> Result<(), Fault> {
    let Backing::File { path, .. } = &settings.backing else { return Ok(()) };
    std::fs::remove_file(path).map_err(|error| Fault::io(format!("cannot delete {}", path.display()), error))
}

fn open_memory(settings: &VolumeSettings) -> Result<Opened, Fault> {
    let name = &settings.name;
    let missing =
        || Fault::new(Kind::Invalid, format!("volume {name}: memory needs a size, such as size=1G"));
    let size_bytes = settings.size_bytes.ok_or_else(missing)?;
    check_size(name, size_bytes, SECTOR_BYTES)?;
    let facts = VolumeFacts {
        size_bytes,
        block_bytes: 1,
        preferred_bytes: 4096,
        io_path: "memory".into(),
        io_path_reason: String::new(),
        can_discard: true,
        can_fast_zero: true,
    };
    Ok(Opened { facts, kind: OpenedKind::Memory })
}

fn open_file(settings: &VolumeSettings, path: &FsPath, cache: FileCache) -> Result<Opened, Fault> {
    let probe = open_plain(path, settings.read_only, 0)?;
    let metadata = probe.metadata().map_err(|error| Fault::io(path.display().to_string(), error))?;
    if !metadata.is_file() {
        let context = format!("{} is not a regular file; name its type, such as type=block", path.display());
        return Err(Fault::new(Kind::Invalid, context));
    }
    let size_bytes = wanted_size(settings, path, metadata.len())?;
    let in_memory = fstatfs(&probe).is_ok_and(|fs| matches!(fs.filesystem_type(), TMPFS_MAGIC | RAMFS_MAGIC));
    let mut facts = VolumeFacts {
        size_bytes,
        block_bytes: 1,
        preferred_bytes: (metadata.blksize() as u32).next_power_of_two().clamp(4096, 1 << 20),
        io_path: "io_uring buffered".into(),
        io_path_reason: String::new(),
        can_discard: true,
        can_fast_zero: true,
    };
    let mut file = probe;
    let mut ring_path = Path::Ring;
    match direct(path, settings.read_only, cache, in_memory, size_bytes)? {
        Direct::Yes(direct, block_bytes) => {
            file = direct;
            facts.block_bytes = block_bytes;
            let polled = queue_polls(metadata.dev());
            ring_path = if polled { Path::Polled } else { Path::Ring };
            facts.io_path = if polled { "io_uring O_DIRECT IOPOLL" } else { "io_uring O_DIRECT" }.into();
            if !polled {
                facts.io_path_reason = "the disk under the file has no queues for polling".into();
            }
        }
        Direct::No(reason) => facts.io_path_reason = reason,
    }
    if in_memory {
        ring_path = Path::Immediate;
        facts.io_path = "system calls on memory".into();
    }
    let file = lock(file, path, settings.read_only)?;
    let kind =
        OpenedKind::File { path: path.into(), file: Arc::new(file), ring_path, is_block_device: false };
    Ok(Opened { facts, kind })
}

enum Direct {
    Yes(File, u32),
    No(String),
}

/// The file opened with O_DIRECT, and the alignment that it asks for.
fn direct(
    path: &FsPath,
    read_only: bool,
    cache: FileCache,
    in_memory: bool,
    size: u64,
) -> Result<Direct, Fault> {
    let refuse = |reason: String| match cache {
        FileCache::Direct => Err(Fault::new(
            Kind::Unsupported,
            format!("{}: {reason}; use cache=auto or cache=buffered", path.display()),
        )),
        _ => Ok(Direct::No(reason)),
    };
    if cache == FileCache::Buffered {
        return Ok(Direct::No("buffered as configured".into()));
    }
    if in_memory {
        return refuse("the file system is memory".into());
    }
    let file = match open_plain(path, read_only, libc::O_DIRECT) {
        Ok(file) => file,
        Err(fault) => return refuse(format!("O_DIRECT is refused ({fault})")),
    };
    let block_bytes = match device::direct_alignment(file.as_fd()) {
        Ok(Some(alignment)) => alignment.offset_bytes.max(alignment.memory_bytes),
        // Kernels before 6.1 do not say; a page is enough for all.
        _ => 4096,
    };
    if !block_bytes.is_power_of_two() || block_bytes > 1 << 16 {
        return refuse(format!("O_DIRECT wants blocks of {block_bytes} bytes"));
    }
    if !size.is_multiple_of(block_bytes.into()) {
        return refuse(format!("its size is not a multiple of the disk's {block_bytes}-byte blocks"));
    }
    Ok(Direct::Yes(file, block_bytes))
}

fn open_block(settings: &VolumeSettings, path: &FsPath) -> Result<Opened, Fault> {
    // O_EXCL on a block device fails while it is mounted or held by another driver.
    let file = open_plain(path, settings.read_only, libc::O_DIRECT | libc::O_EXCL)?;
    let metadata = file.metadata().map_err(|error| Fault::io(path.display().to_string(), error))?;
    if !metadata.file_type().is_block_device() {
        return Err(Fault::new(Kind::Invalid, format!("{} is not a block device", path.display())));
    }
    let ask = |error| Fault::io(format!("cannot ask {} for its geometry", path.display()), error);
    let actual = device::block_size_bytes(file.as_fd()).map_err(ask)?;
    let (logical, physical) = device::sector_bytes(file.as_fd()).map_err(ask)?;
    let size_bytes = wanted_device_size(settings, path, actual)?;
    let device = metadata.rdev();
    let polled = queue_polls(device);
    let io_path = if polled { "io_uring O_DIRECT IOPOLL" } else { "io_uring O_DIRECT" };
    let reason = if polled { "" } else { "the device has no queues for polling" };
    let facts = VolumeFacts {
        size_bytes,
        block_bytes: logical,
        preferred_bytes: physical.clamp(4096, 1 << 20),
        io_path: io_path.into(),
        io_path_reason: reason.into(),
        can_discard: queue_number(device, "discard_max_bytes").unwrap_or(0) > 0,
        can_fast_zero: queue_number(device, "write_zeroes_max_bytes").unwrap_or(0) > 0,
    };
    let ring_path = if polled { Path::Polled } else { Path::Ring };
    let file = Arc::new(OwnedFd::from(file));
    Ok(Opened { facts, kind: OpenedKind::File { path: path.into(), file, ring_path, is_block_device: true } })
}

fn open_nvme(settings: &VolumeSettings, path: &FsPath) -> Result<Opened, Fault> {
    let device = open_plain(path, settings.read_only, 0)?;
    let namespace = device::nvme_namespace(device.as_fd());
    let namespace = namespace.map_err(|error| {
        Fault::io(format!("{} is not an NVMe generic character device (/dev/ngXnY)", path.display()), error)
    })?;
    let block_path = block_twin(path)?;
    let held = open_plain(&block_path, true, libc::O_EXCL).map_err(|fault| {
        let advice =
            format!("{} is in use; unmount {} or release it first", path.display(), block_path.display());
        Fault::caused(Kind::Conflict, advice, fault)
    })?;
    let ask = |error| Fault::io(format!("cannot ask {} for its geometry", block_path.display()), error);
    let actual = device::block_size_bytes(held.as_fd()).map_err(ask)?;
    let (logical, physical) = device::sector_bytes(held.as_fd()).map_err(ask)?;
    let size_bytes = wanted_device_size(settings, path, actual)?;
    let number = held.metadata().map_err(ask)?.rdev();
    let polled = queue_polls(number);
    let transfer_bytes_max =
        queue_number(number, "max_hw_sectors_kb").unwrap_or(128).clamp(4, 1024) as usize * 1024;
    let reason = if polled { "" } else { "the driver has no queues for polling (nvme.poll_queues)" };
    let facts = VolumeFacts {
        size_bytes,
        block_bytes: logical,
        preferred_bytes: physical.clamp(4096, 1 << 20),
        io_path: if polled { "NVMe passthrough IOPOLL" } else { "NVMe passthrough" }.into(),
        io_path_reason: reason.into(),
        can_discard: queue_number(number, "discard_max_bytes").unwrap_or(0) > 0,
        can_fast_zero: queue_number(number, "write_zeroes_max_bytes").unwrap_or(0) > 0,
    };
    let device = OwnedFd::from(device);
    let kind = OpenedKind::Nvme { path: path.into(), device, held, namespace, transfer_bytes_max, polled };
    Ok(Opened { facts, kind })
}

fn open_plain(path: &FsPath, read_only: bool, flags: i32) -> Result<File, Fault> {
    let mut options = OpenOptions::new();
    options.read(true).write(!read_only).custom_flags(flags | libc::O_CLOEXEC);
    options.open(path).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "; give a size to have it made",
            io::ErrorKind::PermissionDenied => "; check its owner and mode",
            io::ErrorKind::ResourceBusy => "; it is mounted or held by another program",
            _ => "",
        };
        Fault::io(format!("cannot open {}{advice}", path.display()), error)
    })
}

/// One node at a time: an advisory lock as other storage programs take it. Readers may share.
fn lock(file: File, path: &FsPath, read_only: bool) -> Result<OwnedFd, Fault> {
    let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Ok(()) => Ok(file.into()),
        Err(TryLockError::WouldBlock) => {
            let context = format!("{} is served by another program; stop that one first", path.display());
            Err(Fault::new(Kind::Conflict, context))
        }
        Err(TryLockError::Error(error)) => Err(Fault::io(format!("cannot lock {}", path.display()), error)),
    }
}

fn wanted_size(settings: &VolumeSettings, path: &FsPath, actual: u64) -> Result<u64, Fault> {
    check_size(&settings.name, actual, SECTOR_BYTES)?;
    match settings.size_bytes {
        Some(wanted) if wanted != actual => Err(Fault::new(
            Kind::Conflict,
            format!(
                "{} exists and has {actual} bytes, not {wanted}; leave the size out to serve it as it is, or use \
                 `ringsan volume resize {}`",
                path.display(),
                settings.name
            ),
        )),
        _ => Ok(actual),
    }
}

fn wanted_device_size(settings: &VolumeSettings, path: &FsPath, actual: u64) -> Result<u64, Fault> {
    let wanted = settings.size_bytes.unwrap_or(actual);
    check_size(&settings.name, wanted, SECTOR_BYTES)?;
    if wanted > actual {
        let context = format!("{} has {actual} bytes, less than the {wanted} asked for", path.display());
        return Err(Fault::new(Kind::Invalid, context));
    }
    Ok(wanted)
}

fn check_size(name: &str, size_bytes: u64, unit: u64) -> Result<(), Fault> {
    if size_bytes == 0 || !size_bytes.is_multiple_of(unit) || i64::try_from(size_bytes).is_err() {
        let nearest = (size_bytes.min(i64::MAX as u64 - unit) / unit * unit).max(unit);
        let context = format!(
            "volume {name}: a size of {size_bytes} bytes is not a positive multiple of {unit}; {nearest} is"
        );
        return Err(Fault::new(Kind::Invalid, context));
    }
    Ok(())
}

fn device_size(path: &FsPath) -> Result<u64, Fault> {
    let path = if path.to_string_lossy().contains("/ng") { block_twin(path)? } else { path.into() };
    let device = open_plain(&path, true, 0)?;
    device::block_size_bytes(device.as_fd()).map_err(|error| Fault::io(path.display().to_string(), error))
}

/// `/dev/nvmeXnY` of `/dev/ngXnY`.
fn block_twin(path: &FsPath) -> Result<PathBuf, Fault> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("ng"));
    let name = name.ok_or_else(|| unsupported("be an NVMe namespace: its name is not ngXnY", path))?;
    Ok(path.with_file_name(format!("nvme{name}")))
}

fn queue_polls(device: u64) -> bool {
    queue_number(device, "io_poll") == Some(1)
}

/// A number of the request queue of the disk that `device` is, or is a partition of.
fn queue_number(device: u64, name: &str) -> Option<u64> {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let base = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let text = [base.join("queue"), base.join("../queue")]
        .iter()
        .find_map(|queue| std::fs::read_to_string(queue.join(name)).ok())?;
    text.trim().parse().ok()
}
