//! Connects and negotiates: the blocking mover around `wire::nbd::dial`.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use socket2::Socket;
use wire::nbd::dial::{Dial, DialOptions, DialStep, Dialed};

use crate::address::Address;
use crate::load::ReplyKind;

/// A blocking socket in transmission, and what the server told; it speaks the replies asked for, or it is an error.
pub fn negotiated(address: &Address, export: &str, replies: ReplyKind) -> Result<(Socket, Dialed)> {
    let socket = address.connect()?;
    let dialed = negotiate(&socket, wishes(export, replies))
        .with_context(|| format!("cannot negotiate with {address}"))?;
    if dialed.style != replies.style() {
        bail!("{address} does not speak {replies:?} replies; ask for --replies simple");
    }
    Ok((socket, dialed))
}

fn wishes(export: &str, replies: ReplyKind) -> DialOptions {
    DialOptions {
        export: export.into(),
        want_structured: replies == ReplyKind::Structured,
        want_extended: replies == ReplyKind::Extended,
        ..DialOptions::default()
    }
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
