//! The floor's side of NBD: the handshake, and how its requests and replies look.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use anyhow::Result;
use wire::nbd::handshake::{ExportInfo, ExportTable, Negotiation, ServerPolicy, Step};
use wire::nbd::transmission::{Cookie, REQUEST_BYTES, TransmissionFlags, put_simple_reply};

use crate::floor::{Echo, Form, SIZE_BYTES, VOLUME};

const COOKIE: Range<usize> = 8..16;

/// How `echo` looks.
pub fn form(echo: &Echo) -> Form {
    let mut header = Vec::new();
    put_simple_reply(&mut header, Cookie(0), None);
    Form {
        request_bytes: REQUEST_BYTES,
        request_payload: echo.request_payload(),
        header,
        reply_payload: echo.reply_payload(),
        digest_bytes: 0,
        answer: |request, reply| reply[COOKIE].copy_from_slice(&request[COOKIE]),
    }
}

/// `false` when the client went away, as one does that only looks whether the server is there.
pub fn negotiate(stream: &mut TcpStream) -> Result<bool> {
    let exports = ExportTable::from_iter([export()]);
    let mut out = Vec::new();
    let mut negotiation = Negotiation::new(ServerPolicy::default(), &mut out);
    let mut input = Vec::new();
    loop {
        stream.write_all(&out)?;
        out.clear();
        let (taken, step) = negotiation.step(&input, &exports, &mut out);
        input.drain(..taken);
        match step {
            Step::Agreed(_) => {
                stream.write_all(&out)?;
                return Ok(true);
            }
            Step::Close(_) | Step::StartTls => return Ok(false),
            Step::More if !input.is_empty() => {}
            Step::More => {
                let mut bytes = [0; 1024];
                let received = stream.read(&mut bytes)?;
                if received == 0 {
                    return Ok(false);
                }
                input.extend_from_slice(&bytes[..received]);
            }
        }
    }
}

fn export() -> ExportInfo {
    ExportInfo {
        name: VOLUME.into(),
        description: String::new(),
        size_bytes: SIZE_BYTES,
        flags: TransmissionFlags::CAN_MULTI_CONN,
        block_min: 1,
        block_preferred: 4096,
        payload_max: 32 << 20,
        offers_allocation: false,
        labels: Vec::new(),
    }
}
