//! One connection at work: a task that sends what is queued, all at once, and one that takes the replies.
//!
//! Its one rule: whatever ends it, both tasks have given every buffer back before `serve` returns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use wire::nbd::transmission::{Command, CommandFlags, Cookie, ReplyStyle, Request, encode_request};

use super::channel::Channel;
use super::dial::Dialled;
use super::pool::Pool;
use super::replies::Replies;
use super::request::Ask;
use super::violation::Violation;
use crate::runtime::{self, Notify};

/// Received at a time, when replies are short.
const INBOX_BYTES: usize = 256 << 10;
/// Received at a time before data that is better received right into its place.
const HEADERS_BYTES: usize = 512;
/// From this many bytes on, data is received right into its place.
const DIRECT_BYTES: usize = 16 << 10;
/// Up to this many bytes, a payload is copied between the headers.
const COPY_BYTES: usize = 8 << 10;
/// Sent at a time.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_PARTS: usize = 256;
/// So many bytes count as a sign of life: trickling is no way to serve.
const PROGRESS_BYTES: usize = 4 << 10;

/// One of a client's connections, be it there or not.
#[derive(Default)]
pub(super) struct Link {
    /// Requests for it, not yet sent.
    pub(super) queue: RefCell<VecDeque<usize>>,
    /// Requests sent and not answered.
    pub(super) in_flight: Cell<usize>,
    /// The bytes of reads among them.
    expected_bytes: Cell<u64>,
    /// Replies and stretches of data that came, to notice when none do.
    pub(super) progress: Cell<u64>,
    /// Bytes received since they last counted as progress.
    trickle: Cell<usize>,
    /// Wakes the sender.
    pub(super) wake: Notify,
    /// The connection, while it works.
    pub(super) live: RefCell<Option<Rc<Live>>>,
}

/// A working connection.
pub(super) struct Live {
    channel: Channel,
    style: ReplyStyle,
    /// Why it ends.
    end: RefCell<Option<End>>,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// We said goodbye.
    Parted,
    /// It broke, or the server went away.
    Lost(io::Error),
    /// The server broke the protocol.
    Violated(Violation),
}

impl Live {
    /// Ends the connection; the first reason counts.
    pub(super) fn end(&self, reason: End) {
        let is_lost = !matches!(reason, End::Parted);
        self.end.borrow_mut().get_or_insert(reason);
        if is_lost { self.channel.abort() } else { self.channel.shutdown() }
    }

    fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

/// A connection that is live from now on: requests may come, and wait for `serve`.
pub(super) struct Opened {
    live: Rc<Live>,
    replies: Replies,
    leftover: Vec<u8>,
}

/// Makes a new connection that of link `index`.
pub(super) fn open(pool: &Pool, index: usize, dialled: Dialled) -> Opened {
    let Dialled { channel, leftover, export, allocation_id } = dialled;
    let live = Rc::new(Live { channel, style: export.style, end: RefCell::new(None) });
    *pool.links[index].live.borrow_mut() = Some(live.clone());
    pool.unstrand();
    Opened { live, replies: Replies::new(index, export.style, allocation_id), leftover }
}

/// Serves the requests of link `index` until its connection ends.
pub(super) async fn serve(pool: &Rc<Pool>, index: usize, opened: Opened) -> End {
    let Opened { live, replies, leftover } = opened;
    let link = &pool.links[index];
    let sender = runtime::spawn(send(pool.clone(), index, live.clone()));
    receive(pool, index, &live, replies, leftover).await;
    link.wake.notify_one();
    // It can only fail with a panic, which is then everybody's.
    sender.await.expect("the sending task ends with the connection");
    link.live.borrow_mut().take();
    link.in_flight.set(0);
    link.expected_bytes.set(0);
    live.end.borrow_mut().take().expect("both tasks end with a reason")
}

async fn receive(pool: &Pool, index: usize, live: &Live, mut replies: Replies, leftover: Vec<u8>) {
    let (mut inbox, mut filled) = (vec![0; INBOX_BYTES], leftover.len());
    inbox[..filled].copy_from_slice(&leftover);
    loop {
        let taken = replies.advance(&inbox[..filled], &mut pool.table.borrow_mut());
        pool.links[index].note_concluded(pool, replies.take_concluded());
        let taken = match taken {
            Ok(taken) => taken,
            Err(violation) => return live.end(End::Violated(violation)),
        };
        inbox.copy_within(taken..filled, 0);
        filled -= taken;
        let received = match replies.expected_data() {
            Some(data) if data.2 >= DIRECT_BYTES => receive_data(pool, live, &mut replies, data).await,
            _ => {
                let end =
                    if pool.links[index].expects_long_data() { filled + HEADERS_BYTES } else { INBOX_BYTES };
                let (received, returned) = live.channel.receive(inbox, filled, end.min(INBOX_BYTES)).await;
                inbox = returned;
                filled += received.as_ref().map_or(0, |count| *count);
                received
            }
        };
        match received {
            Ok(0) => return live.end(End::Lost(io::Error::other("the server closed the connection"))),
            Ok(_) if live.has_ended() => return,
            Ok(count) => pool.links[index].note_received(count),
            Err(error) => return live.end(End::Lost(error)),
        }
        if live.channel.wants_send() {
            pool.links[index].wake.notify_one();
        }
    }
}

/// Receives data right into the buffer of its request.
async fn receive_data(
    pool: &Pool,
    live: &Live,
    replies: &mut Replies,
    (key, at, left): (usize, usize, usize),
) -> io::Result<usize> {
    let buffer = pool.table.borrow_mut().lend(key);
    let (received, buffer) = live.channel.receive(buffer, at, at + left).await;
    let mut table = pool.table.borrow_mut();
    table.give_back(key, buffer);
    if let Ok(count @ 1..) = received
        && let Err(violation) = replies.took_data(count, &mut table)
    {
        live.end(End::Violated(violation));
    }
    received
}

async fn send(pool: Rc<Pool>, index: usize, live: Rc<Live>) {
    let link = &pool.links[index];
    while !live.has_ended() {
        let batch = collect(&pool, index, live.style);
        if !batch.is_empty() || live.channel.wants_send() {
            if let Err(error) = send_batch(&pool, &live.channel, batch).await {
                return live.end(End::Lost(error));
            }
        } else if pool.is_parting() && link.in_flight.get() == 0 {
            return part(&live).await;
        } else {
            link.wake.notified().await;
        }
    }
}

async fn send_batch(pool: &Pool, channel: &Channel, batch: Batch) -> io::Result<()> {
    let (result, mut parts) = channel.send(batch.parts).await;
    let mut table = pool.table.borrow_mut();
    for (part, key) in batch.lent {
        table.give_back(key, std::mem::take(&mut parts[part]));
    }
    result
}

/// Says goodbye, and lets the server be the one that hangs up.
async fn part(live: &Live) {
    let ask = Request {
        command: Command::Disconnect,
        flags: CommandFlags::NONE,
        cookie: Cookie(0),
        offset: 0,
        length: 0,
    };
    let mut goodbye = Vec::new();
    encode_request(&mut goodbye, live.style, &ask);
    live.end.borrow_mut().get_or_insert(End::Parted);
    // The server may be gone already, which is as well.
    let _ = live.channel.send(vec![goodbye]).await;
    live.channel.finish().await;
}

/// What is sent at once: headers and short payloads together, long payloads as they are.
#[derive(Default)]
struct Batch {
    parts: Vec<Vec<u8>>,
    /// Which parts are whose payload.
    lent: Vec<(usize, usize)>,
    head: Vec<u8>,
    bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn has_room(&self) -> bool {
        self.bytes < BATCH_BYTES && self.parts.len() < BATCH_PARTS
    }

    fn push_head(&mut self) {
        if !self.head.is_empty() {
            self.bytes += self.head.len();
            self.parts.push(std::mem::take(&mut self.head));
        }
    }

    fn push_payload(&mut self, key: usize, payload: Vec<u8>) {
        self.push_head();
        self.bytes += payload.len();
        self.lent.push((self.parts.len(), key));
        self.parts.push(payload);
    }
}

/// Takes from the queue what may be in flight now.
fn collect(pool: &Pool, index: usize, style: ReplyStyle) -> Batch {
    let link = &pool.links[index];
    let (mut batch, mut table) = (Batch::default(), pool.table.borrow_mut());
    while batch.has_room() && link.in_flight.get() < pool.options.in_flight_max.max(1) {
        let Some(key) = link.queue.borrow_mut().pop_front() else { break };
        let Some((ask, cookie)) = table.begin(key, index) else { continue };
        let Ask { command, flags, offset, length } = ask;
        encode_request(&mut batch.head, style, &Request { command, flags, cookie, offset, length });
        link.in_flight.set(link.in_flight.get() + 1);
        match command {
            Command::Read => link.expected_bytes.set(link.expected_bytes.get() + length),
            Command::Write if table.slot(key).buffer.len() > COPY_BYTES => {
                batch.push_payload(key, table.lend(key));
            }
            Command::Write => batch.head.extend_from_slice(&table.slot(key).buffer),
            _ => {}
        }
    }
    batch.push_head();
    batch
}

impl Link {
    /// How much it has to do.
    pub(super) fn load(&self) -> usize {
        self.queue.borrow().len() + self.in_flight.get()
    }

    fn note_progress(&self) {
        self.progress.set(self.progress.get().wrapping_add(1));
    }

    fn note_received(&self, count: usize) {
        let trickle = self.trickle.get() + count;
        self.trickle.set(trickle % PROGRESS_BYTES);
        if trickle >= PROGRESS_BYTES {
            self.note_progress();
        }
    }

    fn note_concluded(&self, pool: &Pool, count: usize) {
        if count == 0 {
            return;
        }
        self.note_progress();
        let before = self.in_flight.get();
        self.in_flight.set(before - count);
        // Only the average counts, and it is taken as unchanged.
        let average = self.expected_bytes.get() / before as u64;
        self.expected_bytes.set(average * (before - count) as u64);
        if !self.queue.borrow().is_empty() || pool.is_parting() {
            self.wake.notify_one();
        }
        pool.note_concluded();
    }

    fn expects_long_data(&self) -> bool {
        let in_flight = self.in_flight.get() as u64;
        in_flight > 0 && self.expected_bytes.get() / in_flight >= 2 * DIRECT_BYTES as u64
    }
}
