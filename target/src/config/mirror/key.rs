//! The key that all nodes share, read from a file that only its owner can read.
//!
//! Its one rule: it is never printed.

use std::path::Path;
use std::sync::Arc;

use crate::config::mistake::Wrong;
use crate::config::private::first_line;

const BYTES_MIN: usize = 32;
const BYTES_MAX: usize = 1024;

/// The first line of the file at `path`, blanks at its ends left out.
pub fn read(path: &Path) -> Result<Arc<[u8]>, Wrong> {
    let line = first_line(path, "key")?;
    let key = line.trim().as_bytes();
    if !(BYTES_MIN..=BYTES_MAX).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        let shown = path.display();
        let cause = format!(
            "the key file {shown} holds no key of {BYTES_MIN} to {BYTES_MAX} printable characters in its first line"
        );
        let remedy = format!(
            "make one (head -c 32 /dev/urandom | base64 > {shown}) and copy it to every node: all need the same"
        );
        return Err(Wrong::new(cause, remedy));
    }
    Ok(key.into())
}
