//! Secrets in files of their own: the first line of a file that nobody but its owner can read.
//!
//! Its one rule: a file that others can read is refused, whatever is in it.

use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::mistake::Wrong;

/// The first line of the file at `path`; `what` is what stands there, for people: `token`.
pub fn first_line(path: &Path, what: &str) -> Result<String, Wrong> {
    let shown = path.display();
    let unreadable = |error| {
        Wrong::new(format!("the {what} file {shown} cannot be read: {error}"), "name a readable file")
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let remedy = format!("name the file in which the {what} stands");
        return Err(Wrong::new(format!("{shown} is no file"), remedy));
    }
    if let Some(mode) = open_to_others(&metadata) {
        let cause = format!("the {what} file {shown} can be read by others (mode {mode:03o})");
        return Err(Wrong::new(cause, format!("run: chmod 600 {shown}")));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The mode of a file that others than its owner can do something with.
pub fn open_to_others(metadata: &Metadata) -> Option<u32> {
    Some(metadata.permissions().mode() & 0o777).filter(|mode| mode & 0o077 != 0)
}
