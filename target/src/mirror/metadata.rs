//! The metadata file of a replica: read on the control thread, written on the core.
//!
//! A replica in memory ends with the process. Of its metadata only the promise outlives it, so that a node which has
//! come back without its bytes breaks no word that it gave (rule 4).
//! Its one rule: a write is reported when it is durable.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use nix::unistd::{Whence, lseek};
use reactor::{Core, Handle, Path as IoPath, io as verbs};
use replication::disk::{self, CHUNK_BYTES, Identity, Layout, Reader, Writer};
use replication::{Geometry, MetadataRecord, NodeId, ReplicaId, Stored};

use super::REGION_BYTES;
use crate::fault::{Fault, Kind};
use crate::sabotage::Sabotage;
use crate::settings::{Backing, VolumeSettings};

/// A replica's metadata, read and ready for its core.
pub struct OpenMetadata {
    file: OwnedFd,
    stored: Stored,
    writer: Writer,
    is_promise_only: bool,
}

/// What was read, before it is known where it is to be written.
pub struct MetadataContent {
    stored: Stored,
    writer: Writer,
    is_promise_only: bool,
}

/// The same on its core.
pub struct Metadata {
    core: Core,
    file: Handle,
    writer: RefCell<Writer>,
    is_promise_only: bool,
}

/// Opens the metadata of a mirrored volume of `size_bytes`, made if it is not there. Blocks: never on a core.
pub fn open_metadata(settings: &Arc<VolumeSettings>, size_bytes: u64) -> Result<OpenMetadata, Fault> {
    let mirror = settings.mirror.as_ref().expect("called for mirrored volumes only");
    let path = &mirror.metadata;
    let failed = |what: &str| failed(settings, path, what);
    let file = open_file(path).map_err(failed("opened"))?;
    let length = file.metadata().map_err(failed("read"))?.len();
    let read = |offset, chunk: &mut [u8]| {
        let is_hole = is_hole(&file, offset);
        if !is_hole {
            file.read_exact_at(chunk, offset)?;
        }
        Ok(!is_hole)
    };
    let make = |head: &[u8], length| make(&file, path, head, length);
    let content = open_content(settings, size_bytes, length, read, make)?;
    Ok(content.in_file(file.into()))
}

/// The same wherever the bytes come from: `length` of them, by `read` in chunks (`false` for one that was never
/// written). `make` is to write a new head, at the front of a file of that length.
pub fn open_content(
    settings: &Arc<VolumeSettings>,
    size_bytes: u64,
    length: u64,
    read: impl FnMut(u64, &mut [u8]) -> std::io::Result<bool>,
    make: impl FnOnce(&[u8], u64) -> std::io::Result<()>,
) -> Result<MetadataContent, Fault> {
    let mirror = settings.mirror.as_ref().expect("called for mirrored volumes only");
    let path = &mirror.metadata;
    let failed = |what: &str| failed(settings, path, what);
    let geometry = Geometry { size_bytes, region_bytes: REGION_BYTES };
    let identity =
        Identity { node: NodeId(*mirror.node.as_bytes()), replica: ReplicaId(mirror.own as u8), geometry };
    let replicas = mirror.replicas.len();
    let is_promise_only = settings.backing == Backing::Memory;
    let (mut stored, writer) = match read_all(&identity, replicas, length, read) {
        Ok(opened) => {
            for damage in &opened.damages {
                tracing::warn!(volume = settings.name, path = %path.display(), "{damage}");
            }
            (opened.stored, opened.writer)
        }
        Err(Trouble::Content(disk::ReadError::NotFormatted)) => {
            let layout = Layout::new(&geometry, replicas);
            let mut head = Vec::new();
            let writer = disk::format(&identity, &mut head);
            make(&head, layout.file_bytes()).map_err(failed("made"))?;
            (Stored::default(), writer)
        }
        Err(Trouble::Content(error)) => {
            let context = format!("volume {}: {}", settings.name, path.display());
            return Err(Fault::caused(Kind::Conflict, context, error));
        }
        Err(Trouble::Io(error)) => return Err(failed("read")(error)),
    };
    if is_promise_only {
        stored = promise_of(stored);
    }
    Ok(MetadataContent { stored, writer, is_promise_only })
}

fn failed(
    settings: &VolumeSettings,
    path: &Path,
    what: &str,
) -> impl FnOnce(std::io::Error) -> Fault + use<> {
    let context = format!("the metadata of volume {}, {}, cannot be {what}", settings.name, path.display());
    move |error| Fault::io(context, error)
}

enum Trouble {
    Io(std::io::Error),
    Content(disk::ReadError),
}

fn open_file(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_all(
    identity: &Identity,
    replicas: usize,
    length: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<bool>,
) -> Result<disk::Opened, Trouble> {
    let mut reader = Reader::new(identity, replicas, length).map_err(Trouble::Content)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Some(offset) = reader.wants() {
        let is_there = offset < length && read(offset, &mut chunk).map_err(Trouble::Io)?;
        reader.take(is_there.then_some(&chunk)).map_err(Trouble::Content)?;
    }
    Ok(reader.finish())
}

fn is_hole(file: &File, offset: u64) -> bool {
    match lseek(file, offset as i64, Whence::SeekData) {
        Ok(data) => data as u64 >= offset + CHUNK_BYTES as u64,
        Err(error) => error == nix::errno::Errno::ENXIO,
    }
}

fn make(file: &File, path: &Path, head: &[u8], length: u64) -> std::io::Result<()> {
    file.set_len(0)?;
    file.set_len(length)?;
    file.write_all_at(head, 0)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// What a replica whose bytes are gone still knows.
fn promise_of(stored: Stored) -> Stored {
    let superblock = stored.superblock.map(|superblock| replication::Superblock {
        volume: None,
        record: None,
        in_force: false,
        history: replication::History::default(),
        full: replication::ReplicaSet::EMPTY,
        mixed: false,
        ..superblock
    });
    Stored { superblock, ..Stored::default() }
}

impl MetadataContent {
    /// It was read from this file, which is open for writing.
    pub fn in_file(self, file: OwnedFd) -> OpenMetadata {
        let MetadataContent { stored, writer, is_promise_only } = self;
        OpenMetadata { file, stored, writer, is_promise_only }
    }
}

impl OpenMetadata {
    /// Brings it to its core.
    pub fn attach(self, core: &Core) -> (Rc<Metadata>, Stored) {
        let OpenMetadata { file, stored, writer, is_promise_only } = self;
        let file = core.adopt(file, IoPath::Ring);
        (
            Rc::new(Metadata { core: core.clone(), file, writer: RefCell::new(writer), is_promise_only }),
            stored,
        )
    }
}

impl Metadata {
    /// Writes a record. Of one record the machine has one write under way.
    pub async fn write(&self, record: &MetadataRecord) -> Result<(), Fault> {
        if self.is_promise_only && !matches!(record, MetadataRecord::Superblock(_)) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let offset = self.writer.borrow_mut().encode(record, &mut bytes);
        let mut buffer = self.core.arena().take_now(bytes.len());
        buffer.bytes_mut().copy_from_slice(&bytes);
        let durable = !Sabotage::MetadataInCache.is_on();
        let result = verbs::write(&self.file, buffer.into_view(0, bytes.len()), offset, durable).await;
        result.map_err(|error| Fault::io("the replica's metadata cannot be written; this copy is out", error))
    }
}
