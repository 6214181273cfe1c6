//! Where the bytes lie that the servers serve: four kinds, each full of random bytes.
//!
//! Rule: never zeroes, for a server may answer a block of zeroes with a hole and send nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::load::Random;

const FILL_BYTES: usize = 1 << 20;

/// The four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BackingKind {
    /// The server's own memory; a file on tmpfs for servers that have none.
    Memory,
    /// A file on tmpfs.
    Tmpfs,
    /// A file on a disk's file system, wholly in the page cache.
    Cache,
    /// A file on a disk's file system, past the page cache.
    Direct,
}

impl BackingKind {
    /// All, in the order in which they are measured.
    pub const ALL: [BackingKind; 4] =
        [BackingKind::Memory, BackingKind::Tmpfs, BackingKind::Cache, BackingKind::Direct];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            BackingKind::Memory => "memory",
            BackingKind::Tmpfs => "tmpfs",
            BackingKind::Cache => "page cache",
            BackingKind::Direct => "O_DIRECT",
        }
    }
}

/// One backing, ready to be served.
pub struct Backing {
    /// Which kind.
    pub kind: BackingKind,
    /// The file; removed when this is dropped.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

impl Backing {
    /// Makes and fills the file: on tmpfs for `Memory` and `Tmpfs`, else in `data_dir`.
    pub fn create(kind: BackingKind, size_bytes: u64, data_dir: &Path) -> Result<Backing> {
        let dir = match kind {
            BackingKind::Memory | BackingKind::Tmpfs => Path::new("/dev/shm"),
            BackingKind::Cache | BackingKind::Direct => data_dir,
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file_name = format!("bench-{}-{kind:?}.img", std::process::id()).to_lowercase();
        let path = dir.canonicalize()?.join(file_name);
        let backing = Backing { kind, path, size_bytes };
        backing.fill().with_context(|| format!("cannot fill {}", backing.path.display()))?;
        Ok(backing)
    }

    /// Brings the file to rest: no page of it waits to be written, and for `Cache` every page is in memory.
    pub fn settle(&self) -> Result<()> {
        let mut file = File::open(&self.path)?;
        file.sync_all()?;
        if self.kind == BackingKind::Cache {
            let mut piece = vec![0; FILL_BYTES];
            while file.read(&mut piece)? > 0 {}
        }
        Ok(())
    }

    fn fill(&self) -> Result<()> {
        let mut file = File::create(&self.path)?;
        let mut random = Random::new(self.size_bytes);
        let mut piece = vec![0; FILL_BYTES];
        for _ in 0..self.size_bytes / FILL_BYTES as u64 {
            random.fill(&mut piece);
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        Ok(())
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // A file that is gone already is what we want.
        let _ = fs::remove_file(&self.path);
    }
}
