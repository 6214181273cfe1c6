//! libnbd's tools against the daemon: nbdinfo, nbdcopy, nbdsh.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::skip::lacks;
use tests::tool::{nbdsh, nbdsh_after};
use tests::{Launch, MIB, Scratch, Tool, backings};

#[test]
fn nbdinfo_tells_size_and_abilities() -> Result<()> {
    if lacks(&["nbdinfo"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let info: Value =
            serde_json::from_str(&Tool::new("nbdinfo").args(["--json", &target.uri("disk")]).ok()?)?;
        let export = &info["exports"][0];
        assert_eq!(export["export-size"], 64 * MIB, "{backing}");
        assert_eq!(info["structured"], true, "{backing}");
        for ability in
            ["can_cache", "can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"]
        {
            assert_eq!(export[ability], true, "{ability} of {backing}");
        }
        assert_eq!(export["is_read_only"], false, "{backing}");
        let (minimum, preferred) =
            (number(&export["block_size_minimum"])?, number(&export["block_size_preferred"])?);
        assert!(minimum.is_power_of_two() && minimum <= preferred, "{minimum} and {preferred} of {backing}");
        target.stop()?;
    }
    Ok(())
}

#[test]
fn nbdinfo_lists_every_export_and_refuses_others() -> Result<()> {
    if lacks(&["nbdinfo"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let launch = (0..20).fold(Launch::new(&scratch), |launch, number| {
        launch.volume(format!("volume {number}=memory,size={}", (number + 1) * MIB))
    });
    let target = launch.start()?;
    let list =
        Tool::new("nbdinfo").args(["--list", "--json", &format!("nbd://{}", target.address())]).ok()?;
    let list: Value = serde_json::from_str(&list)?;
    let exports = list["exports"].as_array().context("a list of exports")?;
    assert_eq!(exports.len(), 20);
    for number in 0..20 {
        let name = format!("volume {number}");
        let export =
            exports.iter().find(|export| export["export-name"] == name).with_context(|| name.clone())?;
        assert_eq!(export["export-size"], (number + 1) * MIB, "{name}");
    }
    Tool::new("nbdinfo").arg(target.uri("another")).fails()?;
    target.stop()?;
    Ok(())
}

#[test]
fn nbdcopy_there_and_back_keeps_every_byte() -> Result<()> {
    if lacks(&["nbdcopy"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 96 << 20, 1)?;
    for backing in backings(&scratch, 96 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        for options in
            [&["--connections=4", "--requests=64"][..], &["--synchronous"], &["--request-size=33554432"]]
        {
            let copy = scratch.join("copy");
            Tool::new("nbdcopy").args(options).arg("--flush").arg(&source).arg(target.uri("disk")).ok()?;
            Tool::new("nbdcopy").args(options).arg(target.uri("disk")).arg(&copy).ok()?;
            Tool::new("cmp").args([&source, &copy]).ok().with_context(|| format!("{backing} {options:?}"))?;
            fs::remove_file(copy)?;
        }
        target.stop()?;
    }
    for file in ["auto.img", "buffered.img"] {
        Tool::new("cmp").args([&source, &scratch.join(file)]).ok()?;
    }
    Ok(())
}

#[test]
fn holes_of_a_copied_image_stay_holes() -> Result<()> {
    if lacks(&["nbdcopy", "nbdinfo"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let source = scratch.image("source", 64 << 20, 2)?;
    let file = scratch.join("disk.img");
    let target = Launch::new(&scratch).volume(format!("disk={},size=64M", file.display())).start()?;
    Tool::new("nbdcopy").arg("--flush").arg(&source).arg(target.uri("disk")).ok()?;
    let allocated = fs::metadata(&file)?.blocks() * 512;
    ensure!(allocated < 49 * MIB, "48 MiB of data take {allocated} bytes");
    let map = Tool::new("nbdinfo").args(["--map", "--json", &target.uri("disk")]).ok()?;
    let extents: Vec<(u64, u64, u64)> = serde_json::from_str::<Vec<Value>>(&map)?
        .iter()
        .map(|extent| Ok((number(&extent["offset"])?, number(&extent["length"])?, number(&extent["type"])?)))
        .collect::<Result<_>>()?;
    assert_eq!(extents, [(0, 32 * MIB, 0), (32 * MIB, 16 * MIB, 3), (48 * MIB, 16 * MIB, 0)]);
    target.stop()?;
    Ok(())
}

#[test]
fn structured_reads_send_holes_as_holes() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let script = "
seen = []
h.pwrite(b'd' * 65536, 1 << 20)
data = h.pread_structured(3 << 20, 0, lambda data, offset, kind, error: seen.append((offset, len(data), kind)))
assert data == bytes(1 << 20) + b'd' * 65536 + bytes((2 << 20) - 65536)
holes = sum(length for _, length, kind in seen if kind == nbd.READ_HOLE)
assert holes == (3 << 20) - 65536, seen
whole = h.pread_structured(3 << 20, 0, lambda *chunk: 0, nbd.CMD_FLAG_DF)
assert whole == data";
        nbdsh(&target.uri("disk"), script).ok().with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn errors_are_those_of_the_specification() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target =
        Launch::new(&scratch).volume("disk=memory,size=64M").volume("ro=memory,size=64M,readonly").start()?;
    let script = "
import errno
def expect(wanted, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errnum == wanted, (call, args, error)
    else:
        raise AssertionError('%r %r succeeded' % (call, args))
end = h.get_size()
";
    let inside = "
expect(errno.EINVAL, h.pread, 512, end)
expect(errno.EINVAL, h.pread, 1024, end - 512)
expect(errno.EINVAL, h.pread, 512, 1 << 63)
expect(errno.ENOSPC, h.pwrite, b'x' * 512, end)
expect(errno.ENOSPC, h.zero, 1024, end - 512)
expect(errno.EINVAL, h.pread, 512, 0, 1 << 14)
expect(errno.EINVAL, h.flush, 1 << 9)
assert h.pread(512, end - 512) == bytes(512)";
    nbdsh_after("h.set_strict_mode(0)", &target.uri("disk"), &format!("{script}{inside}")).ok()?;
    let read_only = "
for call, args in ((h.pwrite, (b'x' * 512, 0)), (h.zero, (512, 0)), (h.trim, (512, 0))):
    expect(errno.EPERM, call, *args)
h.flush()
assert h.is_read_only() and h.pread(512, 0) == bytes(512)";
    nbdsh_after("h.set_strict_mode(0)", &target.uri("ro"), &format!("{script}{read_only}")).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn odd_offsets_and_lengths_keep_their_neighbours() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let script = "
import random
random.seed(7)
unit = h.get_block_size(nbd.SIZE_MINIMUM) or 1
model = bytearray(random.randbytes(1 << 20))
h.pwrite(model, 0)
for turn in range(300):
    offset = random.randrange(0, 1 << 19) // unit * unit
    length = max(unit, random.randrange(1, 20000) // unit * unit)
    if turn % 5 == 4:
        h.zero(length, offset, nbd.CMD_FLAG_NO_HOLE if turn % 2 else 0)
        model[offset:offset + length] = bytes(length)
    else:
        data = random.randbytes(length)
        h.pwrite(data, offset, nbd.CMD_FLAG_FUA if turn % 7 == 0 else 0)
        model[offset:offset + length] = data
    assert h.pread(length + unit, offset) == model[offset:offset + length + unit], (offset, length)
assert h.pread(1 << 20, 0) == model";
        nbdsh(&target.uri("disk"), script).ok().with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn a_hundred_requests_in_flight_land_where_they_belong() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 64 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let script = "
import random
random.seed(11)
def fill(number): return number.to_bytes(8, 'big') * 512
order = list(range(4000)); random.shuffle(order)
buffers = {number: nbd.Buffer.from_bytearray(bytearray(fill(number))) for number in order}
todo = iter(order); left = len(order)
while left or h.aio_in_flight():
    while left and h.aio_in_flight() < 100:
        number = next(todo); left -= 1
        h.aio_pwrite(buffers[number], number * 4096, lambda error: 1)
    h.poll(-1)
h.flush()
for start in range(0, 4000, 250):
    assert h.pread(250 * 4096, start * 4096) == b''.join(fill(number) for number in range(start, start + 250))";
        nbdsh(&target.uri("disk"), script).ok().with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}
