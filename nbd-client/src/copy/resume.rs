//! Whether and how an interrupted copy goes on: where its state is, and whether it still fits.
//!
//! Its one rule: a state is only believed after samples of what it says is copied were read on both sides and
//! were the same.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Resume;
use super::ledger::{Ledger, Saved};
use super::open::Opened;
use crate::{Error, Kind, runtime};

/// So many places are compared.
const SAMPLES: usize = 32;
/// So long each.
const SAMPLE_BYTES: u64 = 64 << 10;

/// Where the state is kept; and a lock, while it lives, against other copies to the same export.
pub(super) fn state_path(
    destination: &Opened,
    named: Option<&Path>,
) -> Result<(PathBuf, Option<Lock>), Error> {
    let path = match (named, destination.regular()) {
        (Some(path), _) => path.to_owned(),
        (None, Some((_, path))) => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".ringsan-copy");
            return Ok((beside.into(), None));
        }
        (None, None) => state_folder()?.join(file_name(&destination.identity.place)),
    };
    let locked = match destination.is_export() {
        true => Some(Lock::take(&path, &destination.identity.place)?),
        false => None,
    };
    Ok((path, locked))
}

/// A locked file beside the state, which is removed in the end.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(state: &Path, place: &str) -> Result<Lock, Error> {
        let mut path = state.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = File::create(&path).map_err(|error| cannot_write(&path, error))?;
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                let what = format!("{place} is in use: another copy writes it");
                return Err(Error::new(Kind::Busy, what).remedy("wait for it to end"));
            }
            // whoever had it may have removed it between the two calls
            if file.metadata().ok().map(|facts| facts.ino())
                == fs::metadata(&path).ok().map(|facts| facts.ino())
            {
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // still locked: nobody else has it
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes over the earlier copy's state into `ledger` if there is one, it is wanted, and it fits.
pub(super) fn decide(
    wish: Resume,
    ledger: &mut Ledger,
    sides: (&Opened, &Opened),
    remark: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    if wish == Resume::Never {
        return Ok(());
    }
    let fresh = ledger.clone();
    let Some(reason) = obstacle(ledger, sides)? else {
        let (done, all) = (ledger.copied_bytes(), sides.0.identity.size_bytes);
        remark(&match done {
            0 => "an earlier copy was interrupted before anything was done: it begins anew".to_owned(),
            _ => format!("an earlier copy was interrupted: goes on with {done} of {all} bytes copied"),
        });
        return Ok(());
    };
    *ledger = fresh;
    if wish == Resume::Demand {
        return Err(Error::new(Kind::Changed, format!("the copy cannot go on: {reason}"))
            .remedy("leave --resume=always away to begin again"));
    }
    if ledger.path().exists() {
        remark(&format!("an earlier copy was interrupted, and this one begins again: {reason}"));
    }
    Ok(())
}

/// Writes the state, for the copy that goes on.
pub(super) fn save(saved: &Saved, path: &Path) -> Result<(), Error> {
    saved.save(path).map_err(|error| cannot_write(path, error))
}

/// The copy has come to its end.
pub(super) fn forget(path: &Path) {
    // a state that stays is found out by the next copy
    let _ = fs::remove_file(path);
}

/// Takes over the earlier copy's state; else says why that cannot be.
fn obstacle(ledger: &mut Ledger, sides: (&Opened, &Opened)) -> Result<Option<String>, Error> {
    let saved = match Saved::load(ledger.path()) {
        Ok(Some(saved)) => saved,
        Ok(None) => return Ok(Some(format!("{} does not exist", ledger.path().display()))),
        Err(error) => return Ok(Some(format!("{} cannot be read: {error}", ledger.path().display()))),
    };
    if let Err(reason) = ledger.resume(&saved) {
        return Ok(Some(reason));
    }
    let differing = first_difference(ledger, sides)?;
    Ok(differing.map(|offset| format!("one side has changed since, at byte {offset}")))
}

/// Where samples of what is said to be copied are not.
fn first_difference(
    ledger: &Ledger,
    (source, destination): (&Opened, &Opened),
) -> Result<Option<u64>, Error> {
    let copied: Vec<usize> = ledger.copied().collect();
    let chosen = copied.iter().step_by(copied.len().div_ceil(SAMPLES).max(1));
    runtime::block_on(async {
        let (source, destination) = (source.side().await?, destination.side().await?);
        let mut differing = None;
        for range in chosen.map(|index| ledger.range(*index)) {
            let length = (range.end - range.start).min(SAMPLE_BYTES) as usize;
            let ours = source.read(range.start, vec![0; length]).await?;
            if destination.read(range.start, vec![0; length]).await? != ours {
                differing = Some(range.start);
                break;
            }
        }
        source.close().await;
        destination.close().await;
        Ok(differing)
    })
}

fn state_folder() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    let folder = base.unwrap_or_else(|| "/var/lib".into()).join("ringsan-nbd");
    fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, error))?;
    Ok(folder)
}

/// A name for people, made unambiguous by a checksum.
fn file_name(place: &str) -> String {
    let readable: String =
        place.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).take(64).collect();
    format!("copy-{readable}-{:08x}", crc32c::crc32c(place.as_bytes()))
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    let what = format!("{}, which says how far a copy is, cannot be written", path.display());
    Error::caused(Kind::Local, what, error).remedy("name another place with --state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_look_alike_have_different_files() {
        let (a, b) = (file_name("nbd://host/a/b"), file_name("nbd://host/a-b"));
        assert_ne!(a, b);
        assert!(a.starts_with("copy-nbd---host-a-b-"), "{a}");
        assert!(file_name(&"x".repeat(1000)).len() < 100);
    }
}
