//! A small file that a unit keeps across restarts: replaced whole and durably, or left as it was.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use reactor::sync::{Gate, one_shot};
use reactor::{Core, io as verbs};

use crate::fault::{Fault, Kind};

/// More than any unit saves.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// One file.
pub struct SavedFile {
    core: Core,
    path: PathBuf,
    /// Replacements take turns, in the order of asking.
    turn: Rc<Gate>,
}

impl SavedFile {
    /// The file at `path`, which need not exist, nor its folder.
    pub fn new(core: &Core, path: PathBuf) -> SavedFile {
        SavedFile { core: core.clone(), path, turn: Gate::new(1) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved last, if anything.
    pub async fn load(&self) -> Result<Option<Vec<u8>>, Fault> {
        let read: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let (path, out) = (self.path.clone(), read.clone());
        let call = move || {
            *out.lock().unwrap_or_else(PoisonError::into_inner) = read_whole(&path)?;
            Ok(0)
        };
        verbs::blocking(call).await.map_err(|error| {
            Fault::caused(Kind::Io, format!("the file {} cannot be read", self.path.display()), error)
        })?;
        Ok(read.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Keeps `contents`; when this returns without a fault they have reached the disk.
    pub async fn replace(&self, contents: Vec<u8>) -> Result<(), Fault> {
        let path = self.path.clone();
        self.in_turn(move || write_whole(&path, &contents)).await
    }

    /// Forgets what was saved.
    pub async fn remove(&self) -> Result<(), Fault> {
        let path = self.path.clone();
        self.in_turn(move || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_folder(&path),
        })
        .await
    }

    /// On a task of its own: a turn that has begun must not end before its call does, whoever stops waiting.
    async fn in_turn(&self, call: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Fault> {
        let (giver, taker) = one_shot();
        let turn = self.turn.clone();
        // The place in the queue is taken at the first poll, which `spawn` does at once.
        self.core.spawn(async move {
            let _permit = turn.enter(1).await;
            giver.give(verbs::blocking(move || call().map(|()| 0)).await);
        });
        let result = taker.await.unwrap_or_else(|| Err(io::Error::other("the core is ending")));
        result.map(drop).map_err(|error| {
            let context = format!(
                "{} cannot be replaced; see that its folder is writable and has room",
                self.path.display()
            );
            Fault::caused(Kind::Io, context, error)
        })
    }
}

fn read_whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut whole = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut whole)?;
    Ok(Some(whole))
}

fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
