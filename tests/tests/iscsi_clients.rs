//! Other people's initiators against the daemon: QEMU's tools and libiscsi's. NBD reads the same bytes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::iscsi::target_table;
use tests::nbd::Client;
use tests::qemu::{iscsi_tool, lacks_iscsi};
use tests::skip::lacks;
use tests::target::Target;
use tests::{Launch, MIB, Scratch, Tool, backings};

#[test]
fn what_qemu_copies_over_iscsi_nbd_reads() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 96 << 20, 3)?;
    for backing in backings(&scratch, 96 * MIB) {
        let target = Launch::new(&scratch).iscsi().volume(&backing).start()?;
        let (url, copy) = (target.iscsi_url("disk"), scratch.join("copy"));
        copy_in(&source, &url)?;
        compare(&source, &target.uri("disk")).with_context(|| backing.clone())?;
        compare(&source, &url)?;
        let convert = ["convert", "-f", "raw", "-O", "raw", "-m", "8"];
        iscsi_tool("qemu-img").args(convert).arg(&url).arg(&copy).ok()?;
        Tool::new("cmp").args([&source, &copy]).ok().with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn what_nbd_writes_qemu_reads_over_iscsi_and_the_other_way_round() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).iscsi().volume(&backing).start()?;
        let mut nbd = Client::attach(target.address(), "disk")?;
        for (round, offset) in [0u64, 512, 3 * MIB - 512, 63 * MIB].into_iter().enumerate() {
            let (theirs, ours) = (0x11 + round as u8, 0x51 + round as u8);
            nbd.write(offset, &[ours; 8192])?;
            let read = format!("read -P {ours} {offset} 8192");
            let write = format!("write -P {theirs} {} 4096", offset + 4096);
            qemu_io(&target.iscsi_url("disk"), &[&read, &write])?;
            let now = nbd.read(offset, 8192)?;
            ensure!(now[..4096] == [ours; 4096] && now[4096..] == [theirs; 4096], "{backing} at {offset}");
        }
        drop(nbd);
        target.stop()?;
    }
    Ok(())
}

#[test]
fn qemu_io_patterns_hold_over_iscsi() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let commands = [
        "write -P 0x5a 1M 1M",
        "write -P 0x33 1000448 1024",
        "read -P 0x33 1000448 1024",
        "write -z 1M 64k",
        "read -P 0 1M 64k",
        "read -P 0x5a 1114112 983040",
        "write -z -u 1536k 64k",
        "read -P 0 1536k 64k",
        "write -f -P 7 8M 64k",
        "read -P 7 8M 64k",
        "aio_write -P 9 16M 4M",
        "aio_write -P 8 20M 4M",
        "aio_flush",
        "read -P 9 16M 4M",
        "read -P 8 20M 4M",
        "discard 16M 8M",
        "read 16M 8M",
        "flush",
    ];
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).iscsi().volume(&backing).start()?;
        qemu_io(&target.iscsi_url("disk"), &commands).with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn an_image_format_lives_on_a_logical_unit() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 32 << 20, 4)?;
    let volume = format!("disk={},size=64M", scratch.join("disk").display());
    let target = Launch::new(&scratch).iscsi().volume(volume).start()?;
    let url = target.iscsi_url("disk");
    let (create, convert) =
        (["create", "-f", "qcow2", &url, "32M"], ["convert", "-n", "-f", "raw", "-O", "qcow2"]);
    iscsi_tool("qemu-img").args(create).ok()?;
    iscsi_tool("qemu-img").args(convert).arg(&source).arg(&url).ok()?;
    let target = target.stop()?.start()?;
    iscsi_tool("qemu-img").args(["check", "-f", "qcow2", &url]).ok()?;
    iscsi_tool("qemu-img").args(["compare", "-f", "raw", "-F", "qcow2"]).arg(&source).arg(&url).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn map_tells_data_from_holes_as_over_nbd() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).iscsi().volume(&backing).start()?;
        let url = target.iscsi_url("disk");
        qemu_io(&url, &["write -P 7 8M 1M", "write -P 8 32M 64k", "discard 8M 512k", "flush"])?;
        let expected = [((8 << 20) + (512 << 10), 512 << 10), (32 << 20, 64 << 10)];
        assert_eq!(data_extents(&url)?, expected, "{backing}");
        assert_eq!(data_extents(&target.uri("disk"))?, expected, "{backing} over NBD");
        target.stop()?;
    }
    Ok(())
}

#[test]
fn blocks_of_4096_bytes_are_served() -> Result<()> {
    if lacks_iscsi() || lacks(&["iscsi-readcapacity16"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 32 << 20, 5)?;
    let target = Launch::new(&scratch)
        .iscsi()
        .volume(&backings(&scratch, 32 * MIB)[1])
        .tables(&target_table("large", "", &[("disk", "block_size = 4096")]))
        .start()?;
    let url = target.iscsi_url("large");
    let capacity = Tool::new("iscsi-readcapacity16").arg(&url).ok()?;
    ensure!(capacity.contains("ADDRESS:8191") && capacity.contains("4096"), "{capacity}");
    copy_in(&source, &url)?;
    compare(&source, &url)?;
    compare(&source, &target.uri("disk"))?;
    target.stop()?;
    Ok(())
}

#[test]
fn one_target_has_units_that_live_on_several_cores() -> Result<()> {
    if lacks_iscsi() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let file = format!("second={},size=32M", scratch.join("second.img").display());
    let target = Launch::new(&scratch)
        .two_cores()
        .iscsi()
        .volume("first=memory,size=32M")
        .volume(file)
        .volume("third=memory,size=32M")
        .tables(&target_table("all", "", &[("first", ""), ("second", ""), ("third", "")]))
        .start()?;
    for (lun, volume) in (0u64..).zip(["first", "second", "third"]) {
        let source = scratch.image(volume, 32 << 20, 20 + lun)?;
        let url = target.iscsi_url("all").replace("/0", &format!("/{lun}"));
        copy_in(&source, &url).with_context(|| format!("LUN {lun}"))?;
        compare(&source, &url)?;
        compare(&source, &target.uri(volume))?;
    }
    target.stop()?;
    Ok(())
}

#[test]
fn the_tools_of_libiscsi_are_content() -> Result<()> {
    if lacks(&["iscsi-ls", "iscsi-inq", "iscsi-readcapacity16", "iscsi-perf"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).iscsi().volume("disk=memory,size=64M").start()?;
    let url = target.iscsi_url("disk");
    let listed = Tool::new("iscsi-ls").arg("-s").arg(format!("iscsi://{}", target.iscsi_address())).ok()?;
    ensure!(
        listed.contains(":disk") && listed.contains("Lun:0") && listed.contains("DIRECT_ACCESS"),
        "{listed}"
    );
    let inquiry = Tool::new("iscsi-inq").arg(&url).ok()?;
    ensure!(inquiry.contains("Vendor:RINGSAN") && inquiry.contains("DIRECT_ACCESS"), "{inquiry}");
    for page in ["0x00", "0x80", "0x83", "0xb0", "0xb1", "0xb2"] {
        Tool::new("iscsi-inq")
            .args(["-e", "1", "-c", page])
            .arg(&url)
            .ok()
            .with_context(|| page.to_owned())?;
    }
    let capacity = Tool::new("iscsi-readcapacity16").arg(&url).ok()?;
    ensure!(capacity.contains("ADDRESS:131071") && capacity.contains("BYTES:512"), "{capacity}");
    Tool::new("iscsi-perf").args(["-r", "-m", "32", "-b", "8", "-t", "2"]).arg(&url).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn fio_verifies_what_goes_through_qemu() -> Result<()> {
    if lacks_iscsi() || lacks(&["fio"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).iscsi().volume(&backing).start()?;
        let bridge = Bridge::start(&scratch, &target)?;
        bridge.fio().args(["--size=48M", "--io_size=24M"]).ok().with_context(|| backing.clone())?;
        drop(bridge);
        target.stop()?;
    }
    Ok(())
}

#[test]
fn a_restart_under_load_is_no_error_for_libiscsi() -> Result<()> {
    if lacks_iscsi() || lacks(&["fio"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).iscsi().volume(&backings(&scratch, 64 * MIB)[1]).start()?;
    let bridge = Bridge::start(&scratch, &target)?;
    // slow enough to last through the restarts on any machine
    let load = bridge.fio().args(["--size=32M", "--bs=16k", "--rate=3M"]);
    let load = std::thread::spawn(move || load.seconds(200).ok());
    await_writes(&target)?;
    let target = target.stop()?.start()?;
    await_writes(&target)?;
    let target = target.kill()?.start()?;
    await_writes(&target)?;
    ensure!(!load.is_finished(), "the load was over before the target was back");
    load.join().expect("a tool does not panic")?;
    drop(bridge);
    target.stop()?;
    Ok(())
}

/// Waits until clients of this process of the daemon have written something.
fn await_writes(target: &Target) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let metrics = target.get("/metrics")?;
        let writes = metrics.lines().filter(|line| {
            line.starts_with("ringsan_volume_requests_total") && line.contains("operation=\"write\"")
        });
        if writes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() > 20.0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "nobody writes:\n{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// QEMU as an initiator, which offers the disk to fio over NBD: Debian's fio speaks no iSCSI.
struct Bridge {
    qemu_nbd: Child,
    socket: PathBuf,
}

impl Bridge {
    fn start(scratch: &Scratch, target: &Target) -> Result<Bridge> {
        let socket = scratch.join("bridge.sock");
        let _ = std::fs::remove_file(&socket); // of an earlier one
        let mut command = Command::new(iscsi_tool("qemu-nbd").name());
        command.args(["--persistent", "--shared=8", "--format=raw", "--socket"]);
        command.arg(&socket).arg(target.iscsi_url("disk")).stdin(Stdio::null());
        let mut bridge = Bridge { qemu_nbd: command.spawn().context("starting qemu-nbd")?, socket };
        let end = Instant::now() + Duration::from_secs(20);
        while !bridge.socket.exists() {
            ensure!(bridge.qemu_nbd.try_wait()?.is_none(), "qemu-nbd ended");
            ensure!(Instant::now() < end, "qemu-nbd is not ready after 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(bridge)
    }

    fn fio(&self) -> Tool {
        let uri = format!("--uri=nbd+unix:///?socket={}", self.socket.display());
        Tool::new("fio").args(["--name=verify", "--ioengine=nbd", &uri]).args([
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=32",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--output=/dev/null",
        ])
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.qemu_nbd.kill();
        let _ = self.qemu_nbd.wait();
    }
}

fn copy_in(source: &Path, url: &str) -> Result<()> {
    let convert = ["convert", "-n", "-f", "raw", "-O", "raw", "-m", "16", "-W"];
    iscsi_tool("qemu-img").args(convert).arg(source).arg(url).ok().map(drop)
}

fn compare(source: &Path, url: &str) -> Result<()> {
    iscsi_tool("qemu-img").args(["compare", "-f", "raw", "-F", "raw"]).arg(source).arg(url).ok().map(drop)
}

fn qemu_io(url: &str, commands: &[&str]) -> Result<()> {
    let words = commands.iter().flat_map(|command| ["-c", command]);
    let said = iscsi_tool("qemu-io").args(["-f", "raw"]).args(words).arg(url).ok()?;
    ensure!(!said.contains("failed"), "{said}");
    Ok(())
}

/// Start and length of what `qemu-img map` calls data.
fn data_extents(url: &str) -> Result<Vec<(u64, u64)>> {
    let map = iscsi_tool("qemu-img").args(["map", "--output=json", "-f", "raw", url]).ok()?;
    let number = |extent: &Value, key| extent[key].as_u64().context("qemu-img prints numbers");
    let extents: Vec<Value> = serde_json::from_str(&map)?;
    let data = extents.iter().filter(|extent| extent["data"] == true);
    data.map(|extent| Ok((number(extent, "start")?, number(extent, "length")?))).collect()
}
