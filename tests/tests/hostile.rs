//! Clients that break the protocol get what the specification says, or lose their connection; nobody else
//! notices.

use anyhow::{Context, Result, ensure};
use tests::nbd::{self, Client, OPT_GO, OPT_INFO, OPT_LIST, REP_ACK, name_payload};
use tests::scratch::{Random, random};
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
const REP_ERR_INVALID: u32 = 1 << 31 | 3;
const REP_ERR_UNKNOWN: u32 = 1 << 31 | 6;
const REP_ERR_TOO_BIG: u32 = 1 << 31 | 9;

#[test]
fn garbage_in_negotiation_ends_only_that_connection() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut witness = Client::attach(target.address(), "disk")?;
    let before = target.resident_bytes()?;
    for seed in 0..200 {
        let mut client = Client::connect(target.address())?;
        client.receive(18)?;
        // the server may close before all of it is sent
        let _ = client.send(&random(seed, 4096));
        client.ended().with_context(|| format!("seed {seed}"))?;
        witness.write(seed * 512, &[7; 512])?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_bad_option_magic_ends_the_connection() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::greet(target.address())?;
    client.send(b"IHAVEOPS\0\0\0\x07\0\0\0\0")?;
    client.ended()?;
    target.stop()?;
    Ok(())
}

#[test]
fn an_option_of_four_gigabytes_takes_no_memory() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let before = target.resident_bytes()?;
    for option in [OPT_GO, OPT_INFO, OPT_LIST, 77] {
        let mut client = Client::greet(target.address())?;
        client.send(&[&b"IHAVEOPT"[..], &option.to_be_bytes(), &u32::MAX.to_be_bytes()].concat())?;
        let _ = client.flood(&[0; 1 << 16], std::time::Duration::from_millis(200));
        target.assert_serves("disk")?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn refused_options_leave_the_negotiation_open() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::greet(target.address())?;
    let long_name = name_payload(&"n".repeat(5000));
    let cases: [(&str, u32, &[u8], &[u32]); 6] = [
        ("unknown option", 99, b"whatever", &[REP_ERR_UNSUP]),
        ("payload of a list", OPT_LIST, b"x", &[REP_ERR_INVALID]),
        ("name beyond the payload", OPT_GO, &[0, 0, 1, 0, b'd', 0, 0], &[REP_ERR_INVALID]),
        ("requests beyond the payload", OPT_GO, &[0, 0, 0, 1, b'd', 0, 9], &[REP_ERR_INVALID]),
        ("long name", OPT_GO, &long_name, &[REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN]),
        ("unknown export", OPT_GO, &name_payload("another"), &[REP_ERR_UNKNOWN]),
    ];
    for (what, option, payload, wanted) in cases {
        client.option(option, payload)?;
        let kind = client.option_reply(option).context(what)?.kind;
        ensure!(wanted.contains(&kind), "{what}: {kind:#x}");
    }
    client.option(OPT_GO, &name_payload("disk"))?;
    while client.option_reply(OPT_GO)?.kind != REP_ACK {}
    client.write(0, &[1; 512])?;
    target.stop()?;
    Ok(())
}

#[test]
fn an_unknown_export_by_export_name_ends_the_connection() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::greet(target.address())?;
    client.option(nbd::OPT_EXPORT_NAME, b"another")?;
    client.ended()?;
    target.stop()?;
    Ok(())
}

#[test]
fn abort_is_acknowledged() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::greet(target.address())?;
    client.option(nbd::OPT_ABORT, &[])?;
    assert_eq!(client.option_reply(nbd::OPT_ABORT)?.kind, REP_ACK);
    client.ended()?;
    target.stop()?;
    Ok(())
}

#[test]
fn garbage_requests_end_only_that_connection() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut witness = Client::attach(target.address(), "disk")?;
    let before = target.resident_bytes()?;
    for seed in 0..200 {
        let mut client = Client::attach(target.address(), "disk")?;
        let _ = client.send(&random(seed, 8192));
        client.ended().with_context(|| format!("seed {seed}"))?;
        witness.write(seed * 512, &[7; 512])?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn requests_that_cannot_be_right_are_answered_and_the_connection_goes_on() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    let end = client.size_bytes;
    let cases = [
        ("unknown command", 99, 0, 0, 512),
        ("unknown flag", nbd::CMD_READ, 1 << 13, 0, 512),
        ("FAST_ZERO on a read", nbd::CMD_READ, 1 << 4, 0, 512),
        ("read beyond the end", nbd::CMD_READ, 0, end, 512),
        ("read across the end", nbd::CMD_READ, 0, end - 512, 1024),
        ("read whose end overflows", nbd::CMD_READ, 0, u64::MAX - 511, 512),
        ("read of 4 GiB", nbd::CMD_READ, 0, 0, u32::MAX),
        ("block status without a context", 7, 0, 0, 512),
    ];
    for (number, (what, command, flags, offset, length)) in (1u64..).zip(cases) {
        client.request(command, flags, number, offset, length)?;
        let (error, cookie) = client.reply().context(what)?;
        ensure!(cookie == number && error == nbd::EINVAL, "{what}: error {error}, cookie {cookie}");
    }
    client.request_write(0, 50, end, &[1; 512])?;
    assert_eq!(client.reply()?, (nbd::ENOSPC, 50), "a write beyond the end; its payload is skipped");
    client.write(0, &[1; 512])?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_write_that_announces_four_gigabytes_takes_no_memory() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let before = target.resident_bytes()?;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::attach(target.address(), "disk")?;
        client.request(nbd::CMD_WRITE, 0, 1, 0, u32::MAX)?;
        let _ = client.send(&[0; 1 << 16]);
        clients.push(client);
    }
    target.assert_serves("disk")?;
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn cut_frames_at_every_byte_do_no_harm() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let go = [&b"IHAVEOPT"[..], &OPT_GO.to_be_bytes(), &10u32.to_be_bytes(), &name_payload("disk")].concat();
    let request = nbd::request_frame(nbd::CMD_WRITE, 0, 1, 0, 4096);
    for cut in 0..go.len() {
        let mut client = Client::greet(target.address())?;
        client.send(&go[..cut])?;
    }
    for cut in 0..request.len() {
        let mut client = Client::attach(target.address(), "disk")?;
        client.send(&request[..cut])?;
    }
    target.assert_serves("disk")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn frames_in_pieces_are_put_together() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    let mut numbers = Random(5);
    let data = random(6, 100_000);
    let mut bytes = nbd::request_frame(nbd::CMD_WRITE, 0, 1, 512, 99_840);
    bytes.extend_from_slice(&data[..99_840]);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + numbers.below(3000) as usize).min(rest.len()));
        client.send(piece)?;
        rest = after;
    }
    assert_eq!(client.reply()?, (0, 1));
    assert!(client.read(512, 99_840)? == data[..99_840]);
    target.stop()?;
    Ok(())
}

fn bounded(target: &mut Target, before: u64) -> Result<()> {
    target.assert_alive()?;
    target.assert_serves("disk")?;
    let after = target.resident_bytes()?;
    ensure!(after < before + 32 * MIB, "resident memory grew from {before} to {after} bytes");
    Ok(())
}
