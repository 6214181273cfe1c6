//! What a node remembers across restarts: its UUID, and a record of each volume it ever named.
//!
//! ```text
//! STATE_DIR/lock                held (flock) by the running node
//! STATE_DIR/node.toml           uuid = "…"
//! STATE_DIR/volumes/UUID.toml   uuid, owner = "config" | "api", and [volume] as the admin API has it
//! STATE_DIR/mirror/             of replicas: see `replica.rs`
//! ```
//! Its one rule: a file is replaced whole (temporary file, fsync, rename, fsync of the folder), so that a
//! crash leaves the old or the new one.

mod replica;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::volume::VolumeSpec;
use crate::fault::{Fault, Kind};
use crate::undo::Undo;

pub use replica::ReplicaFiles;

/// Who decides about a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The configuration or the command line: it is served while it is declared there.
    Config,
    /// The admin API: it is served until it is removed there.
    Api,
}

/// What is remembered of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its identity.
    pub uuid: Uuid,
    /// Who decides about it.
    pub owner: Owner,
    /// As it was last served.
    pub volume: VolumeSpec,
}

/// The state directory of a running node.
pub struct State {
    folder: PathBuf,
    node_uuid: Uuid,
    records: BTreeMap<String, Record>,
    _lock: Flock<File>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRecord {
    uuid: Uuid,
}

impl State {
    /// Takes the directory for this process, made if need be; what was made is noted in `undo`.
    pub fn open(folder: &Path, undo: &mut Undo) -> Result<State, Fault> {
        undo.make_folder(folder)?;
        let lock = lock(folder, undo)?;
        undo.make_folder(&folder.join("volumes"))?;
        let records = read_records(&folder.join("volumes"))?;
        let node_path = folder.join("node.toml");
        let node_uuid = match fs::read_to_string(&node_path) {
            Ok(text) => parsed::<NodeRecord>(&node_path, &text)?.uuid,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let uuid = Uuid::new_v4();
                undo.note_file(&node_path);
                replace(&node_path, &toml_text(&NodeRecord { uuid }))?;
                uuid
            }
            Err(error) => {
                return Err(Fault::io(
                    format!("the state file {} cannot be read", node_path.display()),
                    error,
                ));
            }
        };
        Ok(State { folder: folder.to_owned(), node_uuid, records, _lock: lock })
    }

    /// The node's identity.
    pub fn node_uuid(&self) -> Uuid {
        self.node_uuid
    }

    /// The files of the replica of a mirrored volume.
    pub fn replica_files(&self, uuid: Uuid) -> ReplicaFiles {
        ReplicaFiles::new(&self.folder, uuid)
    }

    /// What is remembered of the volume of this name.
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// The volumes that the admin API made.
    pub fn api_volumes(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| record.owner == Owner::Api)
    }

    /// The identity of the volume of this name, new if it was never seen, or had replicas, which have another.
    pub fn uuid_of(&self, name: &str) -> Uuid {
        let known = self.records.get(name).filter(|record| record.volume.replicas.is_empty());
        known.map_or_else(Uuid::new_v4, |record| record.uuid)
    }

    /// Remembers a volume, durably, in the place of another of its name.
    pub fn put(&mut self, record: Record) -> Result<(), Fault> {
        let name = record.volume.name.clone();
        let before = self.records.get(&name).cloned();
        if before.as_ref() == Some(&record) {
            return Ok(());
        }
        if before.is_some_and(|before| before.uuid != record.uuid) {
            self.forget(&name)?;
        }
        replace(&self.path_of(record.uuid), &toml_text(&record))?;
        self.records.insert(name, record);
        Ok(())
    }

    /// Notes the file that `put` is about to make for a volume that is not known yet.
    pub fn note_new(&self, record: &Record, undo: &mut Undo) {
        if self.record(&record.volume.name).is_none() {
            undo.note_file(&self.path_of(record.uuid));
        }
    }

    /// Forgets a volume, durably.
    pub fn forget(&mut self, name: &str) -> Result<(), Fault> {
        let Some(record) = self.records.remove(name) else { return Ok(()) };
        let path = self.path_of(record.uuid);
        fs::remove_file(&path)
            .and_then(|()| sync_folder(&self.folder.join("volumes")))
            .map_err(|error| Fault::io(format!("the state file {} cannot be removed", path.display()), error))
    }

    fn path_of(&self, uuid: Uuid) -> PathBuf {
        self.folder.join("volumes").join(format!("{uuid}.toml"))
    }
}

fn lock(folder: &Path, undo: &mut Undo) -> Result<Flock<File>, Fault> {
    let path = folder.join("lock");
    if !path.exists() {
        undo.note_file(&path);
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(
        |error| Fault::io(format!("{} cannot be opened; choose another --state-dir", path.display()), error),
    )?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, _)| {
        let mut owner = String::new();
        let _ = file.read_to_string(&mut owner);
        let context = format!(
            "the state directory {} is in use by another node (process {}); stop it, or choose another --state-dir",
            folder.display(),
            owner.trim()
        );
        Fault::new(Kind::Conflict, context)
    })?;
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| Fault::io(format!("{} cannot be written", path.display()), error))?;
    Ok(lock)
}

fn read_records(folder: &Path) -> Result<BTreeMap<String, Record>, Fault> {
    let unreadable =
        |error| Fault::io(format!("the state directory {} cannot be read", folder.display()), error);
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| Fault::io(format!("the state file {} cannot be read", path.display()), error))?;
        let record: Record = parsed(&path, &text)?;
        if let Some(other) = records.get(&record.volume.name) {
            let context = format!(
                "the state directory has two records of volume `{}`: {} and {}; move one of them away",
                other.volume.name, other.uuid, record.uuid
            );
            return Err(Fault::new(Kind::Conflict, context));
        }
        records.insert(record.volume.name.clone(), record);
    }
    Ok(records)
}

fn parsed<T: for<'de> Deserialize<'de>>(path: &Path, text: &str) -> Result<T, Fault> {
    toml::from_str(text).map_err(|error| {
        let context = format!(
            "the state file {} is damaged ({}); restore it from a backup, or move it away to begin anew",
            path.display(),
            error.message()
        );
        Fault::new(Kind::Io, context)
    })
}

fn toml_text<T: Serialize>(value: &T) -> String {
    toml::to_string(value).expect("records have no value that TOML lacks")
}

fn replace(path: &Path, text: &str) -> Result<(), Fault> {
    let temporary = path.with_extension("new");
    let folder = path.parent().expect("a state file lies in a folder");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Fault::io(format!("the state file {} cannot be written", path.display()), error)
    })
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, owner: Owner) -> Record {
        let volume = VolumeSpec { name: name.into(), size_bytes: Some(1 << 30), ..VolumeSpec::default() };
        Record { uuid: Uuid::new_v4(), owner, volume }
    }

    fn open(folder: &Path) -> Result<State, Fault> {
        let mut undo = Undo::default();
        let state = State::open(folder, &mut undo);
        undo.keep();
        state
    }

    #[test]
    fn records_and_identities_survive_a_restart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("state");
        let mut state = open(&folder).expect("opened");
        let (node, made) = (state.node_uuid(), record("größe/1", Owner::Api));
        state.put(made.clone()).expect("put");
        state.put(record("other", Owner::Config)).expect("put");
        drop(state);
        let mut state = open(&folder).expect("opened again");
        assert_eq!(state.node_uuid(), node);
        assert_eq!(state.api_volumes().collect::<Vec<_>>(), [&made]);
        assert_eq!(state.uuid_of("größe/1"), made.uuid);
        state.forget("größe/1").expect("forgotten");
        drop(state);
        assert_ne!(open(&folder).expect("opened again").uuid_of("größe/1"), made.uuid);
    }

    #[test]
    fn a_volume_that_has_no_replicas_any_more_is_another_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut state = open(directory.path()).expect("opened");
        let mut mirrored = record("db", Owner::Config);
        mirrored.volume.replicas = vec!["a".into(), "b".into()];
        state.put(mirrored.clone()).expect("put");
        assert_ne!(state.uuid_of("db"), mirrored.uuid);
        drop(state);
        assert_eq!(open(directory.path()).expect("opened again").record("db"), Some(&mirrored));
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let _state = open(directory.path()).expect("opened");
        let error = open(directory.path()).err().expect("refused");
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a_start_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let folder = directory.path().join("a/state");
        let mut undo = Undo::default();
        drop(State::open(&folder, &mut undo).expect("opened"));
        assert!(folder.join("node.toml").exists());
        drop(undo);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_damaged_record_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        drop(open(directory.path()).expect("opened"));
        fs::write(directory.path().join("volumes/x.toml"), "uuid = 5").expect("written");
        let error = open(directory.path()).err().expect("refused").to_string();
        assert!(error.contains("volumes/x.toml is damaged"), "{error}");
    }
}
