//! Async verbs over operations. Short transfers are finished here, once.
//!
//! Buffers move in and come back with the result, also with an error.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::SockaddrStorage;

use crate::buffer::{Buffer, View};
use crate::driver::Moment;
use crate::executor::{Core, Operation, Sleep};
use crate::gather::Gather;
use crate::handle::{Handle, Path};
use crate::op::{Completion, NvmeCommand, NvmeData, Op, Output};

/// The next connection of a listening socket.
pub async fn accept(listener: &Handle) -> io::Result<OwnedFd> {
    let completion = Operation::new(Op::Accept { listener: listener.clone() }).await;
    match completion.result? {
        Output::Descriptor(fd) => Ok(fd),
        other => unreachable!("accept gives a descriptor, not {other:?}"),
    }
}

/// Connects a stream socket of the address's family.
pub async fn connect(socket: &Handle, address: SocketAddr) -> io::Result<()> {
    let address = Box::new(SockaddrStorage::from(address));
    Operation::new(Op::Connect { socket: socket.clone(), address }).await.result.map(drop)
}

/// What has come, in a receive buffer of the core; empty at the end of the stream. `len_max` 0 takes all
/// that fits. With no receive buffer free, `ENOBUFS`.
pub async fn receive(socket: &Handle, len_max: u32) -> io::Result<Buffer> {
    let completion = Operation::new(Op::Receive { socket: socket.clone(), len_max }).await;
    match (completion.result?, completion.op) {
        (Output::Buffer(buffer), _) => Ok(buffer),
        // A driver without a buffer ring chose the buffer at the start.
        (Output::Count(count), Op::ReceiveInto { mut buffer, .. }) => {
            buffer.resize(count as usize);
            Ok(buffer)
        }
        (other, _) => unreachable!("receive gives a buffer, not {other:?}"),
    }
}

/// What has come, in `buffer`, cut to that length; empty at the end of the stream.
pub async fn receive_some(socket: &Handle, buffer: Buffer) -> io::Result<Buffer> {
    let op = Op::ReceiveInto { socket: socket.clone(), buffer, start: 0, wait_all: false };
    let Completion { result, op: Op::ReceiveInto { mut buffer, .. } } = Operation::new(op).await else {
        unreachable!("an operation comes back as it went")
    };
    buffer.resize(count(result)?);
    Ok(buffer)
}

/// Fills `buffer[start..]`; `UnexpectedEof` when the stream ends before.
pub async fn receive_exact(
    socket: &Handle,
    mut buffer: Buffer,
    mut start: usize,
) -> (io::Result<()>, Buffer) {
    while start < buffer.len() {
        let op = Op::ReceiveInto { socket: socket.clone(), buffer, start, wait_all: true };
        let Completion { result, op: Op::ReceiveInto { buffer: back, .. } } = Operation::new(op).await else {
            unreachable!("an operation comes back as it went")
        };
        buffer = back;
        match count(result) {
            Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
            Ok(received) => start += received,
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Sends what is left in `gather`. `progress` is told of each part that the kernel took.
pub async fn send(
    socket: &Handle,
    mut gather: Box<Gather>,
    zero_copy: bool,
    mut progress: impl FnMut(usize),
) -> (io::Result<()>, Box<Gather>) {
    while gather.remaining() > 0 {
        let op = Op::Send { socket: socket.clone(), gather, zero_copy };
        let Completion { result, op: Op::Send { gather: back, .. } } = Operation::new(op).await else {
            unreachable!("an operation comes back as it went")
        };
        gather = back;
        match count(result) {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), gather),
            Ok(sent) => {
                gather.advance(sent);
                progress(sent);
            }
            Err(error) => return (Err(error), gather),
        }
    }
    (Ok(()), gather)
}

/// Fills `buffer` from `offset` of `file`. `UnexpectedEof` when the file ends before.
pub async fn read(file: &Handle, mut buffer: Buffer, offset: u64) -> (io::Result<()>, Buffer) {
    let mut start = 0;
    while start < buffer.len() {
        let len = buffer.len() - start;
        let op = Op::Read { file: file.clone(), buffer, start, len, offset: offset + start as u64 };
        let Completion { result, op: Op::Read { buffer: back, .. } } = Operation::new(op).await else {
            unreachable!("an operation comes back as it went")
        };
        buffer = back;
        match count(result) {
            Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), buffer),
            Ok(moved) => start += moved,
            Err(error) if polling_refused(&error, file) => file.set_path(Path::Ring),
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Writes all of `data` to `offset` of `file`; `durable` as by RWF_DSYNC.
pub async fn write(file: &Handle, mut data: View, mut offset: u64, durable: bool) -> io::Result<()> {
    while data.len() > 0 {
        let op = Op::Write { file: file.clone(), data, offset, durable };
        let Completion { result, op: Op::Write { data: back, .. } } = Operation::new(op).await else {
            unreachable!("an operation comes back as it went")
        };
        data = back;
        match count(result) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(moved) => {
                data.advance(moved);
                offset += moved as u64;
            }
            Err(error) if polling_refused(&error, file) => file.set_path(Path::Ring),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// fdatasync(2), or fsync(2).
pub async fn sync(file: &Handle, data_only: bool) -> io::Result<()> {
    let completion = Operation::new(Op::Sync { file: file.clone(), data_only }).await;
    completion.result.map(drop)
}

/// fallocate(2).
pub async fn allocate(file: &Handle, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let completion = Operation::new(Op::Allocate { file: file.clone(), mode, offset, len }).await;
    completion.result.map(drop)
}

/// An NVMe command without data; gives the status field of its completion, 0 for success.
pub async fn nvme(file: &Handle, command: NvmeCommand) -> io::Result<u16> {
    let op = Op::Nvme { file: file.clone(), command, data: NvmeData::None };
    count(Operation::new(op).await.result).map(|status| status as u16)
}

/// An NVMe command that fills `buffer`.
pub async fn nvme_in(file: &Handle, command: NvmeCommand, buffer: Buffer) -> (io::Result<u16>, Buffer) {
    let op = Op::Nvme { file: file.clone(), command, data: NvmeData::In(buffer) };
    let Completion { result, op: Op::Nvme { data: NvmeData::In(buffer), .. } } = Operation::new(op).await
    else {
        unreachable!("an operation comes back as it went")
    };
    (count(result).map(|status| status as u16), buffer)
}

/// An NVMe command that carries `data`.
pub async fn nvme_out(file: &Handle, command: NvmeCommand, data: View) -> io::Result<u16> {
    let op = Op::Nvme { file: file.clone(), command, data: NvmeData::Out(data) };
    count(Operation::new(op).await.result).map(|status| status as u16)
}

/// Runs `call` on a helper thread.
pub async fn blocking(call: impl FnOnce() -> io::Result<u64> + Send + 'static) -> io::Result<u64> {
    let completion = Operation::new(Op::Blocking(Some(Box::new(call)))).await;
    count(completion.result).map(|value| value as u64)
}

/// Waits for `duration` from now on.
pub async fn sleep(core: &Core, duration: Duration) {
    Sleep::until(core.now() + duration).await;
}

/// `future`, whatever it takes; calls `expire` once should it not be done at `deadline`. `expire` ends what the
/// future waits for (it shuts the socket down), so that operations come back by themselves.
pub async fn with_deadline<T>(deadline: Moment, future: impl Future<Output = T>, expire: impl FnOnce()) -> T {
    let mut expire = Some(expire);
    let mut timer = std::pin::pin!(Sleep::until(deadline));
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if expire.is_some() && timer.as_mut().poll(cx).is_ready() {
            expire.take().expect("looked at above")();
        }
        future.as_mut().poll(cx)
    })
    .await
}

fn count(result: io::Result<Output>) -> io::Result<usize> {
    match result? {
        Output::Count(count) => Ok(count as usize),
        other => unreachable!("a transfer gives a count, not {other:?}"),
    }
}

/// A file system that cannot poll says so with each operation; the caller goes on by the ordinary ring.
fn polling_refused(error: &io::Error, file: &Handle) -> bool {
    file.path() == Path::Polled && matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL))
}
