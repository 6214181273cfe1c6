//! Clients that vanish, crowd, stall and never read. Memory stays bounded, and a well-behaved one is served.

use std::net::Shutdown;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use tests::nbd::{self, Client, OPT_LIST};
use tests::scratch::random;
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

/// Growth of resident memory that a crowd may cause: its limits are set far below this.
const GROWTH_MAX: u64 = 48 * MIB;

#[test]
fn clients_that_vanish_in_a_payload_leave_nothing_behind() -> Result<()> {
    let (_scratch, mut target) = start(|launch| launch)?;
    let mut witness = Client::attach(target.address(), "disk")?;
    let before = target.resident_bytes()?;
    for number in 0..300u64 {
        let mut client = Client::attach(target.address(), "disk")?;
        client.request(nbd::CMD_WRITE, 0, 1, MIB, 1 << 20)?;
        client.send(&random(number, 100 * number as usize))?;
        match number % 3 {
            0 => drop(client),
            1 => client.stream().shutdown(Shutdown::Write)?,
            _ => reset(client)?,
        }
        witness.write(0, &[number as u8; 4096])?;
    }
    bounded(&mut target, before)?;
    await_clients(&target, 1)?;
    target.stop()?;
    Ok(())
}

#[test]
fn clients_that_vanish_in_the_payload_of_a_refused_write_leave_nothing_behind() -> Result<()> {
    let (_scratch, target) = start(|launch| launch)?;
    let _witness = Client::attach(target.address(), "disk")?;
    for _ in 0..20 {
        let mut client = Client::attach(target.address(), "disk")?;
        client.request(nbd::CMD_WRITE, 0, 1, 1 << 40, 1 << 20)?;
        client.send(&random(1, 100))?;
        drop(client);
    }
    await_clients(&target, 1)?;
    target.stop()?;
    Ok(())
}

#[test]
fn clients_that_vanish_with_reads_in_flight_leave_nothing_behind() -> Result<()> {
    let (_scratch, mut target) = start(|launch| launch)?;
    let before = target.resident_bytes()?;
    for _ in 0..100 {
        let mut client = Client::attach(target.address(), "disk")?;
        for number in 0..64 {
            client.request(nbd::CMD_READ, 0, number, number << 18, 1 << 18)?;
        }
        reset(client)?;
    }
    bounded(&mut target, before)?;
    await_clients(&target, 0)?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_thousand_clients_are_served() -> Result<()> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.1;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    ensure!(limit >= 1100, "this test needs 1100 file descriptors, and may have {limit}");
    let (_scratch, mut target) = start(|launch| launch.nbd_setting("connections_max = 1001"))?;
    let before = target.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..1000u64 {
        let mut client =
            Client::attach(target.address(), "disk").with_context(|| format!("client {number}"))?;
        client.write(number * 4096, &number.to_be_bytes().repeat(512))?;
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.request(nbd::CMD_READ, 0, number as u64, number as u64 * 4096, 4096)?;
    }
    for (number, client) in (0u64..).zip(&mut clients) {
        assert_eq!(client.reply()?, (0, number));
        assert_eq!(client.receive(4096)?, number.to_be_bytes().repeat(512));
    }
    let after = target.resident_bytes()?;
    ensure!(after < before + 1000 * 64 * 1024 + 8 * MIB, "1000 clients take {} bytes", after - before);
    drop(clients);
    await_clients(&target, 0)?;
    target.assert_serves("disk")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn the_limit_of_clients_turns_the_next_away_until_one_leaves() -> Result<()> {
    let (_scratch, target) = start(|launch| launch.nbd_setting("connections_max = 5"))?;
    let mut clients = (0..5).map(|_| Client::attach(target.address(), "disk")).collect::<Result<Vec<_>>>()?;
    assert!(Client::attach(target.address(), "disk").is_err(), "a sixth client was let in");
    for client in &mut clients {
        client.write(0, &[1; 512])?;
    }
    clients.pop();
    await_clients(&target, 4)?;
    clients.push(Client::attach(target.address(), "disk")?);
    drop(clients);
    target.stop()?;
    Ok(())
}

#[test]
fn clients_that_never_read_are_stopped_not_buffered() -> Result<()> {
    let (_scratch, mut target) = start(|launch| launch.nbd_setting("stall_timeout = \"2s\""))?;
    let before = target.resident_bytes()?;
    let frames = nbd::request_frame(nbd::CMD_READ, 0, 1, 0, 64 << 10).repeat(100);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::attach(target.address(), "disk")?;
        client.flood(&frames, Duration::from_millis(100))?;
        clients.push(client);
    }
    bounded(&mut target, before)?;
    await_clients(&target, 0).context("a client that takes nothing is dropped")?;
    target.stop()?;
    Ok(())
}

#[test]
fn slow_readers_hold_up_nobody() -> Result<()> {
    let (_scratch, mut target) = start(|launch| launch)?;
    let before = target.resident_bytes()?;
    let mut slow = (0..20).map(|_| Client::attach(target.address(), "disk")).collect::<Result<Vec<_>>>()?;
    for client in &mut slow {
        for number in 0..16 {
            client.request(nbd::CMD_READ, 0, number, 0, 1 << 20)?;
        }
    }
    for _ in 0..50 {
        for client in &mut slow {
            client.receive(64)?;
        }
        target.assert_serves("disk")?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn clients_that_do_not_finish_negotiation_are_dropped() -> Result<()> {
    let (_scratch, mut target) = start(|launch| launch.nbd_setting("handshake_timeout = \"700ms\""))?;
    let mut silent = Client::connect(target.address())?;
    let mut greeted = Client::greet(target.address())?;
    let mut halfway = Client::greet(target.address())?;
    halfway.send(b"IHAVEOPT\0\0")?;
    let mut talkative = Client::greet(target.address())?;
    while talkative.option(OPT_LIST, &[]).is_ok() && talkative.option_reply(OPT_LIST).is_ok() {}
    target.assert_serves("disk")?;
    for client in [&mut silent, &mut greeted, &mut halfway] {
        client.ended()?;
    }
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn an_attached_client_may_be_idle_for_longer_than_the_handshake_timeout() -> Result<()> {
    let (_scratch, target) = start(|launch| launch.nbd_setting("handshake_timeout = \"300ms\""))?;
    let mut idle = Client::attach(target.address(), "disk")?;
    let mut silent = Client::connect(target.address())?;
    silent.ended()?; // by then the time is over for both
    idle.write(0, &[1; 512])?;
    target.stop()?;
    Ok(())
}

fn start(setting: impl FnOnce(Launch) -> Launch) -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    // a file, so that the volume's bytes are not the daemon's memory
    let volume = format!("disk={},size=64M,cache=buffered", scratch.join("disk.img").display());
    let launch = Launch::new(&scratch).volume(volume).nbd_setting("inflight_bytes_max = \"4M\"");
    let target = setting(launch).start()?;
    Ok((scratch, target))
}

/// Ends a connection with a reset instead of an orderly end.
fn reset(client: Client) -> Result<()> {
    let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(client.stream(), sockopt::Linger, &now)?)
}

fn bounded(target: &mut Target, before: u64) -> Result<()> {
    target.assert_alive()?;
    target.assert_serves("disk")?;
    let after = target.resident_bytes()?;
    ensure!(after < before + GROWTH_MAX, "resident memory grew from {before} to {after} bytes");
    Ok(())
}

/// Waits until the daemon counts so many clients.
fn await_clients(target: &Target, wanted: usize) -> Result<()> {
    target.await_status("clients", |status| {
        status["clients"].as_array().is_some_and(|list| list.len() == wanted)
    })
}
