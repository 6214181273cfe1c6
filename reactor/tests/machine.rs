//! The reactor on the real kernel: sockets, files, other threads, and the end of a core.

use std::fs::OpenOptions;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use reactor::cores::{self, CoreSettings, Inbox};
use reactor::executor::Idle;
use reactor::uring::UringSettings;
use reactor::{Buffer, Core, Gather, Path, io as verbs};

/// Runs `work` on a core of its own and returns what it made.
fn on_core<T, F>(without: &[&str], idle: Idle, work: impl FnOnce(Core) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let without = without.iter().map(|name| name.to_string()).collect();
    let uring = UringSettings { arena_bytes: 4 << 20, without, ..UringSettings::default() };
    let settings = CoreSettings { cpu: 0, idle, drain: Duration::from_secs(5), uring };
    let (done, result) = mpsc::channel();
    let (_inbox, thread) = cores::start(settings, move |core, _: Inbox<()>| async move {
        let made = work(core).await;
        done.send(made).expect("the test waits");
    })
    .expect("this kernel has io_uring");
    let made = result.recv().expect("the work ends");
    thread.join().expect("the core ends");
    made
}

const ALL_WAYS: [&[&str]; 5] = [
    &[],
    &["defer_taskrun"],
    &["defer_taskrun", "coop_taskrun"],
    &["buffer_ring"],
    &["registered_buffers", "registered_files"],
];

#[test]
fn bytes_come_back_on_every_kernel_path() {
    for without in ALL_WAYS {
        for idle in [Idle::Off, Idle::Adaptive(Duration::from_micros(50)), Idle::Busy] {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            let client = std::thread::spawn(move || {
                let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7) as u8).collect();
                let mut writer = theirs.try_clone().expect("a clone");
                let out = sent.clone();
                let sender = std::thread::spawn(move || {
                    writer.write_all(&out).expect("the core reads");
                    writer.shutdown(std::net::Shutdown::Write).expect("open");
                });
                let mut back = Vec::new();
                theirs.read_to_end(&mut back).expect("the core writes");
                sender.join().expect("sent");
                assert!(back == sent, "what came back differs");
            });
            on_core(without, idle, move |core| echo(core, ours.into()));
            client.join().unwrap_or_else(|_| panic!("{without:?} {idle:?}"));
        }
    }
}

async fn echo(core: Core, socket: OwnedFd) {
    let socket = core.adopt(socket, Path::Ring);
    loop {
        let buffer = verbs::receive(&socket, 0).await.expect("the client is there");
        let len = buffer.len();
        if len == 0 {
            return;
        }
        let mut gather = Box::<Gather>::default();
        gather.view(buffer.into_view(0, len));
        verbs::send(&socket, gather, false, |_| ()).await.0.expect("the client is there");
    }
}

#[test]
fn zero_copy_sends_arrive_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (ours, _) = listener.accept().expect("connected");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).expect("the core writes");
        all
    });
    on_core(&[], Idle::Off, move |core| async move {
        let socket = core.adopt(ours.into(), Path::Ring);
        let mut gather = Box::<Gather>::default();
        for i in 0..4u8 {
            let mut buffer = core.arena().take(256 << 10).await;
            buffer.bytes_mut().fill(i);
            gather.head(|out| out.push(0xaa));
            gather.view(buffer.into_view(0, 256 << 10));
        }
        let (result, mut gather) = verbs::send(&socket, gather, true, |_| ()).await;
        result.expect("the client reads");
        gather.clear();
        assert_eq!(core.arena().used_bytes(), 0);
    });
    let all = reader.join().expect("read");
    assert_eq!(all.len(), 4 * ((256 << 10) + 1));
    for (i, part) in all.chunks((256 << 10) + 1).enumerate() {
        assert!(part[0] == 0xaa && part[1..].iter().all(|&byte| byte == i as u8), "part {i}");
    }
}

#[test]
fn files_are_read_and_written_by_every_path() {
    let dir = tempfile::tempdir().expect("a folder");
    let name = dir.path().join("file");
    for path in [Path::Ring, Path::Polled, Path::Immediate] {
        let flags = if path == Path::Immediate { 0 } else { libc::O_DIRECT };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).custom_flags(flags).open(&name);
        let Ok(file) = file else {
            println!("SKIP {path:?}: the file system refuses O_DIRECT");
            continue;
        };
        file.set_len(1 << 20).expect("space");
        on_core(&[], Idle::Off, move |core| async move {
            let file = core.adopt(file.into(), path);
            let mut buffer = core.arena().take(64 << 10).await;
            buffer.bytes_mut().iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 3) as u8);
            let expected = buffer.bytes().to_vec();
            verbs::write(&file, buffer.into_view(0, 64 << 10), 128 << 10, true).await.expect("written");
            verbs::sync(&file, true).await.expect("synced");
            let buffer = core.arena().take(64 << 10).await;
            let (result, buffer) = verbs::read(&file, buffer, 128 << 10).await;
            result.expect("read");
            assert!(buffer.bytes() == expected, "{path:?}");
            let (result, _) = verbs::read(&file, buffer, (1 << 20) - 4096).await;
            let error = result.expect_err("the file ends");
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        });
    }
}

#[test]
fn many_transfers_of_a_file_in_memory_share_system_calls() {
    let name = format!("/dev/shm/ringsan-reactor-{}", std::process::id());
    let Ok(file) = OpenOptions::new().read(true).write(true).create_new(true).open(&name) else {
        println!("SKIP many_transfers_of_a_file_in_memory_share_system_calls: no /dev/shm");
        return;
    };
    std::fs::remove_file(&name).expect("just made");
    file.set_len(1 << 20).expect("space");
    let calls = on_core(&[], Idle::Off, move |core| async move {
        let file = core.adopt(file.into(), Path::Immediate);
        let before = core.counters().system_calls;
        let left = Rc::new(std::cell::Cell::new(200));
        for i in 0..200u64 {
            let (core, file, left) = (core.clone(), file.clone(), left.clone());
            core.clone().spawn(async move {
                let mut buffer = core.arena().take(4096).await;
                buffer.bytes_mut().fill(i as u8);
                verbs::write(&file, buffer.into_view(0, 4096), i * 4096, false).await.expect("written");
                let (result, buffer) = verbs::read(&file, core.arena().take(4096).await, i * 4096).await;
                result.expect("read");
                assert!(buffer.bytes().iter().all(|&byte| byte == i as u8), "block {i}");
                let (result, _) = verbs::read(&file, buffer, 1 << 20).await;
                result.expect_err("the file ends");
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            verbs::sleep(&core, Duration::from_millis(1)).await;
        }
        core.counters().system_calls - before
    });
    assert!(calls < 60, "{calls} system calls for 600 transfers");
}

#[test]
fn messages_wake_a_sleeping_core_in_order() {
    let settings = CoreSettings {
        cpu: 0,
        idle: Idle::Off,
        drain: Duration::from_secs(5),
        uring: UringSettings { arena_bytes: 1 << 20, ..UringSettings::default() },
    };
    let (seen, seen_here) = mpsc::channel();
    let (sender, thread) = cores::start(settings, move |_, inbox: Inbox<u32>| async move {
        loop {
            let message = inbox.next().await;
            seen.send(message).expect("the test waits");
            if message == u32::MAX {
                return;
            }
        }
    })
    .expect("this kernel has io_uring");
    for i in 0..1000 {
        sender.send(i).expect("the core runs");
        if i % 10 == 0 {
            assert_eq!(seen_here.recv().expect("seen"), i, "the core woke for it");
        } else {
            seen_here.recv().expect("seen");
        }
    }
    sender.send(u32::MAX).expect("the core runs");
    thread.join().expect("ended");
    assert_eq!(sender.send(7), Err(7), "a core that has ended gives messages back");
}

#[test]
fn what_blocks_runs_elsewhere_and_its_errors_come_back() {
    on_core(&[], Idle::Off, |core| async move {
        let (unblock, block) = mpsc::channel::<u64>();
        core.spawn(async move {
            let value = verbs::blocking(|| Ok(41)).await.expect("a value");
            unblock.send(value + 1).expect("the other call waits");
        });
        let value =
            verbs::blocking(move || block.recv().map_err(std::io::Error::other)).await.expect("a value");
        assert_eq!(value, 42);
        let error = verbs::blocking(|| Err(std::io::Error::from_raw_os_error(libc::ENOSPC))).await;
        assert_eq!(error.expect_err("an error").raw_os_error(), Some(libc::ENOSPC));
    });
}

#[test]
fn a_deadline_ends_a_receive_by_shutting_the_socket_down() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let waited = on_core(&[], Idle::Off, move |core| async move {
        let socket = core.adopt(ours.into(), Path::Ring);
        let started = Instant::now();
        let deadline = core.now() + Duration::from_millis(50);
        let end = || {
            nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both).expect("open");
        };
        let buffer = verbs::with_deadline(deadline, verbs::receive(&socket, 0), end).await.expect("an end");
        assert_eq!(buffer.len(), 0);
        started.elapsed()
    });
    drop(theirs);
    assert!(waited >= Duration::from_millis(50), "it ended before its time: {waited:?}");
}

#[test]
fn a_socket_tells_who_is_at_its_other_end() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (socket, _) = listener.accept().expect("one has come");
        let (unix, _other) = UnixStream::pair().expect("a pair");
        let told = on_core(&[], Idle::Off, move |core| async move {
            [core.peer(socket.as_fd()), core.peer(unix.as_fd())]
        });
        assert_eq!(told, [client.local_addr().ok(), None]);
    }
}

#[test]
fn a_core_ends_with_operations_in_flight() {
    let dir = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(dir.path().join("socket")).expect("bound");
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    on_core(&[], Idle::Off, move |core| async move {
        let listener = core.adopt(listener.into(), Path::Ring);
        let socket = core.adopt(ours.into(), Path::Ring);
        core.spawn(async move { drop(verbs::accept(&listener).await) });
        let buffer = core.arena().take(4096).await;
        core.spawn(async move { drop(verbs::receive_exact(&socket, buffer, 0).await) });
    });
}

#[test]
fn who_waits_for_buffers_gets_them_when_they_come_back() {
    on_core(&[], Idle::Off, |core| async move {
        let all: Vec<Buffer> = std::iter::from_fn(|| core.arena().try_take(1 << 20)).collect();
        let got = Rc::new(std::cell::Cell::new(0));
        for _ in 0..8 {
            let (core, got) = (core.clone(), got.clone());
            core.clone().spawn(async move {
                let buffer = core.arena().take(1 << 20).await;
                verbs::sleep(&core, Duration::from_millis(1)).await;
                drop(buffer);
                got.set(got.get() + 1);
            });
        }
        assert_eq!(got.get(), 0);
        drop(all);
        while got.get() < 8 {
            verbs::sleep(&core, Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn an_idle_core_uses_no_processor_time() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let (before, after) = on_core(&[], Idle::Adaptive(Duration::from_micros(50)), move |core| async move {
        let socket = core.adopt(ours.into(), Path::Ring);
        core.spawn(async move { drop(verbs::receive(&socket, 0).await) });
        let before = core.counters();
        verbs::sleep(&core, Duration::from_millis(200)).await;
        (before, core.counters())
    });
    assert!(after.polls - before.polls < 1000, "it spun {} times", after.polls - before.polls);
    assert!(after.system_calls - before.system_calls < 10);
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let uring = UringSettings::default();
    let settings = CoreSettings { cpu: 1000, idle: Idle::Off, drain: Duration::from_secs(1), uring };
    let Err(error) = cores::start(settings, |_, _: Inbox<()>| async {}) else {
        panic!("there is no CPU 1000")
    };
    assert!(error.to_string().contains("1000"), "{error}");
}

#[test]
fn a_waker_that_may_outlive_its_core_names_none() {
    let refused = on_core(&[], Idle::Off, |core| async move {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let mut sleep = Box::pin(async move { verbs::sleep(&core, Duration::from_secs(1)).await });
        let poll = || sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        catch_unwind(AssertUnwindSafe(poll)).is_err()
    });
    assert!(refused, "a future found its core through a clone that anybody may keep");
}
