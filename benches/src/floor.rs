//! The floor: a server that only moves the bytes. What no target over this socket can go below.
//!
//! One read takes whatever has arrived, one write answers all of it: N requests of 28 bytes with N replies of
//! 16 + 4096, or N of 28 + 4096 with N of 16. It looks at nothing but cookies: the sizes are told beforehand.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use wire::nbd::handshake::{ExportInfo, ExportTable, Negotiation, ServerPolicy, Step};
use wire::nbd::transmission::{
    Cookie, REQUEST_BYTES, SIMPLE_REPLY_BYTES, TransmissionFlags, put_simple_reply,
};

use crate::load::{Load, Random};

/// The name of its export.
pub const EXPORT: &str = "disk";

const SIZE_BYTES: u64 = 1 << 30;
const INBOX_BYTES: usize = 256 << 10;
const OUTBOX_BYTES: usize = 2 << 20;
const COOKIE: Range<usize> = 8..16;

/// What the floor answers, and to how many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Bytes that follow each request.
    pub request_payload: usize,
    /// Bytes that follow each reply.
    pub reply_payload: usize,
    /// Several clients at once, which costs a poll(2) in each turn.
    pub many: bool,
}

impl Echo {
    /// What `load` asks for; a load that both reads and writes has no floor.
    pub fn of(load: &Load) -> Option<Echo> {
        let (request_payload, reply_payload) = match load.write_percent {
            0 => (0, load.block_bytes as usize),
            100 => (load.block_bytes as usize, 0),
            _ => return None,
        };
        Some(Echo { request_payload, reply_payload, many: load.connections > 1 })
    }
}

/// Serves one session after the other, for ever.
pub fn serve(listener: &TcpListener, echo: Echo) -> Result<()> {
    loop {
        let served = if echo.many { serve_many(listener, echo) } else { serve_one(listener, echo) };
        if let Err(error) = served {
            eprintln!("floor: {error:#}");
        }
    }
}

/// Accepts one client and echoes until it leaves.
pub fn serve_one(listener: &TcpListener, echo: Echo) -> Result<()> {
    let mut inbox = vec![0; INBOX_BYTES];
    if let Some(mut client) = accept(listener, echo)? {
        while client.echo(&mut inbox)? {}
    }
    Ok(())
}

/// Accepts clients and echoes until the last one has left.
pub fn serve_many(listener: &TcpListener, echo: Echo) -> Result<()> {
    let mut inbox = vec![0; INBOX_BYTES];
    let mut clients = Vec::from_iter(accept(listener, echo)?);
    while !clients.is_empty() {
        let (knocks, ready) = await_any(listener, &clients)?;
        for place in (0..clients.len()).rev().filter(|place| ready[*place]) {
            if !clients[place].echo(&mut inbox)? {
                clients.swap_remove(place);
            }
        }
        if knocks {
            clients.extend(accept(listener, echo)?);
        }
    }
    Ok(())
}

/// Whether somebody wants to come in, and which clients have sent something or left.
fn await_any(listener: &TcpListener, clients: &[Client]) -> Result<(bool, Vec<bool>)> {
    let sockets = clients.iter().map(|client| client.stream.as_fd());
    let all = [listener.as_fd()].into_iter().chain(sockets);
    let mut all: Vec<PollFd> = all.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
    poll(&mut all, PollTimeout::NONE)?;
    let mut ready = all.iter().map(|socket| socket.any().unwrap_or(true));
    Ok((ready.next().expect("the listener is the first"), ready.collect()))
}

/// `None` when the client went away, as one does that only looks whether the server is there.
fn accept(listener: &TcpListener, echo: Echo) -> Result<Option<Client>> {
    let (mut stream, _) = listener.accept().context("cannot accept")?;
    stream.set_nodelay(true)?;
    Ok(negotiate(&mut stream)?.then(|| Client::new(stream, echo)))
}

/// `false` when the client went away, as one does that only looks whether the server is there.
fn negotiate(stream: &mut TcpStream) -> Result<bool> {
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
        name: EXPORT.into(),
        description: String::new(),
        size_bytes: SIZE_BYTES,
        flags: TransmissionFlags::CAN_MULTI_CONN,
        block_min: 1,
        block_preferred: 4096,
        payload_max: 32 << 20,
        offers_allocation: false,
    }
}

/// One connection: the place in its stream of requests, and replies made up beforehand but for their cookies.
struct Client {
    stream: TcpStream,
    echo: Echo,
    skip: usize,
    carried: usize,
    carry: [u8; REQUEST_BYTES],
    cookie: Option<[u8; 8]>,
    outbox: Vec<u8>,
    ready: usize,
}

impl Client {
    fn new(stream: TcpStream, echo: Echo) -> Client {
        let reply_bytes = SIMPLE_REPLY_BYTES + echo.reply_payload;
        let mut outbox = vec![0; (OUTBOX_BYTES / reply_bytes).clamp(1, 256) * reply_bytes];
        Random::new(1).fill(&mut outbox);
        let mut header = Vec::new();
        put_simple_reply(&mut header, Cookie(0), None);
        for reply in outbox.chunks_mut(reply_bytes) {
            reply[..SIMPLE_REPLY_BYTES].copy_from_slice(&header);
        }
        let carry = [0; REQUEST_BYTES];
        Client { stream, echo, skip: 0, carried: 0, carry, cookie: None, outbox, ready: 0 }
    }

    /// One read, one write; `false` when the client has left.
    fn echo(&mut self, inbox: &mut [u8]) -> Result<bool> {
        let carried = std::mem::take(&mut self.carried);
        inbox[..carried].copy_from_slice(&self.carry[..carried]);
        let received = match self.stream.read(&mut inbox[carried..]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error).context("cannot receive"),
        };
        self.take(&inbox[..carried + received])?;
        self.flush()?;
        Ok(true)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 {
                return Ok(());
            }
            if let Some(cookie) = self.cookie.take() {
                self.reply(cookie)?;
            }
            let Some(header) = bytes.first_chunk::<REQUEST_BYTES>() else { break };
            self.cookie = Some(header[COOKIE].try_into().expect("8 bytes"));
            self.skip = self.echo.request_payload;
            bytes = &bytes[REQUEST_BYTES..];
        }
        self.carried = bytes.len();
        self.carry[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn reply(&mut self, cookie: [u8; 8]) -> Result<()> {
        let reply = &mut self.outbox[self.ready..][..SIMPLE_REPLY_BYTES + self.echo.reply_payload];
        reply[COOKIE].copy_from_slice(&cookie);
        self.ready += reply.len();
        if self.ready == self.outbox.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let ready = std::mem::take(&mut self.ready);
        self.stream.write_all(&self.outbox[..ready]).context("cannot send")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, Endpoint};
    use crate::generator::{Generator, Until};
    use crate::load::{Sending, Waiting};

    fn drive(load: &Load, requests: u64) -> crate::tally::Figures {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let endpoint = Endpoint::Tcp(listener.local_addr().expect("bound"));
        let echo = Echo::of(load).expect("the load has a floor");
        let server = std::thread::spawn(move || {
            if echo.many { serve_many(&listener, echo) } else { serve_one(&listener, echo) }
        });
        let address = Address { endpoint, export: EXPORT.into() };
        let mut generator = Generator::open(&address, load).expect("the floor is there");
        let figures = generator.run(Until::Requests(requests)).expect("the floor answers");
        drop(generator);
        server.join().expect("the floor does not panic").expect("the client left in order");
        figures
    }

    #[test]
    fn every_request_is_answered_once() {
        for write_percent in [0, 100] {
            for sending in [Sending::Gather, Sending::Single] {
                let load = Load { sending, waiting: Waiting::Sleep, ..Load::random_4k(write_percent, 32) };
                let tally = drive(&load, 5000);
                assert_eq!((tally.requests, tally.errors), (5000, 0), "{load:?}");
            }
        }
    }

    #[test]
    fn large_blocks_are_cut_anywhere() {
        for write_percent in [0, 100] {
            let load = Load { waiting: Waiting::Sleep, ..Load::sequential_128k(write_percent) };
            assert_eq!(drive(&load, 300).requests, 300, "{load:?}");
        }
    }

    #[test]
    fn connections_share_the_requests() {
        let load = Load { connections: 16, waiting: Waiting::Sleep, ..Load::random_4k(0, 2) };
        assert_eq!(drive(&load, 1000).requests, 1000);
    }

    #[test]
    fn mixed_loads_have_no_floor() {
        assert_eq!(Echo::of(&Load::random_4k(50, 1)), None);
    }
}
