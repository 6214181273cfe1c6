//! Clients that want more than there is, of memory and of time, each get their turn: no request waits for ever.

use std::io::ErrorKind;

use anyhow::Result;
use tests::nbd::{self, Client, request_frame};
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

/// `NBD_CMD_WRITE_ZEROES` and its flag `NBD_CMD_FLAG_NO_HOLE`.
const CMD_WRITE_ZEROES: u16 = 6;
const FLAG_NO_HOLE: u16 = 2;

/// A core with the smallest arena, that serves a file.
fn start(scratch: &Scratch, nbd_setting: &str) -> Result<Target> {
    let file = scratch.join("disk.img");
    let launch = Launch::new(scratch).tables("[cores]\narena = \"4M\"").nbd_setting(nbd_setting);
    launch.volume(format!("disk={},size=64M", file.display())).start()
}

#[test]
fn long_reads_in_simple_replies_share_too_little_memory() -> Result<()> {
    for setting in ["", "inflight_bytes_max = \"1M\""] {
        let scratch = Scratch::new()?;
        let target = start(&scratch, setting)?;
        for (count, length, others) in [(40, 8 << 20, 8 << 20), (100, 32 << 20, 256 << 10)] {
            let mut client = Client::attach(target.address(), "disk")?;
            let length_of = |cookie| if cookie == 0 { length } else { others };
            let frames =
                (0..count).map(|cookie| request_frame(nbd::CMD_READ, 0, cookie, 0, length_of(cookie)));
            client.send(&frames.flatten().collect::<Vec<u8>>())?;
            for _ in 0..count {
                let (error, cookie) = client.reply()?;
                assert_eq!(error, 0);
                client.receive(length_of(cookie) as usize)?;
            }
        }
        target.stop()?;
    }
    Ok(())
}

#[test]
fn payloads_that_never_come_keep_no_reader_waiting() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch, "")?;
    let mut promising = Vec::new();
    for _ in 0..60 {
        let mut client = Client::attach(target.address(), "disk")?;
        client.request(nbd::CMD_READ, 0, 7, 0, 512)?;
        client.request(nbd::CMD_WRITE, 0, 8, MIB, 256 << 10)?;
        client.reply()?;
        promising.push(client);
    }
    let mut reader = Client::attach(target.address(), "disk")?;
    for number in 0..64 {
        reader.request(nbd::CMD_READ, 0, number, number << 18, 256 << 10)?;
    }
    for _ in 0..64 {
        assert_eq!(reader.reply()?.0, 0);
        reader.receive(256 << 10)?;
    }
    target.stop()?;
    Ok(())
}

#[test]
fn zeroing_much_memory_lets_others_in_between() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=512M").start()?;
    let mut zeroing = Client::attach(target.address(), "disk")?;
    let mut witness = Client::attach(target.address(), "disk")?;
    zeroing.request(CMD_WRITE_ZEROES, FLAG_NO_HOLE, 1, 0, 512 << 20)?;
    zeroing.stream().set_nonblocking(true)?;
    let mut served = 0;
    while is_silent(&zeroing)? {
        witness.read(0, 1)?;
        served += 1;
    }
    zeroing.stream().set_nonblocking(false)?;
    assert_eq!(zeroing.reply()?, (0, 1));
    assert!(served > 4, "{served} reads were answered while 512 MiB were zeroed");
    target.stop()?;
    Ok(())
}

fn is_silent(client: &Client) -> Result<bool> {
    match client.stream().peek(&mut [0]) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error.into()),
    }
}
