//! Block devices as backings: a loop device over a file.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use tests::device::{Loop, Mount};
use tests::nbd::Client;
use tests::scratch::random;
use tests::skip::{lacks, lacks_root_and};
use tests::tool::nbdsh;
use tests::{Launch, MIB, Scratch, Tool};

#[test]
fn a_block_device_is_written_read_and_flushed() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.sparse("disk.img", 128 * MIB)?;
    let device = Loop::attach(&file)?;
    let target = Launch::new(&scratch).volume(format!("disk={}", device.path().display())).start()?;
    ensure!(Client::attach(target.address(), "disk")?.size_bytes == 128 * MIB, "the size is the device's");
    let source = scratch.image("source", 128 << 20, 1)?;
    Tool::new("nbdcopy").arg("--flush").arg(&source).arg(target.uri("disk")).ok()?;
    Tool::new("cmp").args([&source, &file]).ok()?;
    let job = [
        "--rw=randwrite",
        "--bsrange=4k-64k",
        "--iodepth=16",
        "--numjobs=2",
        "--size=32m",
        "--offset_increment=64m",
    ];
    let common =
        ["--name=job", "--ioengine=nbd", "--verify=crc32c", "--verify_fatal=1", "--output=/dev/null"];
    let uri = format!("--uri={}", target.uri("disk"));
    Tool::new("fio").args(common).arg(uri).args(job).folder(scratch.path()).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn trims_and_zeroes_reach_the_device() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.sparse("disk.img", 64 * MIB)?;
    let device = Loop::attach(&file)?;
    let target = Launch::new(&scratch).volume(format!("disk={}", device.path().display())).start()?;
    let script = "
h.pwrite(b'd' * (16 << 20), 0)
h.trim(8 << 20, 0)
h.zero(1 << 20, 8 << 20)
h.zero(1 << 20, 9 << 20, nbd.CMD_FLAG_NO_HOLE)
h.flush()
assert h.pread(2 << 20, 8 << 20) == bytes(2 << 20)
assert h.pread(1 << 20, 10 << 20) == b'd' * (1 << 20)";
    nbdsh(&target.uri("disk"), script).ok()?;
    let allocated = fs::metadata(&file)?.blocks() * 512;
    ensure!(allocated < 10 * MIB, "{allocated} bytes are allocated: the trim did not reach the file");
    target.stop()?;
    Ok(())
}

#[test]
fn a_device_of_4096_byte_sectors_takes_what_it_advertises() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let device = Loop::attach_with(&scratch.sparse("disk.img", 64 * MIB)?, &["--sector-size", "4096"])?;
    let target = Launch::new(&scratch).volume(format!("disk={}", device.path().display())).start()?;
    let script = "
import random
random.seed(3)
unit = h.get_block_size(nbd.SIZE_MINIMUM) or 1
model = bytearray(1 << 20)
h.pwrite(model, 0)
for turn in range(200):
    offset = random.randrange(0, 1 << 19) // unit * unit
    length = max(unit, random.randrange(1, 10000) // unit * unit)
    data = random.randbytes(length)
    h.pwrite(data, offset)
    model[offset:offset + length] = data
    assert h.pread(length, offset) == data
assert h.pread(1 << 20, 0) == model";
    nbdsh(&target.uri("disk"), script).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_mounted_device_is_refused_and_untouched() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = scratch.sparse("disk.img", 64 * MIB)?;
    let device = Loop::attach(&file)?;
    Tool::new("mkfs.ext4").arg("-q").arg(device.path()).ok()?;
    let mount = Mount::device(device.path(), &scratch.join("mount"))?;
    fs::write(mount.path().join("file"), random(1, 100_000))?;
    let said = Launch::new(&scratch).volume(format!("disk={}", device.path().display())).refused(1)?;
    let name = device.path().display().to_string();
    ensure!(said.contains(&name), "the error does not name {name}:\n{said}");
    ensure!(fs::read(mount.path().join("file"))? == random(1, 100_000), "the file changed");
    drop(mount);
    Ok(())
}

#[test]
fn a_served_device_cannot_be_mounted_or_served_twice() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let (scratch, other) = (Scratch::new()?, Scratch::new()?);
    let device = Loop::attach(&scratch.sparse("disk.img", 64 * MIB)?)?;
    Tool::new("mkfs.ext4").arg("-q").arg(device.path()).ok()?;
    let volume = format!("disk={}", device.path().display());
    let target = Launch::new(&scratch).volume(&volume).start()?;
    ensure!(Mount::device(device.path(), &scratch.join("mount")).is_err(), "it was mounted");
    Launch::new(&other).volume(&volume).refused(1).context("a second daemon")?;
    target.assert_serves("disk")?;
    target.stop()?;
    let _mount = Mount::device(device.path(), &scratch.join("mount")).context("after the stop")?;
    Ok(())
}

fn unable() -> bool {
    lacks(&["nbdcopy", "nbdsh", "fio", "losetup", "mkfs.ext4"]) || lacks_root_and(&["/dev/loop-control"])
}
