//! A folder of the test's own, and bytes that can be made again from a seed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A temporary folder, gone when dropped.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one under TMPDIR.
    pub fn new() -> Result<Scratch> {
        Ok(Scratch(tempfile::Builder::new().prefix("ringsan-test.").tempdir()?))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a sparse file.
    pub fn sparse(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.join(name);
        fs::File::create(&path)?.set_len(bytes)?;
        Ok(path)
    }

    /// Makes a file of random bytes, with a hole of a quarter in its middle.
    pub fn image(&self, name: &str, bytes: usize, seed: u64) -> Result<PathBuf> {
        let path = self.sparse(name, bytes as u64)?;
        let data = random(seed, bytes);
        let mut file = fs::File::options().write(true).open(&path)?;
        file.write_all(&data[..bytes / 2])?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start((bytes / 4 * 3) as u64))?;
        file.write_all(&data[bytes / 4 * 3..])?;
        Ok(path)
    }

    /// Makes a named pipe.
    pub fn pipe(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        Ok(path)
    }

    /// Makes a file with this text.
    pub fn text(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// `len` bytes that depend on `seed` alone (splitmix64).
pub fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Random(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Numbers that depend on a seed alone.
pub struct Random(pub u64);

impl Random {
    /// The next one.
    #[allow(clippy::should_implement_trait)] // never ends, so no `Option`
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
