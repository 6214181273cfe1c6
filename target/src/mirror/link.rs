//! One link to one peer: frames out, all that are ready in one send; frames in, each to the machine at once.
//!
//! Resyncs wait apart: one goes with each send, so that a write or a ping has at most one before it.
//! Its one rule: the first frame that is not right ends the link, and nothing behind it is believed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::buffer::PIECE_BYTES_MAX;
use reactor::driver::Moment;
use reactor::sync::WaitList;
use reactor::{Core, Gather, Handle, View, io as verbs};
use replication::wire::frame::{self, FrameError, HEADER_BYTES, Header, Payload, Stamp};
use replication::wire::handshake::Linked;
use replication::wire::message;
use replication::{Event, Message, NodeId, Place, Seq, Session, VolumeId};

use super::stages::Stage;
use super::{LINK_BYTES_MAX, Mirror};
use crate::channel::Channel;
use crate::fault::{Fault, Kind};
use crate::incoming::{Incoming, PAUSE_BYTES};
use crate::sabotage::Sabotage;

/// What was to be said before the end has so long to go out.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Writes whose answers are waited for, for the latency of peers.
const TIMED_MAX: usize = 4096;

/// The machine hears of parts of a frame this often.
const HEARD_EVERY: Duration = Duration::from_millis(10);

/// A frame that others may pass.
struct Yielding {
    message: Message,
    stamp: Stamp,
    data: Option<(View, u32)>,
}

/// One link in use.
pub struct Link {
    core: Core,
    session: Session,
    version: u16,
    node: NodeId,
    socket: Handle,
    next: RefCell<Box<Gather>>,
    yielding: RefCell<VecDeque<Yielding>>,
    /// The last message, while it may take in the next one.
    open: RefCell<Option<(Message, Stamp)>>,
    changed: WaitList,
    is_closed: Cell<bool>,
    sent_bytes: Cell<u64>,
    received_bytes: Cell<u64>,
    timed: RefCell<VecDeque<(Seq, Moment)>>,
}

impl Link {
    /// Its number.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The node at the other end.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Bytes handed to the socket.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.get()
    }

    /// Bytes of frames taken.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.get()
    }

    /// Queues a message.
    pub fn send(&self, volume: Option<VolumeId>, message: &Message, data: Option<(View, u32)>, now: Moment) {
        if self.is_closed.get() {
            return;
        }
        if let Message::Write { seq, .. } = message {
            let mut timed = self.timed.borrow_mut();
            if timed.len() < TIMED_MAX {
                timed.push_back((*seq, now));
            }
        }
        let stamp = Stamp { version: self.version, volume };
        match message.place() {
            Place::Yields => {
                let message = message.clone();
                self.yielding.borrow_mut().push_back(Yielding { message, stamp, data });
            }
            Place::Ahead => self.append(message, stamp, data),
            Place::InTurn => {
                while self.append_yielding() {}
                self.append(message, stamp, data);
            }
        }
        self.changed.wake_all();
    }

    fn append(&self, message: &Message, stamp: Stamp, data: Option<(View, u32)>) {
        if self.open.borrow_mut().as_mut().is_some_and(|(open, _)| open.absorb(message)) {
            return;
        }
        self.append_open();
        if let Message::Written { result: Ok(()), .. } = message {
            self.open.replace(Some((message.clone(), stamp)));
        } else {
            self.append_whole(message, stamp, data);
        }
    }

    fn append_open(&self) {
        if let Some((message, stamp)) = self.open.take() {
            self.append_whole(&message, stamp, None);
        }
    }

    fn append_whole(&self, message: &Message, stamp: Stamp, data: Option<(View, u32)>) {
        let payload = data.as_ref().map(|(view, crc)| Payload { bytes: view.len() as u32, crc: *crc });
        let mut next = self.next.borrow_mut();
        next.head(|out| frame::encode(message, stamp, payload, out));
        if let Some((view, _)) = data {
            next.view(view);
        }
    }

    fn append_yielding(&self) -> bool {
        let Some(frame) = self.yielding.borrow_mut().pop_front() else { return false };
        self.append(&frame.message, frame.stamp, frame.data);
        true
    }

    /// No more messages; what is queued still goes out, if the peer takes it soon.
    pub fn close(self: &Rc<Self>) {
        if self.is_closed.replace(true) {
            return;
        }
        self.changed.wake_all();
        let (link, core) = (self.clone(), self.core.clone());
        self.core.spawn(async move {
            verbs::sleep(&core, LAST_WORDS).await;
            link.shut();
        });
    }

    fn shut(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Sends until closed or broken.
    async fn write(self: Rc<Self>, channel: Rc<Channel>) {
        let mut spare = Box::<Gather>::default();
        loop {
            // Never none: writes without end would stop a resync.
            self.append_open();
            while !self.append_yielding() && self.next.borrow().len() == 0 {
                if self.is_closed.get() {
                    return self.shut();
                }
                self.changed.wait().await;
                self.append_open();
            }
            let gather = self.next.replace(spare);
            let bytes = gather.remaining() as u64;
            let (result, back) = channel.send(gather, || ()).await;
            spare = back;
            if Sabotage::DropQueued.shows() {
                self.next.borrow_mut().clear();
            }
            self.sent_bytes.set(self.sent_bytes.get() + bytes);
            if result.is_err() {
                self.is_closed.set(true);
                return self.shut();
            }
        }
    }

    fn peer_answered(&self, mirror: &Mirror, answered: Seq, now: Moment) {
        let mut timed = self.timed.borrow_mut();
        if let Some(place) = timed.iter().position(|(seq, _)| *seq == answered)
            && let Some((_, sent)) = timed.remove(place)
        {
            mirror.stages.record(Stage::PeerWrite, now - sent);
        }
    }
}

/// Serves a link that has shaken hands, to its end.
pub async fn serve_link(mirror: Rc<Mirror>, channel: Channel, linked: Linked, leftover: Vec<u8>) {
    let channel = Rc::new(channel);
    let link = Rc::new(Link {
        core: mirror.core.clone(),
        session: mirror.links.session(),
        version: linked.version,
        node: linked.node,
        socket: channel.socket().clone(),
        next: RefCell::default(),
        yielding: RefCell::default(),
        open: RefCell::default(),
        changed: WaitList::default(),
        is_closed: Cell::new(false),
        sent_bytes: Cell::new(0),
        received_bytes: Cell::new(0),
        timed: RefCell::default(),
    });
    let (peer, session) = (linked.peer, link.session);
    tracing::info!(volume = mirror.name, peer = linked.name, "linked");
    if let Some(session) = mirror.links.up(peer, &link) {
        mirror.handle(Event::PeerLost { peer, session });
    }
    mirror.core.spawn(link.clone().write(channel.clone()));
    mirror.handle(Event::PeerUp { peer, session });
    let result = receive(&mirror, &link, &linked, &channel, leftover).await;
    let was_current = !Sabotage::KeepDeadLink.is_on() && mirror.links.down(peer, &link);
    link.close();
    if was_current {
        let fault = result.err().unwrap_or_else(|| Fault::new(Kind::Disconnected, "the peer has closed it"));
        if mirror.links.trouble(peer, &fault.to_string(), false) {
            tracing::warn!(volume = mirror.name, peer = linked.name, "link lost: {fault}");
        }
    }
    mirror.handle(Event::PeerLost { peer, session });
}

async fn receive(
    mirror: &Rc<Mirror>,
    link: &Rc<Link>,
    linked: &Linked,
    channel: &Channel,
    leftover: Vec<u8>,
) -> Result<(), Fault> {
    let (peer, session) = (linked.peer, link.session);
    let heard = Cell::new(mirror.core.turn_started());
    let hears = || {
        let now = mirror.core.turn_started();
        if now - heard.get() > HEARD_EVERY {
            heard.set(now);
            mirror.handle(Event::Heard { peer, session });
        }
    };
    let mut incoming =
        Incoming::new(channel, leftover, mirror.local.is_immediate()).telling(&hears).with_pauses(true);
    let mut head = [0; HEADER_BYTES];
    let mut control = Vec::new();
    while incoming.header(&mut head).await? {
        let header = check(mirror, linked, Header::decode(&head, link.version))?;
        control.resize(header.control_bytes, 0);
        if !control.is_empty() && !incoming.header(&mut control).await? {
            return Err(Fault::new(Kind::Disconnected, "the peer left in the middle of a frame"));
        }
        check(mirror, linked, header.check_control(&control))?;
        let message = check(mirror, linked, message::decode(&header, &control))?;
        let own = mirror.machine.borrow().volume();
        check(mirror, linked, header.check_volume(own, &message))?;
        let mut data = None;
        if let Some(payload) = header.payload {
            let view = take_payload(mirror, &mut incoming, payload.bytes as usize).await?;
            check(mirror, linked, header.check_payload(view.crc32c(0)))?;
            let since = mirror.core.turn_started();
            data = Some(mirror.payloads.insert(view, Some(payload.crc), since));
        }
        let bytes = HEADER_BYTES + control.len() + header.payload.map_or(0, |payload| payload.bytes as usize);
        link.received_bytes.set(link.received_bytes.get() + bytes as u64);
        if let Message::Written { seq, also, .. } = &message {
            let now = mirror.core.turn_started();
            also.iter().chain([seq]).for_each(|&seq| link.peer_answered(mirror, seq, now));
        }
        mirror.handle(Event::Received { peer, session, message, data });
        if link.next.borrow().len() >= PAUSE_BYTES {
            // Answers with much payload go out while the rest of what has come is looked at.
            channel.pause().await;
        }
    }
    Ok(())
}

async fn take_payload(mirror: &Mirror, incoming: &mut Incoming<'_>, len: usize) -> Result<View, Fault> {
    if len > PIECE_BYTES_MAX || mirror.payloads.link_bytes() + len > LINK_BYTES_MAX {
        let context = format!("the peer has sent more than this node can hold ({len} bytes more)");
        return Err(Fault::new(Kind::Protocol, context));
    }
    if mirror.local.is_immediate()
        && let Some(view) = incoming.lend(len)
    {
        return Ok(view);
    }
    let buffer = incoming.payload(mirror.buffer(len), 0).await?;
    Ok(buffer.into_view(0, len))
}

/// Counts what is corrupt or foreign.
fn check<T>(mirror: &Mirror, linked: &Linked, result: Result<T, FrameError>) -> Result<T, Fault> {
    result.map_err(|error| {
        mirror.links.corrupt(linked.peer);
        Fault::caused(Kind::Protocol, "a frame of the peer", error)
    })
}
