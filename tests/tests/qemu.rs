//! QEMU's tools against the daemon. From QEMU 8.2 on they speak extended headers with it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::skip::lacks;
use tests::{Launch, MIB, Scratch, Tool, backings};

#[test]
fn convert_and_compare_agree_on_every_backing() -> Result<()> {
    if lacks(&["qemu-img"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 96 << 20, 3)?;
    for backing in backings(&scratch, 96 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let (uri, copy) = (target.uri("disk"), scratch.join("copy"));
        let convert = ["convert", "-n", "-f", "raw", "-O", "raw", "-m", "16", "-W"];
        Tool::new("qemu-img").args(convert).arg(&source).arg(&uri).ok()?;
        Tool::new("qemu-img").args(["compare", "-f", "raw", "-F", "raw"]).arg(&source).arg(&uri).ok()?;
        Tool::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "raw", "-m", "8"])
            .arg(&uri)
            .arg(&copy)
            .ok()?;
        Tool::new("cmp").args([&source, &copy]).ok().with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn an_image_format_lives_on_an_export() -> Result<()> {
    if lacks(&["qemu-img", "qemu-io"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 32 << 20, 4)?;
    let target =
        Launch::new(&scratch).volume(format!("disk={},size=64M", scratch.join("disk").display())).start()?;
    let uri = target.uri("disk");
    Tool::new("qemu-img").args(["create", "-f", "qcow2", &uri, "32M"]).ok()?;
    Tool::new("qemu-img").args(["convert", "-n", "-f", "raw", "-O", "qcow2"]).arg(&source).arg(&uri).ok()?;
    let launch = target.stop()?;
    let target = launch.start()?;
    Tool::new("qemu-img").args(["check", "-f", "qcow2", &uri]).ok()?;
    Tool::new("qemu-img").args(["compare", "-f", "raw", "-F", "qcow2"]).arg(&source).arg(&uri).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn map_tells_data_from_holes() -> Result<()> {
    if lacks(&["qemu-img", "qemu-io"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let uri = target.uri("disk");
        let commands =
            ["-c", "write -P 7 8M 1M", "-c", "write -P 8 32M 64k", "-c", "discard 8M 512k", "-c", "flush"];
        Tool::new("qemu-io").args(["-f", "raw"]).args(commands).arg(&uri).ok()?;
        let map = Tool::new("qemu-img").args(["map", "--output=json", "-f", "raw", &uri]).ok()?;
        let data: Vec<(u64, u64)> = serde_json::from_str::<Vec<Value>>(&map)?
            .iter()
            .filter(|extent| extent["data"] == true)
            .map(|extent| (extent["start"].as_u64().unwrap_or(0), extent["length"].as_u64().unwrap_or(0)))
            .collect();
        assert_eq!(data, [((8 << 20) + (512 << 10), 512 << 10), (32 << 20, 64 << 10)], "{backing}");
        target.stop()?;
    }
    Ok(())
}

#[test]
fn qemu_io_patterns_hold() -> Result<()> {
    if lacks(&["qemu-io"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let commands = [
        "write -P 0x5a 1M 1M",
        "write -P 0x33 1000001 77",
        "read -P 0x33 1000001 77",
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
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let words = commands.iter().flat_map(|command| ["-c", command]);
        let said = Tool::new("qemu-io").args(["-f", "raw"]).args(words).arg(target.uri("disk")).ok()?;
        ensure!(!said.contains("failed"), "{backing}: {said}");
        target.stop()?;
    }
    Ok(())
}
