//! What a start has made so far, taken back when the start fails.
//!
//! Its one rule: it removes only what it was told this process made, files first, and folders only when
//! they are empty.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// Removes what was noted when it is dropped, unless `keep` was called.
#[derive(Default)]
pub struct Undo {
    made: Vec<Made>,
}

enum Made {
    File(PathBuf),
    Folder(PathBuf),
}

impl Undo {
    /// Makes `folder` and what is missing above it.
    pub fn make_folder(&mut self, folder: &Path) -> Result<(), Fault> {
        let missing: Vec<_> = folder.ancestors().take_while(|part| !is_here(part)).collect();
        for part in missing.into_iter().rev() {
            fs::create_dir(part).map_err(|error| {
                Fault::io(
                    format!("the folder {} cannot be made; make it, or choose another", part.display()),
                    error,
                )
            })?;
            self.made.push(Made::Folder(part.to_owned()));
        }
        Ok(())
    }

    /// This process is making the file at `path`.
    pub fn note_file(&mut self, path: &Path) {
        self.made.push(Made::File(path.to_owned()));
    }

    /// All is well: what was made stays.
    pub fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for made in self.made.drain(..).rev() {
            let removed = match &made {
                Made::File(path) => fs::remove_file(path),
                Made::Folder(path) => fs::remove_dir(path),
            };
            if let (Err(error), Made::File(path) | Made::Folder(path)) = (removed, &made)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "what a failed start made is left behind");
            }
        }
    }
}

fn is_here(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}
