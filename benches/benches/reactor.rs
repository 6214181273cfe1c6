//! What the reactor costs per operation: the loop, its tasks and buffers, a read, a round over a socket.
//!
//! Rule: each figure is for one operation, batches included, as a core at depth 32 sees it.

use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reactor::executor::Idle;
use reactor::io;
use reactor::sync::Gate;
use reactor::uring::{Doorbell, UringDriver, UringSettings};
use reactor::{Core, Gather, Handle, Path};

const BATCH: u64 = 32;
const BLOCK: usize = 4096;
const DRAIN: Duration = Duration::from_secs(1);

/// Runs `work` on a core of its own and answers how long it took.
fn timed<F>(work: impl FnOnce(Core) -> F) -> Duration
where
    F: Future<Output = ()> + 'static,
{
    let doorbell = Doorbell::new().expect("an eventfd can be made");
    let (driver, arena) = UringDriver::new(&UringSettings::default(), doorbell).expect("io_uring is there");
    let core = Core::new(Box::new(driver), arena);
    let elapsed = Rc::new(Cell::new(Duration::ZERO));
    let work = work(core.clone());
    let result = elapsed.clone();
    let main = async move {
        let began = Instant::now();
        work.await;
        result.set(began.elapsed());
    };
    core.run(main, Idle::Busy, DRAIN).expect("the kernel lets go of everything");
    elapsed.get()
}

/// Runs `work` in `BATCH` tasks at once, `rounds` times.
async fn in_batches<F>(core: Core, rounds: u64, work: impl Fn(Core) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let gate = Gate::new(BATCH as usize);
    for _ in 0..rounds {
        for _ in 0..BATCH {
            let permit = gate.enter(1).await;
            let work = work(core.clone());
            core.spawn(async move {
                work.await;
                drop(permit);
            });
        }
        gate.idle().await;
    }
}

fn tasks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("32 tasks that end at once", |bencher| {
        bencher.iter_custom(|rounds| timed(|core| in_batches(core, rounds, |_| async {})));
    });
    group.bench_function("32 buffers of 4 KiB taken and returned", |bencher| {
        let take = |core: Core| async move { drop(core.arena().take(BLOCK).await) };
        bencher.iter_custom(|rounds| timed(|core| in_batches(core, rounds, take)));
    });
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor");
    group.throughput(Throughput::Elements(BATCH));
    for (name, path) in [("through the ring", Path::Ring), ("by system calls", Path::Immediate)] {
        group.bench_function(format!("32 reads of 4 KiB from tmpfs, {name}"), |bencher| {
            bencher.iter_custom(|rounds| timed(|core| read_batches(core, rounds, path)));
        });
    }
}

async fn read_batches(core: Core, rounds: u64, path: Path) {
    let file = core.adopt(file_in_memory().into(), path);
    let read = |core: Core| {
        let file = file.clone();
        async move {
            let buffer = core.arena().take(BLOCK).await;
            io::read(&file, buffer, 0).await.0.expect("the block is there");
        }
    };
    in_batches(core, rounds, read).await;
}

/// Removed at once: its descriptor keeps it.
fn file_in_memory() -> File {
    let mut file = tempfile::tempfile_in("/dev/shm").expect("tmpfs is there");
    file.write_all(&[1; BLOCK]).expect("tmpfs has room");
    file
}

fn sockets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor");
    group.throughput(Throughput::Elements(1));
    group.bench_function("28 bytes there and 4 KiB back over a socket", |bencher| {
        bencher.iter_custom(|rounds| timed(|core| rounds_over_a_socket(core, rounds)));
    });
}

async fn rounds_over_a_socket(core: Core, rounds: u64) {
    let (client, server) = UnixStream::pair().expect("a pair of sockets can be made");
    let client = core.adopt(OwnedFd::from(client), Path::Ring);
    let server = core.adopt(OwnedFd::from(server), Path::Ring);
    core.spawn(answer(core.clone(), server, rounds));
    let mut request = Box::<Gather>::default();
    for _ in 0..rounds {
        request.clear();
        request.head(|bytes| bytes.extend_from_slice(&[0; 28]));
        request = io::send(&client, request, false, |_| ()).await.1;
        let reply = core.arena().take(BLOCK).await;
        io::receive_exact(&client, reply, 0).await.0.expect("the reply comes");
    }
}

async fn answer(core: Core, socket: Handle, rounds: u64) {
    let mut reply = Box::<Gather>::default();
    for _ in 0..rounds {
        io::receive(&socket, 0).await.expect("the request comes");
        reply.clear();
        reply.view(core.arena().take(BLOCK).await.into_view(0, BLOCK));
        reply = io::send(&socket, reply, false, |_| ()).await.1;
    }
}

criterion_group!(benches, tasks, reads, sockets);
criterion_main!(benches);
