//! The floor: a server that only moves the bytes. What no target over this socket can go below.
//!
//! One read takes whatever has arrived, one write answers all of it: N requests of 28 bytes with N replies of
//! 16 + 4096, or N of 28 + 4096 with N of 16; over iSCSI, headers are 48 bytes. It looks at nothing but the tags
//! of requests: the sizes are told beforehand, and what it answers was made up before.
//! Rule: it spins while there is work and a moment longer, so that neither sleeping nor waking costs anything.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use crate::load::{DigestKind, Load, Random};
use crate::protocol::Protocol;
use crate::stream::Stream;
use crate::{iscsi, nbd};

/// The name of its volume.
pub const VOLUME: &str = "disk";
/// The size of its volume.
pub const SIZE_BYTES: u64 = 1 << 30;

const SPIN: Duration = Duration::from_micros(200);
const INBOX_BYTES: usize = 256 << 10;
const OUTBOX_BYTES: usize = 2 << 20;
const HEADER_BYTES_MAX: usize = 48;

/// What the floor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Echo {
    /// What it speaks.
    #[arg(long)]
    pub protocol: Protocol,
    /// Bytes of each request.
    #[arg(long)]
    pub block_bytes: usize,
    /// Requests are writes; else reads.
    #[arg(long)]
    pub write: bool,
    /// Data segments have digests.
    #[arg(long)]
    pub data_digest: bool,
}

impl Echo {
    /// What `load` asks for; none for loads that read and write, and for what the floor's iSCSI does not know.
    pub fn of(protocol: Protocol, load: &Load) -> Option<Echo> {
        let known = match protocol {
            Protocol::Nbd => true,
            Protocol::Iscsi => {
                load.digests != DigestKind::Both && load.block_bytes <= iscsi::floor::DATA_SEGMENT_BYTES_MAX
            }
        };
        (known && matches!(load.write_percent, 0 | 100)).then(|| Echo {
            protocol,
            block_bytes: load.block_bytes as usize,
            write: load.write_percent == 100,
            data_digest: protocol == Protocol::Iscsi && load.digests == DigestKind::Data,
        })
    }

    /// As arguments of this program.
    pub fn arguments(&self, portal: SocketAddr) -> Vec<String> {
        let mut arguments = vec![
            "floor".into(),
            portal.to_string(),
            format!("--protocol={}", self.protocol.name()),
            format!("--block-bytes={}", self.block_bytes),
        ];
        arguments.extend(self.write.then(|| "--write".into()));
        arguments.extend(self.data_digest.then(|| "--data-digest".into()));
        arguments
    }

    /// Bytes of data that follow each request.
    pub fn request_payload(&self) -> usize {
        if self.write { self.block_bytes } else { 0 }
    }

    /// Bytes of data that follow each reply.
    pub fn reply_payload(&self) -> usize {
        if self.write { 0 } else { self.block_bytes }
    }

    fn form(&self) -> Form {
        match self.protocol {
            Protocol::Nbd => nbd::floor::form(self),
            Protocol::Iscsi => iscsi::floor::form(self),
        }
    }

    fn negotiate(&self, stream: &mut TcpStream) -> Result<bool> {
        match self.protocol {
            Protocol::Nbd => nbd::floor::negotiate(stream),
            Protocol::Iscsi => iscsi::floor::negotiate(stream, self),
        }
    }
}

/// How requests and replies look.
pub struct Form {
    /// The header of a request.
    pub request_bytes: usize,
    /// What follows each header of a request.
    pub request_payload: usize,
    /// The header of a reply, but for what `answer` fills in.
    pub header: Vec<u8>,
    /// What follows each header of a reply.
    pub reply_payload: usize,
    /// The digest behind that, if any.
    pub digest_bytes: usize,
    /// Makes a reply out of the header of its request.
    pub answer: fn(&[u8], &mut [u8]),
}

impl Form {
    fn reply_bytes(&self) -> usize {
        self.header.len() + self.reply_payload + self.digest_bytes
    }

    /// Replies made up beforehand.
    fn outbox(&self) -> Vec<u8> {
        let reply_bytes = self.reply_bytes();
        let mut outbox = vec![0; (OUTBOX_BYTES / reply_bytes).clamp(1, 256) * reply_bytes];
        Random::new(1).fill(&mut outbox);
        for reply in outbox.chunks_mut(reply_bytes) {
            let (header, rest) = reply.split_at_mut(self.header.len());
            header.copy_from_slice(&self.header);
            let (payload, digest) = rest.split_at_mut(self.reply_payload);
            digest.copy_from_slice(&crc32c::crc32c(payload).to_le_bytes()[..self.digest_bytes]);
        }
        outbox
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
    Ok(echo.negotiate(&mut stream)?.then(|| Client::new(stream, echo.form())))
}

/// What a look at a client showed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Requests,
    Leaving,
}

/// One connection: the place in its requests, the one whose payload is still to come, and replies.
struct Client {
    stream: TcpStream,
    form: Form,
    place: Stream,
    request: Option<[u8; HEADER_BYTES_MAX]>,
    outbox: Vec<u8>,
    ready: usize,
}

impl Client {
    fn new(stream: TcpStream, form: Form) -> Client {
        let outbox = form.outbox();
        Client { stream, form, place: Stream::new(), request: None, outbox, ready: 0 }
    }

    /// One read, one write.
    fn echo(&mut self, inbox: &mut [u8]) -> Result<Seen> {
        let carried = self.place.resume(inbox);
        let received = match recv(self.stream.as_raw_fd(), &mut inbox[carried..], MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {
                self.place.carry(&inbox[..carried]);
                return Ok(Seen::Nothing);
            }
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(Seen::Leaving),
            Ok(bytes) => bytes,
            Err(error) => return Err(error).context("cannot receive"),
        };
        self.take(&inbox[..carried + received])?;
        self.flush()?;
        Ok(Seen::Requests)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            (_, bytes) = self.place.split(bytes);
            if !self.place.is_at_header() {
                return Ok(());
            }
            if let Some(request) = self.request.take() {
                self.reply(&request)?;
            }
            let Some((header, rest)) = bytes.split_at_checked(self.form.request_bytes) else { break };
            let mut request = [0; HEADER_BYTES_MAX];
            request[..header.len()].copy_from_slice(header);
            self.request = Some(request);
            self.place.expect(self.form.request_payload);
            bytes = rest;
        }
        self.place.carry(bytes);
        Ok(())
    }

    fn reply(&mut self, request: &[u8]) -> Result<()> {
        let reply = &mut self.outbox[self.ready..][..self.form.reply_bytes()];
        (self.form.answer)(request, reply);
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
    use crate::generator::{Generator, Until};
    use crate::load::{Sending, Waiting};
    use crate::server::volume_at;

    fn drive(protocol: Protocol, load: &Load, requests: u64) -> crate::tally::Figures {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = volume_at(protocol, listener.local_addr().expect("bound"));
        let echo = Echo::of(protocol, load).expect("the load has a floor");
        let server = std::thread::spawn(move || session(&listener, echo));
        let mut generator = Generator::open(&address, load).expect("the floor is there");
        let figures = generator.run(Until::Requests(requests)).expect("the floor answers");
        drop(generator);
        server.join().expect("the floor does not panic").expect("the client left in order");
        figures
    }

    #[test]
    fn every_request_is_answered_once() {
        for protocol in Protocol::ALL {
            for write_percent in [0, 100] {
                for sending in [Sending::Gather, Sending::Single] {
                    let load =
                        Load { sending, waiting: Waiting::Sleep, ..Load::random_4k(write_percent, 32) };
                    let tally = drive(protocol, &load, 5000);
                    assert_eq!((tally.requests, tally.errors), (5000, 0), "{protocol:?} {load:?}");
                }
            }
        }
    }

    #[test]
    fn large_blocks_are_cut_anywhere() {
        for protocol in Protocol::ALL {
            for write_percent in [0, 100] {
                let load = Load { waiting: Waiting::Sleep, ..Load::sequential_128k(write_percent) };
                assert_eq!(drive(protocol, &load, 300).requests, 300, "{protocol:?} {load:?}");
            }
        }
    }

    #[test]
    fn connections_share_the_requests() {
        let load = Load { connections: 16, waiting: Waiting::Sleep, ..Load::random_4k(0, 2) };
        for protocol in Protocol::ALL {
            assert_eq!(drive(protocol, &load, 1000).requests, 1000);
        }
    }

    #[test]
    fn digests_are_right() {
        for load in [Load::random_4k(0, 8), Load::random_4k(100, 8), Load::sequential_128k(0)] {
            let load = Load { digests: DigestKind::Data, waiting: Waiting::Sleep, ..load };
            assert_eq!(drive(Protocol::Iscsi, &load, 1000).errors, 0, "{load:?}");
        }
    }

    #[test]
    fn mixed_loads_have_no_floor() {
        assert_eq!(Echo::of(Protocol::Nbd, &Load::random_4k(50, 1)), None);
    }
}
