//! What is attached, for `status`, `detach` and a supervisor that comes later: a file for each device or FUSE folder,
//! in /run/ringsan-nbd (or $RINGSAN_NBD_STATE).
//!
//! Its one rule: a file says what was true; sysfs and the lock say whether it still is. A process that watches an
//! attachment holds a lock on NAME.lock as long as it lives.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::nodes::Common;
use crate::error::{Error, Kind};

const ATTEMPTS: u32 = 10;

/// Something that was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The device, or the file that FUSE shows.
    pub device: PathBuf,
    /// To whom, as it was asked for.
    pub uri: String,
    /// The process that attached it; sysfs must still name it.
    pub pid: u32,
    /// What it is.
    pub export: Common,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Connections to each host.
    pub connections_each: usize,
    /// How long a request may take before it counts as lost, at first; 0 for a file.
    pub timeout_ms: u64,
    /// Whether that may grow when a server is only slow.
    pub elastic: bool,
    /// Whether lost connections were to be dialed again.
    pub persist: bool,
    /// The connections that were handed to the kernel.
    pub connections: Vec<Connection>,
}

/// One connection of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The host, as the URI names it.
    pub host: String,
    /// Our end, to find it among the machine's connections.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// Whether it was alive when this was written.
    pub live: bool,
    /// Since when it has been so: seconds since 1970.
    pub since: u64,
}

/// The folder of such files.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

impl Default for StateFolder {
    fn default() -> StateFolder {
        let named = std::env::var_os("RINGSAN_NBD_STATE").map(PathBuf::from);
        StateFolder(named.unwrap_or_else(|| PathBuf::from("/run/ringsan-nbd")))
    }
}

impl StateFolder {
    /// This folder instead of the usual one.
    pub fn at(path: impl Into<PathBuf>) -> StateFolder {
        StateFolder(path.into())
    }

    /// Writes what is attached as `name`.
    pub(super) fn save(&self, name: &str, attachment: &Attachment) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(attachment).expect("names, numbers and texts are JSON");
        let write = || {
            fs::create_dir_all(&self.0)?;
            let new = self.path(name, "new");
            fs::write(&new, text)?;
            fs::rename(&new, self.path(name, "json"))
        };
        write().map_err(|error| self.failed(error))
    }

    /// What was attached as `name`.
    pub fn load(&self, name: &str) -> Option<Attachment> {
        let text = fs::read_to_string(self.path(name, "json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Everything there is: names and attachments.
    pub fn all(&self) -> Vec<(String, Attachment)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let paths =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        let names = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        let mut all: Vec<_> = names.filter_map(|name| Some((name.clone(), self.load(&name)?))).collect();
        all.sort_by(|a, b| a.1.device.cmp(&b.1.device));
        all
    }

    /// Forgets it.
    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path(name, "json"));
    }

    /// Says that this process watches `name` until the lock is dropped; `None` if another one does.
    pub(super) fn watch(&self, name: &str) -> Result<Option<WatchLock>, Error> {
        let open = || {
            fs::create_dir_all(&self.0)?;
            File::create(self.path(name, "lock"))
        };
        let file = open().map_err(|error| self.failed(error))?;
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Some(WatchLock(file))),
                // it may only be somebody who looks whether there is a lock
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => return Err(self.failed(error)),
            }
        }
        Ok(None)
    }

    /// Whether a process watches `name`.
    pub fn is_watched(&self, name: &str) -> bool {
        let Ok(file) = File::open(self.path(name, "lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.0.join(format!("{name}.{extension}"))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::caused(Kind::Local, format!("the state in {} cannot be written", self.0.display()), error)
            .remedy("be root, or name another folder in RINGSAN_NBD_STATE")
    }
}

/// As long as it lives, this process is the one that watches.
#[derive(Debug)]
pub(super) struct WatchLock(#[expect(dead_code, reason = "held, not used")] File);

/// The name under which a FUSE folder's attachment is kept.
pub(super) fn fuse_name(folder: &Path) -> String {
    let path = folder.display().to_string();
    format!("fuse{}", path.replace('%', "%25").replace('-', "%2d").replace('/', "-"))
}

/// Seconds since 1970.
pub(super) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        let flags = wire::nbd::transmission::TransmissionFlags::from_bits(0x1ff);
        let uuid = Some(uuid::Uuid::from_u128(5));
        let export = Common { size_bytes: 1 << 20, uuid, flags, block_min: 1, payload_max: 1 << 25 };
        let connection = Connection {
            host: "a:10809".into(),
            local: "127.0.0.1:5000".into(),
            remote: "127.0.0.1:10809".into(),
            live: true,
            since: 7,
        };
        Attachment {
            device: "/dev/nbd0".into(),
            uri: "nbd://a/db".into(),
            pid: 12,
            export,
            read_only: false,
            connections_each: 1,
            timeout_ms: 900,
            elastic: true,
            persist: true,
            connections: vec![connection],
        }
    }

    #[test]
    fn what_was_saved_is_loaded_until_it_is_forgotten() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::at(scratch.path().join("made/when/needed"));
        assert!(folder.all().is_empty());
        folder.save("nbd0", &attachment()).expect("saved");
        assert_eq!(folder.all(), [("nbd0".to_owned(), attachment())]);
        folder.forget("nbd0");
        assert!(folder.load("nbd0").is_none());
    }

    #[test]
    fn only_one_can_watch_and_others_see_it() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::at(scratch.path());
        assert!(!folder.is_watched("nbd0"));
        let lock = folder.watch("nbd0").expect("a lock");
        assert!(lock.is_some() && folder.is_watched("nbd0"));
        assert!(folder.watch("nbd0").expect("an answer").is_none());
        drop(lock);
        assert!(!folder.is_watched("nbd0"));
    }

    #[test]
    fn folders_have_different_names() {
        let names = ["/a/b", "/a-b", "/a%2db", "/a%b"].map(|folder| fuse_name(Path::new(folder)));
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| !name.contains('/')));
    }
}
