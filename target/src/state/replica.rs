//! What the state directory keeps of this node's replica of a mirrored volume.
//!
//! ```text
//! STATE_DIR/mirror/UUID.meta    its metadata, which its core writes
//! STATE_DIR/mirror/UUID.boot    the boot of this machine since which its copy has been whole
//! ```
//! Its one rule: a boot is noted only for a new copy, or when what an earlier boot may have lost is made good.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{replace, sync_folder};
use crate::fault::Fault;
use crate::undo::Undo;

/// The files of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaFiles {
    folder: PathBuf,
    uuid: Uuid,
}

impl ReplicaFiles {
    /// Of the volume of this UUID.
    pub fn new(state_dir: &Path, uuid: Uuid) -> ReplicaFiles {
        ReplicaFiles { folder: state_dir.join("mirror"), uuid }
    }

    /// Those beside this metadata.
    pub fn beside(metadata: &Path, uuid: Uuid) -> ReplicaFiles {
        ReplicaFiles { folder: metadata.parent().unwrap_or(Path::new("")).to_owned(), uuid }
    }

    /// The metadata.
    pub fn metadata(&self) -> PathBuf {
        self.path("meta")
    }

    /// Makes the folder, and notes what will be made in it.
    pub fn prepare(&self, undo: &mut Undo) -> Result<(), Fault> {
        undo.make_folder(&self.folder)?;
        if !self.metadata().exists() {
            undo.note_file(&self.metadata());
            undo.note_file(&self.path("boot"));
        }
        Ok(())
    }

    /// Whether the copy has been whole since the machine was booted.
    pub fn is_of_this_boot(&self) -> bool {
        let noted = fs::read_to_string(self.path("boot")).ok();
        noted.is_some() && noted.as_deref().map(str::trim) == boot_id().as_deref()
    }

    /// The copy is whole, durably or in the caches of this boot.
    pub fn note_boot(&self) -> Result<(), Fault> {
        match boot_id() {
            Some(boot) => replace(&self.path("boot"), &format!("{boot}\n")),
            None => Ok(()),
        }
    }

    /// The volume is gone from this node.
    pub fn remove(&self) -> Result<(), Fault> {
        for path in [self.path("boot"), self.metadata()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Fault::io(
                        format!("the state file {} cannot be removed", path.display()),
                        error,
                    ));
                }
                _ => {}
            }
        }
        match sync_folder(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Fault::io(format!("the folder {} cannot be made durable", self.folder.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.uuid))
    }
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|boot| boot.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_noted_boot_counts_as_this_one() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let files = ReplicaFiles::new(state.path(), Uuid::new_v4());
        let mut undo = Undo::default();
        files.prepare(&mut undo).expect("prepared");
        undo.keep();
        assert!(!files.is_of_this_boot());
        files.note_boot().expect("noted");
        assert!(files.is_of_this_boot());
        fs::write(files.path("boot"), "another\n").expect("written");
        assert!(!files.is_of_this_boot());
        fs::write(files.metadata(), "metadata").expect("written");
        files.remove().expect("removed");
        assert!(!files.is_of_this_boot() && !files.metadata().exists());
        files.remove().expect("removed already");
    }

    #[test]
    fn a_start_that_fails_leaves_no_new_metadata_and_keeps_old_one() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let old = ReplicaFiles::new(state.path(), Uuid::new_v4());
        let mut undo = Undo::default();
        old.prepare(&mut undo).expect("prepared");
        fs::write(old.metadata(), "metadata").expect("written");
        undo.keep();
        let new = ReplicaFiles::new(state.path(), Uuid::new_v4());
        old.prepare(&mut undo).expect("prepared");
        new.prepare(&mut undo).expect("prepared");
        fs::write(new.metadata(), "metadata").expect("written");
        drop(undo);
        assert!(old.metadata().exists() && !new.metadata().exists());
    }
}
