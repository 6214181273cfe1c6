//! The floor: a server that only moves the bytes. What no target over this socket can go below.
//!
//! One read takes whatever has arrived, one write answers all of it: N requests of 28 bytes with N replies of
//! 16 + 4096, or N of 28 + 4096 with N of 16. It looks at nothing but cookies: the sizes are told beforehand.
//! Rule: it spins while there is work and a moment longer, so that neither sleeping nor waking costs anything.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use wire::nbd::handshake::{ExportInfo, ExportTable, Negotiation, ServerPolicy, Step};
use wire::nbd::transmission::{
    Cookie, REQUEST_BYTES, SIMPLE_REPLY_BYTES, TransmissionFlags, put_simple_reply,
};

use crate::load::{Load, Random};

/// The name of its export.
pub const EXPORT: &str = "disk";

const SIZE_BYTES: u64 = 1 << 30;
const SPIN: Duration = Duration::from_micros(200);
const INBOX_BYTES: usize = 256 << 10;
const OUTBOX_BYTES: usize = 2 << 20;
const COOKIE: Range<usize> = 8..16;

/// What the floor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Bytes that follow each request.
    pub request_payload: usize,
    /// Bytes that follow each reply.
    pub reply_payload: usize,
}

impl Echo {
    /// What `load` asks for; a load that both reads and writes has no floor.
    pub fn of(load: &Load) -> Option<Echo> {
        let block_bytes = load.block_bytes as usize;
        match load.write_percent {
            0 => Some(Echo { request_payload: 0, reply_payload: block_bytes }),
            100 => Some(Echo { request_payload: block_bytes, reply_payload: 0 }),
            _ => None,
        }
    }
}

/// Serves clients for ever.
pub fn serve(listener: &TcpListener, echo: Echo) -> Result<()> {
    loop {
        if let Err(error) = session(listener, echo) {
            eprintln!("floor: {error:#}");
        }
    }
}

/// Accepts clients and echoes until the last one has left.
pub fn session(listener: &TcpListener, echo: Echo) -> Result<()> {
    let mut inbox = vec![0; INBOX_BYTES];
    let mut clients = Vec::from_iter(accept(listener, echo)?);
    let mut worked = Instant::now();
    while !clients.is_empty() {
        if turn(&mut clients, &mut inbox)? {
            worked = Instant::now();
        } else if worked.elapsed() > SPIN && await_any(listener, &clients)? {
            clients.extend(accept(listener, echo)?);
        }
    }
    Ok(())
}

/// Looks at each client once; `false` when none had sent anything or left.
fn turn(clients: &mut Vec<Client>, inbox: &mut [u8]) -> Result<bool> {
    let mut worked = false;
    for place in (0..clients.len()).rev() {
        let seen = clients[place].echo(inbox)?;
        worked |= seen != Seen::Nothing;
        if seen == Seen::Leaving {
            clients.swap_remove(place);
        }
    }
    Ok(worked)
}

/// Sleeps until something happens; `true` when somebody wants to come in.
fn await_any(listener: &TcpListener, clients: &[Client]) -> Result<bool> {
    let sockets = clients.iter().map(|client| client.stream.as_fd());
    let all = [listener.as_fd()].into_iter().chain(sockets);
    let mut all: Vec<PollFd> = all.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
    poll(&mut all, PollTimeout::NONE)?;
    Ok(all[0].any().unwrap_or(true))
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

/// What a look at a client showed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Requests,
    Leaving,
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

    /// One read, one write.
    fn echo(&mut self, inbox: &mut [u8]) -> Result<Seen> {
        let carried = self.carried;
        let received = match recv(self.stream.as_raw_fd(), &mut inbox[carried..], MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => return Ok(Seen::Nothing),
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(Seen::Leaving),
            Ok(bytes) => bytes,
            Err(error) => return Err(error).context("cannot receive"),
        };
        inbox[..carried].copy_from_slice(&self.carry[..carried]);
        self.carried = 0;
        self.take(&inbox[..carried + received])?;
        self.flush()?;
        Ok(Seen::Requests)
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
        let server = std::thread::spawn(move || session(&listener, echo));
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
