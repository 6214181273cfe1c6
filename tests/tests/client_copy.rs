//! `ringsan-nbd copy`: what arrives is what was there, holes stay holes, what was interrupted goes on, and every
//! failure has its exit status.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::device::{Loop, Mount};
use tests::launch::client_binary;
use tests::scratch::random;
use tests::skip::{lacks, lacks_root_and};
use tests::tool::said;
use tests::{KIB, Launch, MIB, Scratch, Tool, backings};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_image_goes_to_every_backing_and_comes_back_the_same_and_sparse() -> Result<()> {
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 24 << 20, 1)?;
    for backing in backings(&scratch, 24 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let back = scratch.join("back");
        copy(&[&image, &target.uri("disk")], &["--verify"])?.status(0)?;
        copy(&[&target.uri("disk"), &back], &["--jobs", "3"])?.status(0)?;
        same(&image, &back).with_context(|| backing.clone())?;
        let (was, is) = (fs::metadata(&image)?.blocks(), fs::metadata(&back)?.blocks());
        ensure!(is <= was, "{backing}: {was} blocks became {is}");
        fs::remove_file(back)?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn zeroes_that_were_written_become_holes() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut bytes = vec![0; 8 << 20];
    bytes[1 << 20..(1 << 20) + 4096].fill(7);
    let (full, sparse) = (scratch.join("full"), scratch.join("sparse"));
    fs::write(&full, bytes)?;
    copy(&[&full, &sparse], &[])?.status(0)?;
    same(&full, &sparse)?;
    let allocated = fs::metadata(&sparse)?.blocks() * 512;
    ensure!(allocated <= 64 * KIB, "{allocated} bytes are allocated");
    Ok(())
}

#[test]
fn what_was_at_the_destination_is_gone() -> Result<()> {
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 2)?;
    let target = Launch::new(&scratch).volume("disk=memory,size=8M").start()?;
    let noise = scratch.join("noise");
    fs::write(&noise, random(9, 8 << 20))?;
    let longer = scratch.join("longer");
    fs::write(&longer, random(8, 9 << 20))?;
    copy(&[&noise, &target.uri("disk")], &[])?.status(0)?;
    copy(&[&image, &target.uri("disk")], &[])?.status(0)?;
    copy(&[&target.uri("disk"), &longer], &[])?.status(0)?;
    same(&image, &longer)
}

#[test]
fn an_export_goes_to_an_export() -> Result<()> {
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 3)?;
    let target = Launch::new(&scratch).volume("a=memory,size=8M").volume("b=memory,size=12M").start()?;
    copy(&[&image, &target.uri("a")], &[])?.status(0)?;
    let states = scratch.join("states");
    fs::create_dir(&states)?;
    let state = states.join("state").display().to_string();
    let options = ["--verify", "--json", "--state", &state];
    let report = copy(&[&target.uri("a"), &target.uri("b")], &options)?.status(0)?;
    ensure!(fs::read_dir(&states)?.next().is_none(), "a state or its lock stays");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout)?;
    assert_eq!(report["beyond_bytes"], 4 * MIB);
    assert_eq!(report["verify"]["blocks_differing"], 0);
    assert_eq!(report["verify"]["source_crc32c"], format!("{:08x}", crc32c::crc32c(&fs::read(&image)?)));
    Ok(())
}

#[test]
fn files_of_any_length_are_copied_whole() -> Result<()> {
    let scratch = Scratch::new()?;
    for length in [0, 1, 511, 4096, 4097, 1_000_003] {
        let (source, destination) = (scratch.join("source"), scratch.join("destination"));
        fs::write(&source, random(length as u64, length))?;
        copy(&[&source, &destination], &["--verify"])?.status(0).with_context(|| length.to_string())?;
        same(&source, &destination)?;
    }
    Ok(())
}

#[test]
fn servers_that_can_little_are_served_too() -> Result<()> {
    if lacks(&["nbdkit"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 4)?;
    let filters: [&[&str]; 5] = [
        &[],
        &["--filter=noextents"],
        &["--filter=nozero"],
        &["--filter=multi-conn", "multi-conn-mode=disable"],
        &["--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-maximum=65536"],
    ];
    for filter in filters {
        let (plain, more) = filter.split_at(filter.len().min(1));
        let there_and_back = format!(
            "set -e\n{0} copy --quiet --verify image \"$uri\"\n{0} copy --quiet \"$uri\" back\ncmp image back\n",
            client_binary()?.display()
        );
        let nbdkit = Tool::new("nbdkit")
            .folder(scratch.path())
            .args(["--unix", "-"])
            .args(plain)
            .args(["memory", "8M"])
            .args(more);
        nbdkit.args(["--run", &there_and_back]).ok().with_context(|| format!("{filter:?}"))?;
        same(&image, &scratch.join("back"))?;
        fs::remove_file(scratch.join("back"))?;
    }
    Ok(())
}

#[test]
fn a_source_that_ends_within_a_block_leaves_the_rest_of_it() -> Result<()> {
    if lacks(&["nbdkit"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (odd, disk) = (scratch.join("odd"), scratch.join("disk"));
    fs::write(&odd, random(5, 100_001))?;
    fs::write(&disk, random(6, 1 << 20))?;
    let before = fs::read(&disk)?;
    let command = format!("{} copy --quiet --verify odd \"$uri\"", client_binary()?.display());
    let nbdkit = Tool::new("nbdkit").folder(scratch.path()).args(["--unix", "-"]).args([
        "--filter=blocksize-policy",
        "file",
        "disk",
    ]);
    nbdkit.args(["blocksize-minimum=4096", "--run", &command]).ok()?;
    let after = fs::read(&disk)?;
    ensure!(after[..100_001] == fs::read(&odd)?, "the copy differs");
    ensure!(after[100_001..] == before[100_001..], "what lay behind the copy changed");
    Ok(())
}

#[test]
fn a_block_device_takes_and_gives_an_image() -> Result<()> {
    if lacks_root_and(&["/dev/loop-control"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 6)?;
    let under = scratch.join("under");
    fs::write(&under, random(7, 10 << 20))?;
    let device = Loop::attach(&under)?;
    let state = scratch.join("state");
    let state = ["--state", state.to_str().context("its name is plain")?];
    copy(&[&image, &device.path()], &[&["--verify"], &state[..]].concat())?.status(0)?;
    let back = scratch.join("back");
    copy(&[&device.path(), &back], &[])?.status(0)?;
    let (image, back) = (fs::read(image)?, fs::read(back)?);
    ensure!(image == back[..image.len()] && back.len() == 10 << 20, "the device holds something else");
    Ok(())
}

#[test]
fn verify_finds_a_flipped_byte() -> Result<()> {
    if lacks(&["nbdkit"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let image = scratch.join("image");
    fs::write(&image, random(8, 2 << 20))?;
    let disk = scratch.sparse("disk", 2 << 20)?;
    // a server that loses a byte of what it was given
    let disk = disk.display();
    let flip = format!("printf '\\377' | dd of={disk} bs=1 seek=1234567 conv=notrunc status=none");
    fs::OpenOptions::new().write(true).open(&image)?.write_all_at(&[0], 1_234_567)?;
    let write = format!("pwrite=dd of={disk} seek=$4 oflag=seek_bytes conv=notrunc status=none; {flip}");
    let command = format!("{} copy --quiet --verify image \"$uri\"", client_binary()?.display());
    let read = format!("pread=dd if={disk} skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none");
    let nbdkit = Tool::new("nbdkit")
        .folder(scratch.path())
        .args(["--unix", "-"])
        .args(["eval", "get_size=echo 2097152"]);
    let nbdkit = nbdkit.args([&read, &write, "--run", &command]);
    let output = nbdkit.output()?;
    let text = said(&output);
    ensure!(output.status.code() == Some(7), "{}\n{text}", output.status);
    ensure!(text.contains("differ in 1 blocks") && text.contains("1234567"), "{text}");
    Ok(())
}

#[test]
fn an_interrupted_copy_goes_on() -> Result<()> {
    for (signal, status) in
        [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)]
    {
        let Some(mut slow) = Slow::start()? else { return Ok(()) };
        let ended = slow.interrupt(signal)?;
        ensure!(ended.status.code() == status, "{signal} ended it with {}\n{}", ended.status, said(&ended));
        let (state, back) = (slow.scratch.join("back.ringsan-copy"), slow.scratch.join("back"));
        ensure!(state.exists(), "{signal} left no state");
        let again = copy(&[&slow.uri(), &back], &["--resume", "always", "--verify", "--json"])?.status(0)?;
        let report: serde_json::Value = serde_json::from_slice(&again.stdout)?;
        let resumed = report["resumed_bytes"].as_u64().context("a number")?;
        ensure!(resumed > 0 && resumed < Slow::BYTES, "{resumed} bytes were copied before");
        same(&slow.image, &back)?;
        ensure!(!state.exists(), "the state stays");
    }
    Ok(())
}

#[test]
fn a_copy_whose_destination_changed_begins_again_and_says_why() -> Result<()> {
    let Some(mut slow) = Slow::start()? else { return Ok(()) };
    slow.interrupt(Signal::SIGINT)?;
    let back = slow.scratch.join("back");
    File::options().write(true).open(&back)?.write_all_at(b"foreign", 0)?;
    let refused = copy(&[&slow.uri(), &back], &["--resume", "always"])?.status(6)?;
    ensure!(said(&refused).contains("changed since, at byte 0"), "{}", said(&refused));
    let again = copy(&[&slow.uri(), &back], &[])?.status(0)?;
    ensure!(said(&again).contains("begins again: one side has changed"), "{}", said(&again));
    same(&slow.image, &back)
}

#[test]
fn a_copy_of_another_source_begins_again() -> Result<()> {
    let Some(mut slow) = Slow::start()? else { return Ok(()) };
    slow.interrupt(Signal::SIGTERM)?;
    let (other, back) = (slow.scratch.image("other", Slow::BYTES as usize, 77)?, slow.scratch.join("back"));
    let again = copy(&[&other, &back], &["--verify"])?.status(0)?;
    ensure!(said(&again).contains("begins again: the source was nbd"), "{}", said(&again));
    same(&other, &back)
}

#[test]
fn one_destination_takes_one_copy_at_a_time() -> Result<()> {
    let Some(slow) = Slow::start()? else { return Ok(()) };
    let back = slow.scratch.join("back");
    let mut first = slow.begin()?;
    slow.await_state()?;
    let second = copy(&[&slow.image, &back], &[])?.status(8)?;
    ensure!(said(&second).contains("another copy"), "{}", said(&second));
    first.kill()?;
    first.wait()?;
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_with_room_the_copy_goes_on() -> Result<()> {
    if lacks_root_and(&[]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let image = scratch.join("image");
    fs::write(&image, random(10, 24 << 20))?;
    let small = Mount::tmpfs(&scratch.join("small"), 16 * MIB)?;
    let copied = small.path().join("copied");
    let full = copy(&[&image, &copied], &[])?.status(1)?;
    ensure!(said(&full).contains("No space left") && said(&full).contains("goes on"), "{}", said(&full));
    ensure!(said(&full).trim().lines().count() == 1, "more than a line:\n{}", said(&full));
    Tool::new("mount").args(["-o", "remount,size=64m"]).arg(small.path()).ok()?;
    let again = copy(&[&image, &copied], &["--resume", "always", "--verify"])?.status(0)?;
    ensure!(said(&again).contains("goes on with"), "{}", said(&again));
    same(&image, &copied)
}

#[test]
fn a_limit_of_file_sizes_is_told() -> Result<()> {
    if lacks(&["prlimit"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 11)?;
    let binary = client_binary()?;
    let tool = Tool::new("prlimit").arg("--fsize=1048576").arg(binary).arg("copy").arg(&image);
    let output = tool.arg(scratch.join("copied")).output()?;
    ensure!(output.status.code() == Some(1), "{}\n{}", output.status, said(&output));
    ensure!(said(&output).contains("File too large"), "{}", said(&output));
    Ok(())
}

#[test]
fn each_mistake_is_one_line_and_has_its_exit_status() -> Result<()> {
    let scratch = Scratch::new()?;
    let image = scratch.image("image", 8 << 20, 12)?.display().to_string();
    let launch = Launch::new(&scratch).volume("small=memory,size=4M").volume("fixed=memory,size=8M,readonly");
    let target = launch.start()?;
    let (small, fixed, none) = (target.uri("small"), target.uri("fixed"), target.uri("nothing"));
    let text = scratch.join("text").display().to_string();
    let cases: [(&[&str], i32, &str); 12] = [
        (&[&image, &small], 1, "too small: it has 4194304 bytes"),
        (&[&image, &fixed], 1, "read-only"),
        (&[&image, &none], 4, "nothing"),
        (&[&none, &text], 4, "nothing"),
        (&[&image, "nbd://127.0.0.1:1/x"], 3, "127.0.0.1:1"),
        (&[&image, "ndb://127.0.0.1/x"], 2, "ndb://"),
        (&[&image], 2, "<DST>"),
        (&[&image, &image], 1, "source and destination"),
        (&[&image, "/no/such/folder/file"], 1, "/no/such/folder/file"),
        (&["/no/such/file", &text], 1, "/no/such/file"),
        (&["/dev/null", &text], 1, "neither a file nor a block device"),
        (&[&image, &text, "--piece", "5000"], 2, "5000"),
    ];
    for (words, status, named) in cases {
        let output = Tool::new(client_binary()?).arg("copy").args(words).output()?;
        let said = said(&output);
        ensure!(output.status.code() == Some(status), "{words:?} ended with {}\n{said}", output.status);
        ensure!(said.contains(named), "{words:?} does not name {named}:\n{said}");
        ensure!(said.trim().lines().count() == 1, "{words:?} says more than a line:\n{said}");
    }
    Ok(())
}

/// A source that gives its bytes slowly, so that a copy can be interrupted in its midst.
struct Slow {
    scratch: Scratch,
    image: PathBuf,
    server: Child,
}

impl Slow {
    const BYTES: u64 = 48 << 20;

    /// `None` where there is no nbdkit.
    fn start() -> Result<Option<Slow>> {
        if lacks(&["nbdkit"]) {
            return Ok(None);
        }
        let scratch = Scratch::new()?;
        let image = scratch.image("image", Slow::BYTES as usize, 13)?;
        let server = serve_slowly(&scratch, &image)?;
        Ok(Some(Slow { scratch, image, server }))
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.scratch.join("socket").display())
    }

    /// A copy to the file `back`.
    fn begin(&self) -> Result<Child> {
        let mut command = Command::new(client_binary()?);
        command.args(["copy", "--quiet", "--jobs", "2", "--checkpoint", "0", &self.uri()]);
        command.arg(self.scratch.join("back")).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Waits until something is noted as copied.
    fn await_state(&self) -> Result<()> {
        let state = self.scratch.join("back.ringsan-copy");
        await_that("a state that says that something is copied", || {
            fs::read_to_string(&state).is_ok_and(|text| !text.contains("\"done\":[]"))
        })
    }

    /// Begins a copy and sends it `signal` once some of it is done.
    fn interrupt(&mut self, signal: Signal) -> Result<Output> {
        let child = self.begin()?;
        self.await_state()?;
        kill(Pid::from_raw(child.id().cast_signed()), signal)?;
        let output = child.wait_with_output()?;
        // nbdkit aborts when a client is gone with reads in flight
        self.server.kill()?;
        self.server.wait()?;
        self.server = serve_slowly(&self.scratch, &self.image)?;
        Ok(output)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// nbdkit, ready, on the file `socket`.
fn serve_slowly(scratch: &Scratch, image: &Path) -> Result<Child> {
    let (socket, ready) = (scratch.join("socket"), scratch.join("ready"));
    for old in [&socket, &ready].into_iter().filter(|path| path.exists()) {
        fs::remove_file(old)?;
    }
    let mut command = Command::new("nbdkit");
    command.args(["--foreground", "--exit-with-parent", "--filter=rate"]);
    command.arg("--unix").arg(socket).arg("--pidfile").arg(&ready).arg("file").arg(image);
    let server = command.arg("rate=200M").stdin(Stdio::null()).spawn()?;
    await_that("pidfile of nbdkit", || ready.exists())?;
    Ok(server)
}

/// Nobody tells when a file changes.
fn await_that(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < end, "no {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<()> {
    Tool::new("cmp").arg(one).arg(other).ok().map(drop)
}

/// What `ringsan-nbd copy` did.
struct Copied(Output, String);

/// `ringsan-nbd copy PLACES… OPTIONS…`.
fn copy(places: &[&dyn AsRef<std::ffi::OsStr>], options: &[&str]) -> Result<Copied> {
    let mut tool = Tool::new(client_binary()?).arg("copy");
    for place in places {
        tool = tool.arg(place.as_ref());
    }
    let words = places.iter().map(|place| place.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>();
    Ok(Copied(tool.args(options).output()?, words.join(" ")))
}

impl Copied {
    /// It must have ended with this status.
    fn status(self, status: i32) -> Result<Output> {
        let Copied(output, words) = self;
        ensure!(output.status.code() == Some(status), "copy {words}: {}\n{}", output.status, said(&output));
        Ok(output)
    }
}
