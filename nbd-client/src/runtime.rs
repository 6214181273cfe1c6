//! The machine under the client: tasks of one thread, sockets and files on io_uring, time.
//!
//! Its one rule: no other file of this crate names tokio-uring or tokio, so that they can be replaced.

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub use tokio::sync::{Notify, oneshot};
pub use tokio::task::JoinHandle;
pub use tokio::time::{Instant, sleep, timeout};

/// Runs `future` and all that it spawns on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio_uring::start(future)
}

/// Starts a task on this thread.
pub fn spawn<F: Future + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio_uring::spawn(task)
}

/// Lets all other tasks have their turn.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// A file or block device.
pub struct File {
    inner: tokio_uring::fs::File,
    plain: fs::File,
}

impl File {
    /// Takes over `file`, opened as the caller likes.
    pub fn from_std(file: fs::File) -> io::Result<File> {
        Ok(File { inner: tokio_uring::fs::File::from_std(file.try_clone()?), plain: file })
    }

    /// Opens `path` for reading.
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::from_std(fs::File::open(path)?)
    }

    /// Fills `buffer` from `offset` on.
    pub async fn read_at(&self, buffer: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        self.inner.read_exact_at(buffer, offset).await
    }

    /// Writes all of `buffer` at `offset`.
    pub async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> (io::Result<()>, Vec<u8>) {
        self.inner.write_all_at(buffer, offset).await
    }

    /// Makes what was written durable.
    pub async fn sync(&self) -> io::Result<()> {
        self.inner.sync_data().await
    }

    /// fallocate(2), for holes and zeroes.
    pub async fn allocate(&self, offset: u64, length: u64, mode: i32) -> io::Result<()> {
        self.inner.fallocate(offset, length, mode).await
    }

    /// The same file, for questions and calls that do not wait.
    pub fn as_std(&self) -> &fs::File {
        &self.plain
    }
}

/// A connected socket.
pub struct Stream {
    _socket: OwnedFd,
}

impl Stream {
    /// Connects within `patience`.
    #[expect(clippy::todo, unused, reason = "to come")]
    pub(crate) async fn connect(address: &crate::uri::Address, patience: Duration) -> io::Result<Stream> {
        todo!()
    }
}
