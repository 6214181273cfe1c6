//! An export in use: requests in, results out, over one connection or several.
//!
//! ```text
//! Client ─▶ Pool: Table of requests, Links ─▶ Link: queue, sender, receiver ─▶ Channel: plain or TLS
//!                 keepers: dial, bereave                                      Replies: bytes to answers
//! ```
//! Its one rule: a lost connection is the client's affair. A request that was not answered is sent again, which
//! all of NBD's requests can bear; only a flush that could no longer keep its promise fails instead.

mod channel;
mod coverage;
mod dial;
mod identity;
mod keeper;
mod link;
mod pool;
mod range;
mod replies;
mod request;
mod survey;
mod table;
mod tls;
mod violation;

/// For the fuzzer only.
#[cfg(feature = "fuzzing")]
pub use replies::fuzz::replies as fuzz_replies;

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use wire::nbd::transmission::{Command, CommandFlags, STATE_HOLE, STATE_ZERO};

use crate::error::{Error, Kind};
use crate::export::{Export, ExportSummary, Extent};
use crate::uri::{Endpoint, Uri};
use pool::Pool;
use request::{Answer, Ask};

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
    /// Another client of this program has connected to the same URI already: its servers are not compared again, and
    /// nothing is logged that the other one's log says.
    pub is_further: bool,
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
            is_further: false,
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
///
/// Every request is a future; those that are awaited at once are sent at once, and their replies taken as they come:
/// ```no_run
/// # use nbd_client::{Client, Error, runtime};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let reads = (0..32).map(|number: u64| {
///     let client = client.clone();
///     runtime::spawn(async move { client.read(number << 20, vec![0; 1 << 20]).await })
/// });
/// for read in reads.collect::<Vec<_>>() {
///     let (result, bytes) = read.await.expect("no task panics");
///     result?;
/// #   drop(bytes);
/// }
/// # Ok(())
/// # }
/// ```
/// # After a lost connection
/// It is made again (`ConnectOptions::reconnect_for`), with any of the URI's servers that serves the same export, and
/// what was not answered is sent again; a write of which only the reply was lost is so done twice. What holds:
/// - A request succeeds only when a server has answered it, and a flush only if no write that was acknowledged before
///   it can have been lost (else [`Kind::Unflushed`]).
/// - What is asked after an answer is sent after it, and what the old connection had not delivered is thrown away
///   before anything is sent again: it does not arrive later.
/// - What the server *had received* over the old connection it may still execute, and NBD has no word to forbid it.
///   If it does so late, after newer writes to the same blocks, it undoes those. A server whose process has ended
///   cannot, nor can one that finishes or drops what it has before it closes the connection. What is left is a server
///   that hangs for longer than `stall_timeout`, or than the network was gone, and then works on. Whoever cannot bear
///   that sets `reconnect_for` to zero: then a lost connection is an error ([`Kind::Lost`]).
#[derive(Clone)]
pub struct Client {
    handle: Rc<Handle>,
}

/// Ends the client's tasks with its last clone.
struct Handle {
    pool: Rc<Pool>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Client {
    /// Connects to the first server that answers, and negotiates everything that it offers.
    ///
    /// Of several servers all are asked before; one that serves another export is an error ([`Kind::Changed`]), and
    /// one that does not answer soon is passed over.
    ///
    /// Further connections (`ConnectOptions::connections`) are made in the background, to the other servers in
    /// turn, if the export allows for more than one.
    pub async fn connect(uri: &Uri, options: &ConnectOptions) -> Result<Client, Error> {
        let mut first_error = None;
        for index in survey::order(uri, options).await? {
            let endpoint = &uri.endpoints()[index];
            match dial::dial(endpoint, options).await {
                Ok(dialled) => return Ok(Client::start(uri, options, (index, dialled))),
                Err(error) => drop(first_error.get_or_insert((error, endpoint))),
            }
        }
        match first_error.expect("a URI has an endpoint") {
            (error, endpoint) if error.kind() == Kind::NoExport => {
                Err(with_exports(error, endpoint, options).await)
            }
            (error, _) => Err(error),
        }
    }

    fn start(uri: &Uri, options: &ConnectOptions, first: (usize, dial::Dialled)) -> Client {
        let export = &first.1.export;
        let may_share = export.can_multi_conn();
        let connections = if may_share { options.connections.max(1) } else { 1 };
        if connections < options.connections {
            tracing::warn!("{uri} allows for one connection only");
        }
        if uri.endpoints().len() > 1 && export.uuid.is_none() && !options.is_further {
            tracing::warn!(
                "{uri}: the server does not tell the volume's identity, so only size and name are compared"
            );
        }
        Client {
            handle: Rc::new(Handle { pool: Pool::start(uri.clone(), options.clone(), connections, first) }),
        }
    }

    /// What the server said of the export.
    pub fn export(&self) -> &Export {
        &self.handle.pool.export
    }

    /// How many connections there are, or are being made.
    pub fn connections(&self) -> usize {
        self.handle.pool.links.len()
    }

    /// Fills `buffer` from `offset` on.
    pub async fn read(&self, offset: u64, buffer: Vec<u8>) -> (Result<(), Error>, Vec<u8>) {
        let ask =
            Ask { command: Command::Read, flags: CommandFlags::NONE, offset, length: buffer.len() as u64 };
        let (result, buffer, _) = self.transfer(ask, buffer).await;
        (result, buffer)
    }

    /// Writes all of `buffer` at `offset`; durable before the reply if `fua`.
    pub async fn write(&self, offset: u64, buffer: Vec<u8>, fua: bool) -> (Result<(), Error>, Vec<u8>) {
        let ask = Ask { command: Command::Write, flags: fua_flag(fua), offset, length: buffer.len() as u64 };
        let (result, buffer, _) = self.transfer(ask, buffer).await;
        (result, buffer)
    }

    /// Makes durable what was written: every write whose result was here when this was called.
    ///
    /// Fails with `Kind::Unflushed` if the server, or a connection that the export does not share its cache with,
    /// was lost in between: then what was written since the last flush has to be written again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.command(Ask { command: Command::Flush, flags: CommandFlags::NONE, offset: 0, length: 0 }).await.0
    }

    /// Gives the space of a range back; what it reads as afterwards nobody knows.
    pub async fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
        self.in_pieces(Ask { command: Command::Trim, flags: fua_flag(fua), offset, length }).await
    }

    /// Makes a range read as zeroes.
    pub async fn zero(&self, offset: u64, length: u64, how: Zero) -> Result<(), Error> {
        let flags = [(how.no_hole, CommandFlags::NO_HOLE), (how.fast_only, CommandFlags::FAST_ZERO)];
        let flags =
            flags.iter().filter(|(wanted, _)| *wanted).fold(fua_flag(how.fua), |all, (_, flag)| all | *flag);
        self.in_pieces(Ask { command: Command::WriteZeroes, flags, offset, length }).await
    }

    /// Tells the server that a range will be read soon.
    pub async fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.in_pieces(Ask { command: Command::Cache, flags: CommandFlags::NONE, offset, length }).await
    }

    /// Where there is data: extents from `offset` on without a gap, which cover exactly the range.
    ///
    /// ```no_run
    /// # use nbd_client::{Client, Error};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let extents = client.block_status(0, client.export().size_bytes).await?;
    /// let data: u64 = extents.iter().filter(|extent| !extent.zero).map(|extent| extent.length).sum();
    /// # drop(data);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn block_status(&self, offset: u64, length: u64) -> Result<Vec<Extent>, Error> {
        let (end, mut at) = (offset.saturating_add(length), offset);
        let mut extents: Vec<Extent> = Vec::new();
        while at < end {
            let ask = Ask {
                command: Command::BlockStatus,
                flags: CommandFlags::NONE,
                offset: at,
                length: end - at,
            };
            let piece = Ask { length: range::piece(&ask, self.export()), ..ask };
            let (result, _, told) = self.command(piece).await;
            result?;
            for extent in told {
                let (hole, zero) = (extent.flags & STATE_HOLE != 0, extent.flags & STATE_ZERO != 0);
                push_extent(&mut extents, Extent { offset: at, length: extent.length, hole, zero });
                at += extent.length;
            }
        }
        Ok(extents)
    }

    /// Says goodbye, when nothing is in flight any more.
    pub async fn disconnect(self) -> Result<(), Error> {
        self.handle.pool.part().await;
        self.handle.pool.failure().map_or(Ok(()), Err)
    }

    /// For commands without data, whose length a server need not bear at once.
    async fn in_pieces(&self, ask: Ask) -> Result<(), Error> {
        let mut rest = ask;
        while rest.length > 0 {
            let length = range::piece(&rest, self.export());
            self.command(Ask { length, ..rest }).await.0?;
            (rest.offset, rest.length) = (rest.offset + length, rest.length - length);
        }
        Ok(())
    }

    async fn command(&self, ask: Ask) -> Answer {
        self.transfer(ask, Vec::new()).await
    }

    async fn transfer(&self, ask: Ask, buffer: Vec<u8>) -> Answer {
        let pool = &self.handle.pool;
        let fault = range::check(&ask, self.export()).err().or_else(|| pool.failure());
        if let Some(error) = fault {
            return (Err(error), buffer, Vec::new());
        }
        if ask.length == 0 && ask.command != Command::Flush {
            return (Ok(()), buffer, Vec::new());
        }
        let key = pool.table.borrow_mut().insert(ask, buffer);
        let mut waiting = Waiting { pool, key: Some(key) };
        pool.dispatch(key);
        let answer = poll_fn(|context| pool.table.borrow_mut().poll(key, context)).await;
        waiting.key = None;
        answer
    }
}

/// A request whose answer is awaited; dropped before, nobody waits for it any more.
struct Waiting<'a> {
    pool: &'a Pool,
    key: Option<usize>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.pool.table.borrow_mut().abandon(key);
        }
    }
}

/// The exports that a server lists.
pub async fn list(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Vec<ExportSummary>, Error> {
    let listed = dial::list(endpoint, options).await?;
    let summary = |export: wire::nbd::dial::ListedExport| ExportSummary {
        name: export.name,
        description: export.description,
    };
    Ok(listed.into_iter().map(summary).collect())
}

/// What a server says of an export, without using it.
pub async fn describe(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Export, Error> {
    match dial::describe(endpoint, options).await {
        Err(error) if error.kind() == Kind::NoExport => Err(with_exports(error, endpoint, options).await),
        result => result,
    }
}

/// A connection for the kernel's driver, with the replies that it knows; refused with TLS, which it does not.
///
/// A plain connection cannot be asked for the volume's identity, so a second one is.
pub async fn dial_kernel_socket(
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> Result<KernelSocket, Error> {
    if endpoint.tls.is_some() {
        let what = format!("the kernel's nbd driver cannot speak TLS, which {endpoint} is asked for");
        return Err(Error::new(Kind::Tls, what).remedy("write nbd:// on a trusted network, or use --fuse"));
    }
    let plain = ConnectOptions { structured_replies: false, extended_headers: false, ..options.clone() };
    let dialled = match dial::dial(endpoint, &plain).await {
        Err(error) if error.kind() == Kind::NoExport => {
            return Err(with_exports(error, endpoint, options).await);
        }
        result => result?,
    };
    let told = dial::describe(endpoint, options).await?;
    let mut export = dialled.export;
    (export.uuid, export.incarnation) = (told.uuid, told.incarnation);
    let stream = dialled.channel.into_stream().expect("TLS was refused above");
    Ok(KernelSocket { socket: stream.into_fd(), export })
}

/// What can be had instead.
async fn with_exports(error: Error, endpoint: &Endpoint, options: &ConnectOptions) -> Error {
    const NAMES_MAX: usize = 20;
    match dial::list(endpoint, options).await {
        Ok(exports) if exports.is_empty() => error.remedy("it lists none"),
        Ok(exports) => {
            let names = exports.iter().take(NAMES_MAX).map(|export| format!("{:?}", export.name));
            let names = names.collect::<Vec<_>>().join(", ");
            let more = if exports.len() > NAMES_MAX { ", …" } else { "" };
            error.remedy(format!("name one of: {names}{more}"))
        }
        Err(_) => error.remedy("it does not list those that it has"),
    }
}

fn fua_flag(fua: bool) -> CommandFlags {
    if fua { CommandFlags::FUA } else { CommandFlags::NONE }
}

/// Neighbours of one kind are one extent.
fn push_extent(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if (last.hole, last.zero) == (extent.hole, extent.zero) => last.length += extent.length,
        _ => extents.push(extent),
    }
}
