//! Connects and negotiates: the blocking mover around `wire::nbd::dial`.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use wire::nbd::dial::{Dial, DialOptions, DialStep, Dialed};

use crate::address::{Address, Endpoint};
use crate::load::ReplyKind;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A blocking socket in transmission, and what the server told; it speaks the replies asked for, or it is an error.
pub fn dial(address: &Address, replies: ReplyKind) -> Result<(Socket, Dialed)> {
    let socket = connect(&address.endpoint).with_context(|| format!("cannot connect to {address}"))?;
    let dialed = negotiate(&socket, wishes(address, replies))
        .with_context(|| format!("cannot negotiate with {address}"))?;
    if dialed.style != replies.style() {
        bail!("{address} does not speak {replies:?} replies; ask for --replies simple");
    }
    Ok((socket, dialed))
}

fn wishes(address: &Address, replies: ReplyKind) -> DialOptions {
    DialOptions {
        export: address.export.clone(),
        want_structured: replies == ReplyKind::Structured,
        want_extended: replies == ReplyKind::Extended,
        ..DialOptions::default()
    }
}

fn connect(endpoint: &Endpoint) -> Result<Socket> {
    let (domain, protocol) = match endpoint {
        Endpoint::Tcp(address) => (Domain::for_address(*address), Some(Protocol::TCP)),
        Endpoint::Unix(_) => (Domain::UNIX, None),
    };
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    if protocol.is_some() {
        socket.set_tcp_nodelay(true)?;
    }
    socket.connect_timeout(&endpoint.socket_address()?, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

fn negotiate(mut socket: &Socket, wishes: DialOptions) -> Result<Dialed> {
    let mut dial = Dial::new(wishes);
    let (mut input, mut out) = ([0; 4096], Vec::new());
    loop {
        let received = socket.read(&mut input)?;
        if received == 0 {
            bail!("the server hung up");
        }
        let (taken, step) = dial.step(&input[..received], &mut out);
        socket.write_all(&out)?;
        out.clear();
        match step {
            DialStep::More => {}
            DialStep::Agreed(dialed) if taken == received => return Ok(*dialed),
            DialStep::Failed(error) => return Err(error.into()),
            step => bail!("the server answered what was not asked: {step:?}"),
        }
    }
}
