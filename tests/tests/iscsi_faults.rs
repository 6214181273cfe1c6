//! Initiators that vanish, crowd, stall, never read, or whose bytes are damaged on the way. Memory stays bounded,
//! a well-behaved one is served, and nothing wrong is written.

use std::net::Shutdown;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use tests::iscsi::{Client, Data, Login, NO_TAG, Pdu, read_10, request, response, target_name, write_10};
use tests::scratch::random;
use tests::target::Target;
use tests::{KIB, Launch, MIB, Scratch};

/// Growth of resident memory that a crowd may cause: its limits are set far below this.
const GROWTH_MAX: u64 = 64 * MIB;

fn start(settings: &[&str]) -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    // a file, so that the volume's bytes are not the daemon's memory
    let volume = format!("disk={},size=64M,cache=buffered", scratch.join("disk.img").display());
    let launch = Launch::new(&scratch).iscsi().volume(volume).iscsi_setting("inflight_bytes_max = \"4M\"");
    let launch = settings.iter().fold(launch, |launch, line| launch.iscsi_setting(line));
    Ok((scratch, launch.start()?))
}

/// A session of the initiator's own number `number`.
fn attach(target: &Target, number: u32) -> Result<Client> {
    let login = Login::to(&target_name("disk")).isid(100 + number);
    login.attach(target.iscsi_address()).with_context(|| format!("initiator {number}"))
}

fn bounded(target: &mut Target, before: u64) -> Result<()> {
    target.assert_alive()?;
    target.assert_serves_iscsi("disk")?;
    target.assert_serves("disk")?;
    let after = target.resident_bytes()?;
    ensure!(after < before + GROWTH_MAX, "resident memory grew from {before} to {after} bytes");
    Ok(())
}

/// Ends a connection with a reset instead of an orderly end.
fn reset(client: Client) -> Result<()> {
    let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(client.stream(), sockopt::Linger, &now)?)
}

#[test]
fn initiators_that_vanish_in_a_burst_leave_nothing_behind() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let mut witness = Client::attach(target.iscsi_address(), "disk")?;
    let before = target.resident_bytes()?;
    for number in 0..200 {
        let mut client = attach(&target, number)?;
        let write = client.start(&write_10(2048, 512), Data::Out(512 * 512, &[]))?;
        let r2t = client.answer(response::R2T, write.tag_of())?;
        let first = client.data_out(&write, r2t.word_at(20), 0, 0, &random(1, 8192));
        client.send(&first)?;
        let second = client.data_out(&write, r2t.word_at(20), 1, 8192, &random(2, 8192));
        let frame = client.frame(&second);
        client.send_bytes(&frame[..40 * number as usize])?;
        match number % 3 {
            0 => drop(client),
            1 => client.stream().shutdown(Shutdown::Write)?,
            _ => reset(client)?,
        }
        witness.write(0, &[number as u8; 4096])?;
    }
    bounded(&mut target, before)?;
    target.await_clients(1)?;
    target.stop()?;
    Ok(())
}

#[test]
fn initiators_that_vanish_with_reads_in_flight_leave_nothing_behind() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let before = target.resident_bytes()?;
    for number in 0..100 {
        let mut client = attach(&target, number)?;
        for lba in 0..64 {
            client.start(&read_10(lba * 512, 512), Data::In(512 * 512))?;
        }
        reset(client)?;
    }
    bounded(&mut target, before)?;
    target.await_clients(0)?;
    target.stop()?;
    Ok(())
}

#[test]
fn five_hundred_sessions_are_served() -> Result<()> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.1;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    ensure!(limit >= 700, "this test needs 700 file descriptors, and may have {limit}");
    let (_scratch, mut target) = start(&["connections_max = 510"])?;
    let before = target.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..500u32 {
        let mut client = attach(&target, number)?;
        client.write(number * 8, &number.to_be_bytes().repeat(1024))?;
        clients.push(client);
    }
    let mut reads = Vec::new();
    for (number, client) in (0u32..).zip(&mut clients) {
        reads.push(client.start(&read_10(number * 8, 8), Data::In(4096))?);
    }
    for (number, (client, read)) in clients.iter_mut().zip(&reads).enumerate() {
        let data = client.finish(read, &[])?.good()?;
        ensure!(
            data == (number as u32).to_be_bytes().repeat(1024),
            "initiator {number} reads something else"
        );
    }
    let grown = target.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 500 * 128 * KIB + 16 * MIB, "500 sessions take {grown} bytes");
    drop(clients);
    target.await_clients(0)?;
    target.assert_serves_iscsi("disk")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn the_limit_of_connections_turns_the_next_away_until_one_leaves() -> Result<()> {
    let (_scratch, target) = start(&["connections_max = 5"])?;
    let mut clients = (0..5).map(|number| attach(&target, number)).collect::<Result<Vec<_>>>()?;
    assert!(attach(&target, 5).is_err(), "a sixth session was let in");
    for client in &mut clients {
        client.write(0, &[1; 512])?;
    }
    clients.pop();
    target.await_clients(4)?;
    clients.push(attach(&target, 6)?);
    drop(clients);
    target.stop()?;
    Ok(())
}

#[test]
fn initiators_that_never_read_are_stopped_not_buffered() -> Result<()> {
    let (_scratch, mut target) = start(&["stall_timeout = \"2s\""])?;
    let before = target.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..10 {
        let mut client = attach(&target, number)?;
        for lba in 0..100 {
            client.start(&read_10(lba * 512, 512), Data::In(512 * 512))?;
        }
        clients.push(client);
    }
    bounded(&mut target, before)?;
    target.await_clients(0).context("an initiator that takes nothing is dropped")?;
    target.stop()?;
    Ok(())
}

#[test]
fn slow_readers_hold_up_nobody() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let before = target.resident_bytes()?;
    let mut slow = (0..20).map(|number| attach(&target, number)).collect::<Result<Vec<_>>>()?;
    for client in &mut slow {
        for _ in 0..32 {
            client.start(&read_10(0, 1024), Data::In(1024 * 512))?;
        }
    }
    for _ in 0..50 {
        for client in &mut slow {
            client.receive_bytes(64)?;
        }
        target.assert_serves_iscsi("disk")?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn logins_that_do_not_finish_are_dropped() -> Result<()> {
    let (_scratch, mut target) = start(&["login_timeout = \"700ms\""])?;
    let login = Login::to(&target_name("disk"));
    let mut silent = Client::connect(target.iscsi_address())?;
    let mut halfway = Client::connect(target.iscsi_address())?;
    let frame = login.request(&halfway, 0x87).frame(false, false);
    halfway.send_bytes(&frame[..30])?;
    let mut talkative = Client::connect(target.iscsi_address())?;
    // never asks for the next stage
    let question = login
        .request(&talkative, 0x04)
        .data(b"InitiatorName=iqn.2026-11.test:x\0SessionType=Discovery\0".to_vec());
    talkative.send(&question)?;
    let empty = login.request(&talkative, 0x04);
    while talkative.receive().is_ok() && talkative.send(&empty).is_ok() {}
    target.assert_serves_iscsi("disk")?;
    for client in [&mut silent, &mut halfway] {
        client.ended()?;
    }
    target.await_clients(0)?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_session_may_be_idle_for_longer_than_the_login_timeout() -> Result<()> {
    let (_scratch, target) = start(&["login_timeout = \"300ms\""])?;
    let mut idle = Client::attach(target.iscsi_address(), "disk")?;
    let mut silent = Client::connect(target.iscsi_address())?;
    silent.ended()?; // by then the time is over for both
    idle.write(0, &[1; 512])?;
    target.stop()?;
    Ok(())
}

#[test]
fn idle_initiators_are_pinged_and_dead_ones_dropped() -> Result<()> {
    let (_scratch, target) = start(&["ping_interval = \"200ms\"", "ping_timeout = \"10s\""])?;
    let mut alive = attach(&target, 1)?;
    for _ in 0..5 {
        let ping = alive.receive()?;
        ensure!(ping.opcode() == response::NOP_IN && ping.word_at(20) != NO_TAG, "no ping: {ping:?}");
        let pong = Pdu::new(request::NOP_OUT | request::IMMEDIATE).flags(0x80).tag(NO_TAG);
        let pong = pong.word(20, ping.word_at(20)).word(24, ping.word_at(28)).word(28, ping.word_at(24));
        alive.send(&pong)?;
    }
    alive.write(0, &[1; 512])?;
    target.stop()?;
    let (_scratch, target) = start(&["ping_interval = \"200ms\"", "ping_timeout = \"500ms\""])?;
    let mut dead = attach(&target, 1)?;
    dead.ended()?;
    target.await_clients(0)?;
    target.stop()?;
    Ok(())
}

#[test]
fn half_a_pdu_and_then_silence_ends_the_session() -> Result<()> {
    let settings = ["ping_interval = \"300ms\"", "ping_timeout = \"500ms\"", "stall_timeout = \"1s\""];
    let (_scratch, mut target) = start(&settings)?;
    let before = target.resident_bytes()?;
    for cut in [1, 47, 48, 49, 5000] {
        let mut client = attach(&target, cut)?;
        let write = client.command(&write_10(0, 16), Data::Out(8192, &[0xee; 8192]));
        let frame = client.frame(&write);
        client.send_bytes(&frame[..cut as usize])?;
        client.ended().with_context(|| format!("after {cut} bytes"))?;
    }
    target.await_clients(0)?;
    ensure!(attach(&target, 0)?.read(0, 16)? == [0; 8192], "half a write was carried out");
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

fn with_digests(target: &Target) -> Result<Client> {
    let client = Login::to(&target_name("disk")).digests().attach(target.iscsi_address())?;
    for key in ["HeaderDigest", "DataDigest"] {
        ensure!(client.key(key) == Some("CRC32C"), "{key} was not agreed on");
    }
    Ok(client)
}

#[test]
fn a_damaged_header_ends_the_session_and_a_new_one_goes_on() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut witness = attach(&target, 1)?;
    for damaged in 0..52 {
        let mut client = with_digests(&target)?;
        client.write(0, &[1; 4096])?;
        let write = client.command(&write_10(0, 8), Data::Out(4096, &[0xee; 4096]));
        let mut frame = client.frame(&write);
        frame[damaged] ^= 0x10;
        let _ = client.send_bytes(&frame); // the target may have closed after the header
        // a length that grew makes it wait for more
        let _ = client.stream().shutdown(Shutdown::Write);
        client.ended().with_context(|| format!("byte {damaged}"))?;
        ensure!(witness.read(0, 8)? == [1; 4096], "byte {damaged}: the damaged write was carried out");
    }
    with_digests(&target)?.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn damaged_data_is_never_written() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut witness = attach(&target, 1)?;
    let lengths = [512, 4096, 65536];
    for (round, bytes) in lengths.into_iter().cycle().take(12).enumerate() {
        let mut client = with_digests(&target)?;
        let blocks = (bytes / 512) as u16;
        let old = vec![0x11; bytes];
        client.write(0, &old)?;
        let new = vec![0x22; bytes];
        let is_immediate = round % 2 == 0 && bytes <= 4096;
        let write = match is_immediate {
            true => client.command(&write_10(0, blocks), Data::Out(bytes as u32, &new)),
            false => client.start(&write_10(0, blocks), Data::Out(bytes as u32, &[]))?,
        };
        let last = match is_immediate {
            true => write,
            false => {
                let r2t = client.answer(response::R2T, write.tag_of())?;
                let (first, rest) = new.split_at(bytes / 2);
                let pdu = client.data_out(&write, r2t.word_at(20), 0, 0, first);
                client.send(&pdu)?;
                client.data_out(&write, r2t.word_at(20), 1, first.len() as u32, rest).flags(0x80)
            }
        };
        let mut frame = client.frame(&last);
        let len = frame.len();
        frame[len - 100] ^= 0x08;
        client.send_bytes(&frame)?;
        client.ended().with_context(|| format!("round {round}"))?;
        let now = witness.read(0, blocks)?;
        ensure!(
            now.iter().all(|byte| [0x11, 0x22].contains(byte)),
            "round {round}: damaged bytes were written"
        );
    }
    with_digests(&target)?.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn digests_cover_odd_lengths_and_pings() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut client = with_digests(&target)?;
    for len in 1..9 {
        let ping = client.request(request::NOP_OUT).flags(0x80).word(20, NO_TAG).data(random(9, len));
        client.send(&ping)?;
        ensure!(client.answer(response::NOP_IN, ping.tag_of())?.data == ping.data, "{len} bytes");
    }
    let data = random(3, 512 * 1000);
    client.write(5, &data)?;
    ensure!(client.read(5, 1000)? == data, "what was written reads otherwise");
    client.text(&[("SendTargets", "")])?;
    client.logout()?;
    target.stop()?;
    Ok(())
}
