//! `ringsan-nbd attach --fuse`: a file for a loop device, a file system above it, and what is refused. (Attaching
//! through the kernel's driver is tested in a virtual machine: `vm.rs`.)

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::device::{Loop, Mount};
use tests::launch::client_binary;
use tests::scratch::random;
use tests::skip::{lacks, lacks_root_and, skip};
use tests::tool::said;
use tests::{Launch, MIB, Scratch, Tool};

#[test]
fn ext4_goes_on_while_the_server_is_restarted() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    let device = Loop::attach(&shown.path)?;
    Tool::new("mkfs.ext4").args(["-q", "-F"]).arg(device.path()).ok()?;
    let mount = Mount::device(device.path(), &scratch.join("mount"))?;
    fs::write(mount.path().join("before"), random(1, 9_000_001))?;
    Tool::new("sync").arg("-f").arg(mount.path()).ok()?;
    let target = target.kill()?.start()?;
    fs::write(mount.path().join("after"), random(2, 9_000_001))?;
    Tool::new("sync").arg("-f").arg(mount.path()).ok()?;
    drop(mount);
    Tool::new("fsck.ext4").args(["-f", "-n"]).arg(device.path()).ok()?;
    let mount = Mount::device(device.path(), &scratch.join("mount"))?;
    for (name, seed) in [("before", 1), ("after", 2)] {
        ensure!(fs::read(mount.path().join(name))? == random(seed, 9_000_001), "{name} changed");
    }
    drop(mount);
    drop(device);
    shown.detach()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_loop_device_discards_and_zeroes() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let shown = Shown::attach(&scratch, &target.uri("disk"), &["--connections", "4"])?;
    let device = Loop::attach(&shown.path)?;
    let mut disk = OpenOptions::new().read(true).write(true).open(device.path())?;
    disk.write_all(&random(3, 48 << 20))?;
    disk.sync_all()?;
    ensure!(allocated(&scratch)? >= 48 * MIB, "the writes have not reached the backing");
    Tool::new("blkdiscard").args(["--length", "32M"]).arg(device.path()).ok()?;
    Tool::new("blkdiscard")
        .args(["--zeroout", "--offset", "32M", "--length", "8M"])
        .arg(device.path())
        .ok()?;
    ensure!(allocated(&scratch)? < 30 * MIB, "the discard has not reached the backing");
    let mut bytes = vec![1; 48 << 20];
    disk.seek(SeekFrom::Start(0))?;
    disk.read_exact(&mut bytes)?;
    ensure!(bytes[..40 << 20].iter().all(|byte| *byte == 0), "what was discarded or zeroed is not zero");
    ensure!(bytes[40 << 20..] == random(3, 48 << 20)[40 << 20..], "what was not discarded changed");
    drop(disk);
    drop(device);
    shown.detach()?;
    target.stop()?;
    Ok(())
}

#[test]
fn fio_verifies_the_file_itself() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    let file = format!("--filename={}", shown.path.display());
    let job =
        ["--name=job", "--direct=1", "--ioengine=libaio", "--iodepth=16", "--rw=randwrite", "--size=32m"];
    let verify = ["--bsrange=512-300k", "--verify=crc32c", "--verify_fatal=1", "--output=/dev/null"];
    Tool::new("fio").args(job).args(verify).arg(file).folder(scratch.path()).ok()?;
    shown.detach()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_file_in_use_is_not_detached() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let mut shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    let open = File::open(&shown.path)?;
    refused(8, "in use", &shown.tool(&["detach"]).arg(&shown.folder))?;
    // a signal is a detach like any other
    kill(Pid::from_raw(shown.child.id() as i32), Signal::SIGTERM)?;
    let status = shown.tool(&["status", "--json"]).ok()?;
    let status: Value = serde_json::from_str(&status)?;
    ensure!(status[0]["device"] == shown.path.display().to_string(), "{status}");
    ensure!(status[0]["export"].is_null() && status[0]["watched"] == true, "{status}");
    ensure!(status[0]["size_bytes"] == 128 * MIB, "{status}");
    drop(open);
    kill(Pid::from_raw(shown.child.id() as i32), Signal::SIGTERM)?;
    ensure!(shown.end()?.success(), "the second signal, with nobody using the file, is no clean end");
    ensure!(fs::read_dir(&shown.folder)?.next().is_none(), "the file is still there");
    ensure!(shown.tool(&["status"]).ok()? == "nothing is attached\n", "status still knows it");
    target.stop()?;
    Ok(())
}

#[test]
fn a_dead_server_cannot_keep_a_file_from_being_detached() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let mut shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    let mut file = OpenOptions::new().write(true).open(&shown.path)?;
    file.write_all(&random(5, 1 << 20))?;
    drop(file);
    target.kill()?;
    refused(8, "detach --force", &shown.tool(&["detach"]).arg(&shown.folder))?;
    shown.tool(&["detach", "--force"]).arg(&shown.folder).ok()?;
    ensure!(!shown.end()?.success(), "what was not flushed is lost, and it ended well");
    ensure!(fs::read_dir(&shown.folder)?.next().is_none(), "the file is still there");
    ensure!(shown.tool(&["status"]).ok()? == "nothing is attached\n", "status still knows it");
    Ok(())
}

#[test]
fn a_killed_attach_leaves_a_folder_that_can_be_detached() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let mut shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    shown.child.kill()?;
    shown.end()?;
    shown.tool(&["detach"]).arg(&shown.path).ok()?;
    ensure!(fs::read_dir(&shown.folder)?.next().is_none(), "the dead file is still there");
    ensure!(shown.tool(&["status"]).ok()? == "nothing is attached\n", "status still knows it");
    target.stop()?;
    Ok(())
}

#[test]
fn an_unmount_by_others_is_a_clean_end() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let mut shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    fs::write(scratch.join("data"), random(4, 1 << 20))?;
    let data = scratch.join("data").display().to_string();
    Tool::new("dd")
        .args([format!("if={data}"), format!("of={}", shown.path.display())])
        .arg("conv=notrunc")
        .ok()?;
    Tool::new("umount").arg(&shown.folder).ok()?;
    ensure!(shown.end()?.success(), "it did not end well");
    ensure!(fs::read(scratch.join("disk.img"))?[..1 << 20] == random(4, 1 << 20), "the data are not there");
    target.stop()?;
    Ok(())
}

#[test]
fn a_read_only_attach_writes_nothing() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let shown = Shown::attach(&scratch, &target.uri("disk"), &["--read-only"])?;
    ensure!(OpenOptions::new().write(true).open(&shown.path).is_err(), "it can be opened for writing");
    let mut first = [0; 512];
    File::open(&shown.path)?.read_exact(&mut first)?;
    shown.detach()?;
    target.stop()?;
    Ok(())
}

#[test]
fn what_cannot_be_shown_is_one_line_and_leaves_nothing() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let shown = Shown::attach(&scratch, &target.uri("disk"), &[])?;
    let fuse = |uri: &str, folder: &Path| shown.tool(&["attach", uri, "--fuse"]).arg(folder);
    let empty = scratch.join("empty");
    fs::create_dir(&empty)?;
    refused(8, "shows an export already", &fuse(&target.uri("disk"), &shown.folder))?;
    refused(1, "no file can be shown", &fuse(&target.uri("disk"), &scratch.join("missing")))?;
    fs::write(scratch.join("file"), "")?;
    refused(1, "name an empty folder", &fuse(&target.uri("disk"), &scratch.join("file")))?;
    refused(4, "name one of: \"disk\"", &fuse(&target.uri("other"), &empty))?;
    refused(3, "cannot be reached", &fuse("nbd://127.0.0.1:1/disk", &empty))?;
    refused(1, "shows no export", &shown.tool(&["detach"]).arg(&empty))?;
    ensure!(fs::read_dir(&empty)?.next().is_none(), "something is shown");
    let status = shown.tool(&["status"]).ok()?;
    ensure!(status.lines().count() == 1, "{status}");
    shown.detach()?;
    target.stop()?;
    Ok(())
}

#[test]
fn without_a_driver_the_remedy_is_named() -> Result<()> {
    if Path::new("/sys/module/nbd").exists() && skip("this kernel has an nbd driver") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = volume(&scratch).start()?;
    let client = Tool::new(client_binary()?);
    refused(9, "--fuse DIR", &client.args(["attach", &target.uri("disk")]))?;
    target.stop()?;
    Ok(())
}

fn volume(scratch: &Scratch) -> Launch {
    Launch::new(scratch).volume(format!("disk={},size=128M", scratch.join("disk.img").display()))
}

fn allocated(scratch: &Scratch) -> Result<u64> {
    Ok(fs::metadata(scratch.join("disk.img"))?.blocks() * 512)
}

/// It fails with this status and one line, which has these words.
fn refused(status: i32, words: &str, tool: &Tool) -> Result<()> {
    let output = tool.output()?;
    let text = said(&output);
    ensure!(output.status.code() == Some(status), "{}, and {status} was expected: {text}", output.status);
    ensure!(text.contains(words) && text.lines().count() == 1, "not one line with {words:?}: {text}");
    Ok(())
}

fn unable() -> bool {
    lacks(&["losetup", "mkfs.ext4", "fio", "blkdiscard"])
        || lacks_root_and(&["/dev/fuse", "/dev/loop-control"])
}

/// An export shown as a file.
struct Shown {
    child: Child,
    folder: PathBuf,
    path: PathBuf,
    state: PathBuf,
}

impl Shown {
    fn attach(scratch: &Scratch, uri: &str, options: &[&str]) -> Result<Shown> {
        let (folder, state) = (scratch.join("shown"), scratch.join("state"));
        fs::create_dir(&folder)?;
        let mut command = Command::new(client_binary()?);
        command.args(["attach", uri, "--fuse"]).arg(&folder).args(options).env("RINGSAN_NBD_STATE", &state);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        ensure!(line.trim_end() == folder.join("disk").display().to_string(), "it said {line:?}");
        Ok(Shown { child, path: folder.join("disk"), folder, state })
    }

    fn tool(&self, words: &[&str]) -> Tool {
        let state = format!("RINGSAN_NBD_STATE={}", self.state.display());
        Tool::new("env").arg(state).arg(client_binary().expect("it was found before")).args(words)
    }

    /// Waits for the end of its process.
    fn end(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("ringsan-nbd does not end")
    }

    fn detach(mut self) -> Result<()> {
        self.tool(&["detach"]).arg(&self.path).ok()?;
        let status = self.end()?;
        ensure!(status.success(), "after the detach: {status}");
        Ok(())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Tool::new("umount").arg("--lazy").arg(&self.folder).output();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
