//! The ways in: TCP over IPv4 and IPv6, unix sockets, sockets inherited from systemd.

use std::net::TcpListener;

use anyhow::Result;
use tests::nbd::Client;
use tests::skip::{lacks, skip};
use tests::tool::nbdsh;
use tests::{Launch, Scratch, Tool};

const ROUND_TRIP: &str = "
h.pwrite(b'w' * 65536, 4096)
h.flush()
assert h.pread(65536, 4096) == b'w' * 65536";

#[test]
fn a_unix_socket_serves_and_is_gone_after_the_stop() -> Result<()> {
    if lacks(&["nbdsh", "qemu-io"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let socket = scratch.join("nbd.sock");
    let launch = Launch::new(&scratch).without_tcp().volume("disk=memory,size=64M");
    let target = launch.portal(format!("unix:{}", socket.display())).start()?;
    let uri = format!("nbd+unix:///disk?socket={}", socket.display());
    nbdsh(&uri, ROUND_TRIP).ok()?;
    Tool::new("qemu-io").args(["-f", "raw", "-c", "read -P 0x77 4096 65536", &uri]).ok()?;
    let launch = target.stop()?;
    assert!(!socket.exists(), "the socket is still there");
    let target = launch.start()?;
    target.kill()?.start()?; // a socket that a killed daemon left behind is no obstacle
    Ok(())
}

#[test]
fn two_daemons_never_share_a_unix_socket() -> Result<()> {
    let scratch = Scratch::new()?;
    let other = Scratch::new()?;
    let portal = format!("unix:{}", scratch.join("nbd.sock").display());
    let first = Launch::new(&scratch).volume("disk=memory,size=64M").portal(&portal).start()?;
    let said = Launch::new(&other).volume("disk=memory,size=64M").portal(&portal).refused(1)?;
    assert!(said.contains("nbd.sock"), "{said}");
    first.stop()?;
    Ok(())
}

#[test]
fn ipv6_serves() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    if TcpListener::bind("[::1]:0").is_err() && skip("no IPv6 here") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).without_tcp().volume("disk=memory,size=64M");
    let address = format!("[::1]:{}", launch.address().port());
    let target = launch.portal(&address).start()?;
    nbdsh(&format!("nbd://{address}/disk"), ROUND_TRIP).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn several_portals_serve_the_same_volume() -> Result<()> {
    let scratch = Scratch::new()?;
    let second = tests::launch::free_address();
    let target = Launch::new(&scratch).volume("disk=memory,size=64M").portal(second.to_string()).start()?;
    Client::attach(target.address(), "disk")?.write(0, b"through the first".repeat(512).as_slice())?;
    let read = Client::attach(second, "disk")?.read(0, 512)?;
    assert!(read.starts_with(b"through the first"));
    target.stop()?;
    Ok(())
}

#[test]
fn a_busy_port_is_refused_by_name() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch =
        Launch::new(&scratch).volume(format!("disk={},size=64M", scratch.join("disk.img").display()));
    let _holder = TcpListener::bind(launch.address())?;
    let address = launch.address().to_string();
    let said = launch.refused(1)?;
    assert!(said.contains(&address), "{said}");
    assert!(!scratch.join("disk.img").exists(), "a refused start made a file");
    Ok(())
}

#[test]
fn a_listening_socket_from_systemd_serves() -> Result<()> {
    if lacks(&["nbdsh", "/usr/bin/systemd-socket-activate"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).without_tcp().volume("disk=memory,size=64M");
    let address = launch.address().to_string();
    // the daemon starts with the first connection, so readiness comes after it
    let target = launch.under(&["/usr/bin/systemd-socket-activate", "--listen", &address]).start_unready()?;
    target.await_log(&["Listening on"])?;
    nbdsh(&format!("nbd://{address}/disk"), ROUND_TRIP).ok()?;
    target.await_ready()?;
    target.stop()?;
    Ok(())
}
