//! A file system on an export: nbdfuse makes a file of it, loop a disk, ext4 and a tree of files go on top,
//! and everything is there after a detach and a restart of the daemon.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tests::device::{FuseFile, Loop, Mount};
use tests::scratch::random;
use tests::skip::{lacks, lacks_root_and};
use tests::target::Target;
use tests::{Launch, MIB, Scratch, Tool};

#[test]
fn ext4_survives_detach_and_restart_on_a_direct_file() -> Result<()> {
    survives("disk.img,size=256M,cache=auto")
}

#[test]
fn ext4_survives_detach_and_restart_on_a_buffered_file() -> Result<()> {
    survives("disk.img,size=256M,cache=buffered")
}

#[test]
fn fstrim_frees_space_of_the_backing() -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let backing = scratch.join("disk.img");
    let target = Launch::new(&scratch).volume(format!("disk={},size=256M", backing.display())).start()?;
    let disk = Disk::attach(&target, &scratch)?;
    Tool::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.device.path()).ok()?;
    let mount = Mount::device(disk.device.path(), &scratch.join("mount"))?;
    fs::write(mount.path().join("large"), random(1, 64 << 20))?;
    Tool::new("sync").arg("-f").arg(mount.path()).ok()?;
    let full = allocated(&backing)?;
    fs::remove_file(mount.path().join("large"))?;
    Tool::new("sync").arg("-f").arg(mount.path()).ok()?;
    Tool::new("fstrim").arg(mount.path()).ok()?;
    let trimmed = allocated(&backing)?;
    assert!(full >= 64 * MIB && trimmed + 60 * MIB < full, "{full} bytes before, {trimmed} after");
    drop(mount);
    drop(disk);
    target.stop()?;
    Ok(())
}

fn survives(backing: &str) -> Result<()> {
    if unable() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let tree = scratch.join("tree");
    make_tree(&tree)?;
    let target =
        Launch::new(&scratch).volume(format!("disk={}/{backing}", scratch.path().display())).start()?;
    let disk = Disk::attach(&target, &scratch)?;
    Tool::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.device.path()).ok()?;
    let mount = Mount::device(disk.device.path(), &scratch.join("mount"))?;
    Tool::new("cp").arg("-a").arg(&tree).arg(mount.path()).ok()?;
    drop(mount);
    drop(disk);
    let launch = target.stop()?;
    let target = launch.start()?;
    let disk = Disk::attach(&target, &scratch)?;
    Tool::new("fsck.ext4").args(["-f", "-n"]).arg(disk.device.path()).ok()?;
    let mount = Mount::device(disk.device.path(), &scratch.join("mount"))?;
    Tool::new("diff").arg("-r").arg(&tree).arg(mount.path().join("tree")).ok()?;
    drop(mount);
    drop(disk);
    target.stop()?;
    Ok(())
}

/// An export as a block device. Fields are undone in their order.
struct Disk {
    device: Loop,
    _file: FuseFile,
}

impl Disk {
    fn attach(target: &Target, scratch: &Scratch) -> Result<Disk> {
        let file = FuseFile::mount(&scratch.join("fuse/disk"), [target.uri("disk")])?;
        Ok(Disk { device: Loop::attach(file.path())?, _file: file })
    }
}

fn make_tree(tree: &Path) -> Result<()> {
    for number in 0..200u64 {
        let folder = tree.join(format!("{}/{}", number % 5, number % 3));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(number.to_string()), random(number, (number * number * 7) as usize))?;
    }
    fs::write(tree.join("large"), random(1000, 20 << 20)).context("a tree of files")
}

fn allocated(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

fn unable() -> bool {
    lacks(&["nbdfuse", "losetup", "mkfs.ext4"]) || lacks_root_and(&["/dev/fuse", "/dev/loop-control"])
}
