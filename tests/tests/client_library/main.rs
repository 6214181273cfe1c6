//! Our NBD client's library against our target and other people's servers, one suite for all; and over connections
//! that are cut.

mod cuts;
mod servers;
mod suite;
mod tls;

use anyhow::Result;
use nbd_client::ConnectOptions;
use tests::skip::lacks;

use servers::Server;

#[test]
fn ringsan_serves_the_client() -> Result<()> {
    everything(&Server::ringsan()?)
}

#[test]
fn nbdkit_serves_the_client() -> Result<()> {
    if lacks(&["nbdkit"]) {
        return Ok(());
    }
    everything(&Server::nbdkit()?)
}

#[test]
fn qemu_nbd_serves_the_client() -> Result<()> {
    if lacks(&["qemu-nbd"]) {
        return Ok(());
    }
    everything(&Server::qemu_nbd()?)
}

#[test]
fn nbd_server_serves_the_client() -> Result<()> {
    if lacks(&["nbd-server"]) {
        return Ok(());
    }
    everything(&Server::nbd_server()?)
}

/// With every kind of reply that the client can ask for, and over more connections than one.
fn everything(server: &Server) -> Result<()> {
    let default = ConnectOptions::default;
    for options in [
        default(),
        ConnectOptions { extended_headers: false, ..default() },
        ConnectOptions { extended_headers: false, structured_replies: false, ..default() },
        ConnectOptions { connections: 4, in_flight_max: 3, ..default() },
    ] {
        suite::run(server, &options)?;
    }
    suite::refusals(server)
}
