//! Clocks of a node that are not its machine's, by libfaketime.
//!
//! Its one rule: what a node's clocks say, the wall's and the monotonic ones alike, changes only when a test says so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Node;
use crate::skip::skip;

const FOLDER: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clocks of one node.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Those that `node`, which does not run, will have. `None` where nobody can change clocks: that has been said.
    pub fn of(node: &mut Node) -> Result<Option<Clock>> {
        let Some(library) = library() else { return Ok(None) };
        let clock = Clock { file: node.folder().join("clock") };
        clock.set("+0")?;
        let file = clock.file.display().to_string();
        node.change(|launch| {
            let launch =
                launch.environment("LD_PRELOAD", &library).environment("FAKETIME_TIMESTAMP_FILE", &file);
            launch.environment("FAKETIME_CACHE_DURATION", "1")
        });
        Ok(Some(clock))
    }

    /// The wall clock of a node that does not run is so many days off, and no other. Whether that can be; else it has
    /// been said.
    pub fn wall_off(node: &mut Node, days: i32) -> bool {
        let Some(library) = library() else { return false };
        node.change(|launch| {
            let launch = launch.environment("LD_PRELOAD", &library);
            launch
                .environment("FAKETIME", &format!("{days:+}d"))
                .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        });
        true
    }

    /// They are so many days ahead from now on.
    pub fn jump(&self, days: u32) -> Result<()> {
        self.set(&format!("+{days}d"))
    }

    /// Whoever reads it meanwhile finds the old or the new.
    fn set(&self, offset: &str) -> Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset}\n"))?;
        Ok(fs::rename(&new, &self.file)?)
    }
}

fn library() -> Option<String> {
    let folders = fs::read_dir(FOLDER).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = folders.chain([Path::new(FOLDER).to_owned()]).map(|folder| folder.join(LIBRARY));
    let found = found.filter(|path| path.exists()).map(|path| path.display().to_string()).next();
    if found.is_none() {
        skip("not installed: libfaketime");
    }
    found
}
