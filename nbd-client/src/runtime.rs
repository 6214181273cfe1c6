//! The machine under the client: tasks of one thread, sockets and files on io_uring, time.
//!
//! Its one rule: no other file of this crate names tokio-uring or tokio, so that they can be replaced.

use std::fs;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio_uring::buf::{BoundedBuf, Slice};
use tokio_uring::net::{TcpStream, UnixStream};

use crate::uri::Address;

pub use tokio::sync::{Notify, mpsc, oneshot};
pub use tokio::task::JoinHandle;
pub use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Runs `future` on this thread, and what it spawns until it ends.
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

/// Runs both to their end.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    tokio::join!(a, b)
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
        // The whole capacity would be filled otherwise, which may be more.
        let length = buffer.len();
        if length == 0 {
            return (Ok(()), buffer);
        }
        let (result, slice) = self.inner.read_exact_at(buffer.slice(..length), offset).await;
        (result, slice.into_inner())
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

/// A connected socket. Several tasks may use it, one to receive and one to send.
///
/// It is shut down when dropped: an operation that nobody waits for any more would hold it for ever.
pub(crate) struct Stream {
    ring: Ring,
    /// The same socket, for what needs no ring; gone with `into_fd`.
    plain: Option<socket2::Socket>,
}

enum Ring {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the first address that answers.
    pub(crate) async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp { host, port } => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await?.into_std()?;
                // io_uring itself waits for a blocking socket; for another it would report EAGAIN.
                stream.set_nonblocking(false)?;
                let plain = socket2::Socket::from(stream.try_clone()?);
                prepare(&plain)?;
                Ok(Stream { ring: Ring::Tcp(TcpStream::from_std(stream)), plain: Some(plain) })
            }
            Address::Unix(path) => {
                let stream: StdUnixStream = tokio::net::UnixStream::connect(path).await?.into_std()?;
                stream.set_nonblocking(false)?;
                let plain = socket2::Socket::from(stream.try_clone()?);
                Ok(Stream { ring: Ring::Unix(UnixStream::from_std(stream)), plain: Some(plain) })
            }
        }
    }

    /// Receives into `buffer[start..end]`; how many bytes, 0 at the end of the stream.
    pub(crate) async fn receive(
        &self,
        buffer: Vec<u8>,
        start: usize,
        end: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        let slice = buffer.slice(start..end);
        let (result, slice) = match &self.ring {
            Ring::Tcp(stream) => stream.read(slice).await,
            Ring::Unix(stream) => stream.read(slice).await,
        };
        (result, slice.into_inner())
    }

    /// Sends all parts, in order, and gives them back. They are not empty, and at most IOV_MAX (1024).
    pub(crate) async fn send(&self, parts: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let (mut sent, total) = (0, parts.iter().map(Vec::len).sum::<usize>());
        let mut whole = parts;
        while sent < total {
            let (slices, first) = unsent(&mut whole, sent);
            let (result, slices) = self.send_some(slices).await;
            whole.truncate(first);
            whole.extend(slices.into_iter().map(Slice::into_inner));
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), whole),
                Ok(count) => sent += count,
                Err(error) => return (Err(error), whole),
            }
        }
        (Ok(()), whole)
    }

    async fn send_some(&self, mut slices: Vec<Slice<Vec<u8>>>) -> (io::Result<usize>, Vec<Slice<Vec<u8>>>) {
        if slices.len() > 1 {
            return match &self.ring {
                Ring::Tcp(stream) => stream.writev(slices).await,
                Ring::Unix(stream) => stream.writev(slices).await,
            };
        }
        let Some(slice) = slices.pop() else { return (Ok(0), slices) };
        let (result, slice) = match &self.ring {
            Ring::Tcp(stream) => stream.write(slice).submit().await,
            Ring::Unix(stream) => stream.write(slice).submit().await,
        };
        slices.push(slice);
        (result, slices)
    }

    /// Ends both directions: whoever waits for this socket goes on.
    pub(crate) fn shutdown(&self) {
        self.shutdown_as(Shutdown::Both);
    }

    /// The same, and what the server's machine has not confirmed is thrown away when the stream is dropped: else the
    /// kernel would go on trying to deliver it, and it might arrive after what was sent again elsewhere.
    pub(crate) fn abort(&self) {
        if let Some(plain) = &self.plain {
            // A socket that has none of this has nothing on the way.
            let _ = plain.set_linger(Some(Duration::ZERO));
        }
        self.shutdown();
    }

    /// No more will be sent.
    pub(crate) fn shutdown_send(&self) {
        self.shutdown_as(Shutdown::Write);
    }

    fn shutdown_as(&self, how: Shutdown) {
        if let Some(plain) = &self.plain {
            // It may have ended already.
            let _ = plain.shutdown(how);
        }
    }

    /// The socket itself, out of the ring's hands.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        self.plain.take().expect("only this takes it, and the stream with it").into()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// What is left of `parts` after `sent` bytes, and the index of the first part that is left.
fn unsent(parts: &mut Vec<Vec<u8>>, mut sent: usize) -> (Vec<Slice<Vec<u8>>>, usize) {
    let mut first = 0;
    while sent >= parts[first].len() {
        sent -= parts[first].len();
        first += 1;
    }
    let rest = parts.split_off(first);
    let skips = std::iter::once(sent).chain(std::iter::repeat(0));
    (rest.into_iter().zip(skips).map(|(part, skip)| part.slice(skip..)).collect(), first)
}

/// No waiting for more to send, and a word from the kernel when the server's machine is gone.
fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    const IDLE: Duration = Duration::from_secs(10);
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(IDLE / 2).with_retries(4);
    let socket = SockRef::from(socket);
    // The same for what was sent and is not confirmed, which the kernel would else try for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(IDLE))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// How many bytes were on their way when this end was closed by `close`, and how many of them arrive.
    fn sent_and_arrived(close: fn(&Stream)) -> (usize, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
        let sent = block_on(async move {
            let stream = Stream::connect(&address).await.expect("it listens");
            let plain = stream.plain.as_ref().expect("nobody took it");
            plain.set_nonblocking(true).expect("it is a socket");
            let (part, mut sent) = (vec![7; 1 << 20], 0);
            while let Ok(count) = plain.send(&part) {
                sent += count;
            }
            close(&stream);
            sent
        });
        let (mut peer, _) = listener.accept().expect("it has connected");
        let mut arrived = Vec::new();
        // A reset ends it as well as an end does.
        let _ = peer.read_to_end(&mut arrived);
        (sent, arrived.len())
    }

    #[test]
    fn what_was_not_delivered_when_a_stream_is_aborted_never_arrives() {
        let (sent, arrived) = sent_and_arrived(Stream::shutdown);
        assert_eq!(sent, arrived, "a stream that is only shut down delivers all");
        let (sent, arrived) = sent_and_arrived(Stream::abort);
        assert!(arrived < sent, "{arrived} of {sent} bytes arrived");
    }
}
