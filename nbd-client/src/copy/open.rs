//! Opens both sides of a copy and says what they are, before anything is changed.
//!
//! Its one rule: nothing that existed is written here; a missing destination is made empty.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::ledger::Identity;
use super::place::Place;
use super::side::{Local, Side};
use crate::{Client, ConnectOptions, Error, Kind, Uri, runtime};

/// A side of a copy.
pub(super) struct Opened {
    pub(super) identity: Identity,
    /// Reads and writes begin and end at its multiples, except at the end of a file.
    pub(super) block_bytes: u64,
    /// The longest read or write.
    pub(super) transfer_max: u64,
    /// Whether several connections see the same.
    pub(super) can_share: bool,
    is_read_only: bool,
    thing: Thing,
}

enum Thing {
    Regular(File, PathBuf),
    Device(File, PathBuf),
    Export(Box<Uri>, ConnectOptions),
}

impl Opened {
    /// What is to be read.
    pub(super) fn source(place: &Place, options: &ConnectOptions) -> Result<Opened, Error> {
        match place {
            Place::File(path) => {
                let file = File::open(path).map_err(|error| cannot_open(path, error))?;
                // only advice
                let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
                Opened::file(file, path, true)
            }
            Place::Export(uri, text) => Opened::export(uri, text, options),
        }
    }

    /// What is to be written, by nobody else meanwhile.
    pub(super) fn destination(place: &Place, options: &ConnectOptions) -> Result<Opened, Error> {
        match place {
            Place::File(path) => {
                let file = open_to_write(path).map_err(|error| cannot_open(path, error))?;
                lock(&file, path)?;
                Opened::file(file, path, false)
            }
            Place::Export(uri, text) => {
                let opened = Opened::export(uri, text, options)?;
                match opened.is_read_only {
                    true => Err(Error::new(Kind::Request, format!("{text} is read-only"))
                        .remedy("choose another destination")),
                    false => Ok(opened),
                }
            }
        }
    }

    /// The same thing once more, for a worker.
    pub(super) async fn side(&self) -> Result<Side, Error> {
        match &self.thing {
            Thing::Regular(file, path) | Thing::Device(file, path) => {
                let file = file.try_clone().and_then(runtime::File::from_std);
                let file = file.map_err(|error| cannot_open(path, error))?;
                Ok(Side::File(Local::new(file, path.display().to_string())))
            }
            Thing::Export(uri, options) => {
                let options = ConnectOptions { is_further: true, ..options.clone() };
                Ok(Side::Export(Client::connect(uri, &options).await?))
            }
        }
    }

    /// The regular file that it is.
    pub(super) fn regular(&self) -> Option<(&File, &Path)> {
        match &self.thing {
            Thing::Regular(file, path) => Some((file, path)),
            _ => None,
        }
    }

    /// Whether it is an export.
    pub(super) fn is_export(&self) -> bool {
        matches!(self.thing, Thing::Export(..))
    }

    /// Whether both are the same file or device.
    pub(super) fn is_same_as(&self, other: &Opened) -> bool {
        match (&self.thing, &other.thing) {
            (Thing::Regular(a, _), Thing::Regular(b, _)) => same(a, b, |it| (it.dev(), it.ino())),
            (Thing::Device(a, _), Thing::Device(b, _)) => same(a, b, |it| (it.rdev(), 0)),
            (Thing::Export(..), Thing::Export(..)) => self.identity == other.identity,
            _ => false,
        }
    }

    /// A regular file becomes `size_bytes` of nothing; all else stays as it is.
    pub(super) fn empty(&self, size_bytes: u64) -> Result<(), Error> {
        let Some((file, path)) = self.regular() else { return Ok(()) };
        file.set_len(0).and_then(|()| file.set_len(size_bytes)).map_err(|error| {
            let what = format!("{} cannot become {size_bytes} bytes long", path.display());
            Error::caused(Kind::Local, what, error).remedy("choose a file system that has room for it")
        })
    }

    /// What tells the content of a source file now from its content when it was opened.
    pub(super) fn mark_now(&self) -> Option<String> {
        let (file, _) = self.regular()?;
        Some(source_mark(&file.metadata().ok()?))
    }

    fn file(mut file: File, path: &Path, is_source: bool) -> Result<Opened, Error> {
        let facts = file.metadata().map_err(|error| cannot_open(path, error))?;
        let is_device = facts.file_type().is_block_device();
        if !is_device && !facts.is_file() {
            let what = format!("{} is neither a file nor a block device", path.display());
            return Err(Error::new(Kind::Local, what).remedy("name one of these, or an NBD URI"));
        }
        let size_bytes = match is_device {
            true => file.seek(SeekFrom::End(0)).map_err(|error| cannot_open(path, error))?,
            false => facts.len(),
        };
        let mark = match (is_device, is_source) {
            (true, _) => format!("device {}:{}", facts.rdev() >> 8, facts.rdev() & 0xff),
            (false, true) => source_mark(&facts),
            (false, false) => format!("inode {} of {}", facts.ino(), facts.dev()),
        };
        let path = fs::canonicalize(path).map_err(|error| cannot_open(path, error))?;
        let identity = Identity { place: path.display().to_string(), size_bytes, mark };
        let thing = if is_device { Thing::Device(file, path) } else { Thing::Regular(file, path) };
        Ok(Opened {
            identity,
            block_bytes: 1,
            transfer_max: u64::MAX,
            can_share: true,
            is_read_only: false,
            thing,
        })
    }

    fn export(uri: &Uri, text: &str, options: &ConnectOptions) -> Result<Opened, Error> {
        let export = runtime::block_on(async {
            let client = Client::connect(uri, options).await?;
            let export = client.export().clone();
            client.disconnect().await.map(|()| export)
        })?;
        let uuid = export.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
        let mark = format!("export {:?} {uuid}", export.name);
        Ok(Opened {
            identity: Identity { place: text.to_owned(), size_bytes: export.size_bytes, mark },
            block_bytes: u64::from(export.block_sizes.min.max(1)),
            transfer_max: u64::from(export.block_sizes.payload_max),
            can_share: export.can_multi_conn(),
            is_read_only: export.is_read_only(),
            thing: Thing::Export(Box::new(uri.clone()), options.clone()),
        })
    }
}

fn open_to_write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match fs::metadata(path) {
        // refuses what is mounted
        Ok(facts) if facts.file_type().is_block_device() => {
            options.custom_flags(nix::libc::O_EXCL).open(path)
        }
        Ok(_) => options.open(path),
        Err(_) => options.create(true).open(path),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what = format!("{} is in use: another copy writes it, or a server serves it", path.display());
            Err(Error::new(Kind::Busy, what).remedy("wait for the copy, or stop the server"))
        }
        // a file system without locks has none to fear
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn source_mark(facts: &Metadata) -> String {
    format!("inode {} of {}, written {}.{:09}", facts.ino(), facts.dev(), facts.mtime(), facts.mtime_nsec())
}

fn same<K: PartialEq>(a: &File, b: &File, key: impl Fn(&Metadata) -> K) -> bool {
    matches!((a.metadata(), b.metadata()), (Ok(a), Ok(b)) if key(&a) == key(&b))
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (Kind::Local, "check the path, and that its folder exists"),
        io::ErrorKind::PermissionDenied => (Kind::Local, "run this as a user who may open it"),
        io::ErrorKind::ReadOnlyFilesystem => (Kind::Local, "choose a place that can be written"),
        io::ErrorKind::ResourceBusy => (Kind::Busy, "it is mounted or held by another program: release it"),
        io::ErrorKind::IsADirectory => (Kind::Local, "name a file in it"),
        _ => (Kind::Local, "see the kernel's log"),
    };
    Error::caused(kind, format!("{} cannot be opened", path.display()), error).remedy(remedy)
}
