//! An export in use: requests in, results out, over one connection or several.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::error::Error;
use crate::export::{Export, ExportSummary, Extent};
use crate::uri::{Endpoint, Uri};

/// How to connect, and how long to hold on.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How many connections to share the requests among. More than one only if the server says that it may be.
    pub connections: usize,
    /// Requests of one connection in flight; more of them wait.
    pub in_flight_max: usize,
    /// Time for a connection to be made and negotiated.
    pub connect_timeout: Duration,
    /// A server that owes us replies and says nothing for so long is given up: its connection counts as lost.
    pub stall_timeout: Duration,
    /// For how long a lost connection is dialed again, its requests waiting. Zero: not at all.
    pub reconnect_for: Duration,
    /// Ask for 64-bit headers, else for replies in chunks, else for neither.
    pub extended_headers: bool,
    /// Ask for replies in chunks.
    pub structured_replies: bool,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            connections: 1,
            in_flight_max: 128,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            reconnect_for: Duration::from_secs(30),
            extended_headers: true,
            structured_replies: true,
        }
    }
}

/// How zeroes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zero {
    /// Keep the space allocated.
    pub no_hole: bool,
    /// Fail (with ENOTSUP) rather than take as long as writing the zeroes.
    pub fast_only: bool,
    /// Durable before the reply.
    pub fua: bool,
}

/// A plain connection, negotiated for the kernel's driver (simple replies) and still unused.
#[derive(Debug)]
pub struct KernelSocket {
    /// The connection, at the beginning of transmission.
    pub socket: OwnedFd,
    /// What the server said of the export.
    pub export: Export,
}

/// An export in use. Clones are the same client.
#[derive(Clone)]
pub struct Client {}

#[expect(clippy::todo, unused, reason = "to come")]
impl Client {
    /// Connects, and negotiates everything that the server offers.
    pub async fn connect(uri: &Uri, options: &ConnectOptions) -> Result<Client, Error> {
        todo!()
    }

    /// What the server said of the export.
    pub fn export(&self) -> &Export {
        todo!()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        todo!()
    }

    /// Fills `buffer` from `offset` on.
    pub async fn read(&self, offset: u64, buffer: Vec<u8>) -> (Result<(), Error>, Vec<u8>) {
        todo!()
    }

    /// Writes all of `buffer` at `offset`; durable before the reply if `fua`.
    pub async fn write(&self, offset: u64, buffer: Vec<u8>, fua: bool) -> (Result<(), Error>, Vec<u8>) {
        todo!()
    }

    /// Makes durable what was written: every write whose result was here when this was called.
    pub async fn flush(&self) -> Result<(), Error> {
        todo!()
    }

    /// Gives the space of a range back; what it reads as afterwards nobody knows.
    pub async fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
        todo!()
    }

    /// Makes a range read as zeroes.
    pub async fn zero(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error> {
        todo!()
    }

    /// Tells the server that a range will be read soon.
    pub async fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        todo!()
    }

    /// Where there is data: extents from `offset` on without a gap, which cover exactly the range.
    pub async fn block_status(&self, offset: u64, length: u64) -> Result<Vec<Extent>, Error> {
        todo!()
    }

    /// Says goodbye, when nothing is in flight any more.
    pub async fn disconnect(self) -> Result<(), Error> {
        todo!()
    }
}

/// The exports that a server lists.
#[expect(clippy::todo, unused, reason = "to come")]
pub async fn list(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Vec<ExportSummary>, Error> {
    todo!()
}

/// What a server says of an export, without using it.
#[expect(clippy::todo, unused, reason = "to come")]
pub async fn describe(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Export, Error> {
    todo!()
}

/// A connection for the kernel's driver; refused with TLS, which the kernel does not speak.
#[expect(clippy::todo, unused, reason = "to come")]
pub async fn dial_kernel_socket(
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> Result<KernelSocket, Error> {
    todo!()
}
