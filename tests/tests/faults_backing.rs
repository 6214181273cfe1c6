//! Backings that fail: full, gone, cut short, broken, stuck. The client hears of it, and nobody else.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tests::device::{FuseFile, Loop, Mount};
use tests::nbd::{self, Client};
use tests::scratch::random;
use tests::skip::{lacks, lacks_root_and};
use tests::target::Target;
use tests::{Launch, MIB, Scratch, Tool};

#[test]
fn a_full_tmpfs_is_enospc_and_a_trim_makes_room() -> Result<()> {
    if lacks_root_and(&[]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let small = Mount::tmpfs(&scratch.join("small"), 16 * MIB)?;
    for cache in ["auto", "buffered"] {
        fills_up(&scratch, small.path(), cache).with_context(|| format!("cache={cache}"))?;
    }
    Ok(())
}

#[test]
fn a_full_ext4_is_enospc_and_a_trim_makes_room() -> Result<()> {
    if lacks(&["mkfs.ext4", "losetup"]) || lacks_root_and(&["/dev/loop-control"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let device = Loop::attach(&scratch.sparse("small.img", 24 * MIB)?)?;
    Tool::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(device.path()).ok()?;
    let small = Mount::device(device.path(), &scratch.join("small"))?;
    fills_up(&scratch, small.path(), "auto")?;
    drop(small);
    drop(device);
    Ok(())
}

fn fills_up(scratch: &Scratch, folder: &Path, cache: &str) -> Result<()> {
    let file = folder.join("disk.img");
    let launch = Launch::new(scratch).volume(format!("disk={},size=64M,cache={cache}", file.display()));
    let target = launch.volume("other=memory,size=16M").start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    let mut written = 0;
    let error = loop {
        ensure!(written < 64, "64 MiB fit where they cannot");
        client.request_write(0, written, written * MIB, &random(written, MIB as usize))?;
        match client.reply()? {
            (0, _) => written += 1,
            (error, _) => break error,
        }
    };
    ensure!(error == nbd::ENOSPC, "NBD error {error} after {written} MiB");
    ensure!(written > 4, "full after {written} MiB");
    ensure!(client.read(2 * MIB, MIB as u32)? == random(2, MIB as usize), "what was written reads otherwise");
    target.assert_serves("other")?;
    const CMD_TRIM: u16 = 4;
    client.request(CMD_TRIM, 0, 1, 0, 4 << 20)?;
    ensure!(client.reply()? == (0, 1), "trim failed");
    client.write(written * MIB, &random(99, MIB as usize)).context("after the trim")?;
    client.flush()?;
    target.stop()?;
    fs::remove_file(file)?;
    Ok(())
}

#[test]
fn a_removed_file_is_served_on() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("disk.img");
    let target = start_two(&scratch, &file)?;
    let mut client = Client::attach(target.address(), "disk")?;
    client.write(0, &random(1, 1 << 20))?;
    under_load(&target, || Ok(fs::remove_file(&file)?))?;
    ensure!(client.read(0, 1 << 20)? == random(1, 1 << 20), "the bytes changed");
    client.write(32 << 20, &random(2, 1 << 20))?;
    client.flush()?;
    ensure!(
        Client::attach(target.address(), "disk")?.read(32 << 20, 1 << 20)? == random(2, 1 << 20),
        "another client"
    );
    target.assert_serves("other")?;
    target.stop()?;
    assert!(!file.exists(), "the removed file is back");
    Ok(())
}

#[test]
fn a_truncated_file_reads_as_zeroes_or_an_error() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("disk.img");
    let mut target = start_two(&scratch, &file)?;
    let mut client = Client::attach(target.address(), "disk")?;
    client.write(48 << 20, &random(1, 1 << 20))?;
    under_load(&target, || Ok(fs::File::options().write(true).open(&file)?.set_len(4096)?))?;
    client.request(nbd::CMD_READ, 0, 5, 48 << 20, 1 << 20)?;
    match client.reply()? {
        (0, 5) => ensure!(client.receive(1 << 20)?.iter().all(|byte| *byte == 0), "bytes from nowhere"),
        (nbd::EIO, 5) => {}
        other => bail!("a read beyond the end of the file answers {other:?}"),
    }
    target.assert_serves("other")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_failing_disk_is_eio_until_it_works_again() -> Result<()> {
    if unable_fuse() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let broken = scratch.join("broken");
    let disk = FuseFile::mount(
        &scratch.join("fuse/disk"),
        [
            "[",
            "nbdkit",
            "--exit-with-parent",
            "--filter=error",
            "memory",
            "64M",
            "error=EIO",
            "error-rate=100%",
            &format!("error-file={}", broken.display()),
            "]",
        ],
    )?;
    let mut target = start_two(&scratch, disk.path())?;
    let mut client = Client::attach(target.address(), "disk")?;
    client.write(0, &random(1, 1 << 20))?;
    client.flush()?;
    fs::write(&broken, "")?;
    client.request(nbd::CMD_READ, 0, 1, 0, 4096)?;
    assert_eq!(client.reply()?, (nbd::EIO, 1), "read");
    client.request_write(nbd::FLAG_FUA, 2, 8192, &[1; 4096])?;
    assert_eq!(client.reply()?, (nbd::EIO, 2), "write");
    target.assert_serves("other")?;
    fs::remove_file(&broken)?;
    ensure!(client.read(0, 1 << 20)? == random(1, 1 << 20), "the same connection reads again");
    client.write(0, &random(2, 1 << 20))?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn no_flush_is_believed_after_a_durable_write_of_the_page_cache_has_failed() -> Result<()> {
    if unable_fuse() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let broken = scratch.join("broken");
    let error_file = format!("error-file={}", broken.display());
    let nbdkit = ["[", "nbdkit", "--exit-with-parent", "--filter=error", "memory", "64M", "error=EIO"];
    let words = [&nbdkit[..], &["error-rate=100%", &error_file, "]"]].concat();
    let disk = FuseFile::mount(&scratch.join("fuse/disk"), words)?;
    let volume = format!("disk={},cache=buffered", disk.path().display());
    let target = Launch::new(&scratch).volume(volume).start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    fs::write(&broken, "")?;
    client.request_write(nbd::FLAG_FUA, 1, 8192, &[1; 4096])?;
    assert_eq!(client.reply()?, (nbd::EIO, 1), "write");
    fs::remove_file(&broken)?;
    client.write(0, &[1; 4096])?;
    client.request(nbd::CMD_FLUSH, 0, 2, 0, 0)?;
    assert_eq!(client.reply()?, (nbd::EIO, 2), "the kernel may have dropped pages");
    target.signal(Signal::SIGKILL)?;
    Ok(())
}

#[test]
fn a_stuck_disk_stops_no_other_volume() -> Result<()> {
    if unable_fuse() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let words = ["[", "nbdkit", "--exit-with-parent", "--filter=delay", "memory", "64M", "rdelay=4", "]"];
    let disk = FuseFile::mount(&scratch.join("fuse/disk"), words)?;
    let target = start_two(&scratch, disk.path())?;
    let mut stuck = Client::attach(target.address(), "disk")?;
    stuck.request(nbd::CMD_READ, 0, 1, 0, 4096)?;
    for _ in 0..100 {
        target.assert_serves("other")?;
    }
    stuck.stream().set_nonblocking(true)?;
    let peeked = stuck.stream().peek(&mut [0; 1]);
    assert!(
        peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the disk was not stuck"
    );
    stuck.stream().set_nonblocking(false)?;
    assert_eq!(stuck.reply()?, (0, 1));
    drop(stuck);
    target.stop()?;
    Ok(())
}

#[test]
fn a_stuck_disk_does_not_hold_up_the_stop() -> Result<()> {
    if unable_fuse() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let words = ["[", "nbdkit", "--exit-with-parent", "--filter=delay", "memory", "64M", "rdelay=600", "]"];
    let disk = FuseFile::mount(&scratch.join("fuse/disk"), words)?;
    let launch = Launch::new(&scratch).arg("--stop-timeout").arg("1s").volume("other=memory,size=16M");
    let target = launch.volume(format!("disk={}", disk.path().display())).start()?;
    let mut stuck = Client::attach(target.address(), "disk")?;
    stuck.request(nbd::CMD_READ, 0, 1, 0, 4096)?;
    target.assert_serves("other")?;
    target.signal(Signal::SIGTERM)?;
    target.await_log(&["stopped", "aborting"]).context("the stop waits for no disk")?;
    drop(disk); // the kernel lets a process end only when its last read has
    target.await_end()?;
    Ok(())
}

fn start_two(scratch: &Scratch, file: &Path) -> Result<Target> {
    let size = if file.exists() { "" } else { ",size=64M" };
    let disk = format!("disk={}{size}", file.display());
    Launch::new(scratch).volume(disk).volume("other=memory,size=16M").start()
}

/// Does `fault` while two clients write and two read, and lets them go on for a while after it.
fn under_load(target: &Target, fault: impl FnOnce() -> Result<()>) -> Result<()> {
    let stop = AtomicBool::new(false);
    let (progress, seen) = std::sync::mpsc::channel();
    let (address, stop_ref) = (target.address(), &stop);
    thread::scope(|scope| {
        let load = |number: u64| {
            let progress = progress.clone();
            scope.spawn(move || -> Result<()> {
                let mut client = Client::attach(address, "disk")?;
                let data = random(number, 65_536);
                while !stop_ref.load(Ordering::Relaxed) {
                    let offset = (8 + number) << 20;
                    match number % 2 {
                        0 => client.request_write(0, number, offset, &data)?,
                        _ => client.request(nbd::CMD_READ, 0, number, offset, 65_536)?,
                    }
                    let (error, _) = client.reply()?;
                    if number % 2 == 1 && error == 0 {
                        client.receive(65_536)?;
                    }
                    ensure!([0, nbd::EIO, nbd::ENOSPC].contains(&error), "NBD error {error}");
                    let _ = progress.send(());
                }
                Ok(())
            })
        };
        let clients: Vec<_> = (0..4).map(load).collect();
        let before = seen.iter().take(400).count();
        let result = fault();
        let after = seen.iter().take(400).count();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a load client does not panic").context("under load")?;
        }
        ensure!(before + after == 800, "the load ended early");
        result
    })
}

fn unable_fuse() -> bool {
    lacks(&["nbdfuse", "nbdkit"]) || lacks_root_and(&["/dev/fuse"])
}
