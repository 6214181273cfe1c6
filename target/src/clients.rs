//! The clients of one core: who they are, how long they may take, and why some had to go.
//!
//! A sweep now and then, only while there are clients, ends those that negotiate or take a reply too slowly.

use std::cell::{Cell, RefCell};
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reactor::driver::Moment;
use reactor::sync::WaitList;
use reactor::{Core, Handle, io as verbs};
use uuid::Uuid;

use crate::fault::{Fault, Kind};
use crate::outbox::Outbox;
use crate::settings::Protocol;
use crate::snapshot::{ClientSnapshot, SessionSnapshot};

/// How often slow clients are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// Log lines about dropped clients in one second; the rest is only counted.
const LINES_PER_SECOND: u32 = 10;

/// Why a client was turned away or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum DropReason {
    Limit,
    HandshakeTimeout,
    Login,
    Stalled,
    Dead,
    Reinstated,
    Reset,
    Protocol,
    Disconnected,
    VolumeGone,
    LeaderLost,
    StoodStill,
    Resources,
    Stopped,
    /// No client's but a node's that is no peer.
    Link,
    Yielded,
}

impl DropReason {
    /// What an operator may want to know about it.
    fn remedy(self) -> &'static str {
        match self {
            DropReason::HandshakeTimeout => {
                "it did not negotiate in time (nbd.handshake_timeout, iscsi.login_timeout)"
            }
            DropReason::Stalled => {
                "it took no data, or did not send what it had announced, for too long (stall_timeout)"
            }
            DropReason::Dead => "it did not answer a ping in time (iscsi.ping_timeout)",
            DropReason::Reinstated => "the same initiator port has logged in again",
            DropReason::Reset => "an initiator has asked for a cold reset of the target",
            DropReason::VolumeGone => "what it was served is gone, or it may not have it any more",
            DropReason::LeaderLost => {
                "its volume's leader was lost with one of its requests; it sends that again when it has reconnected"
            }
            DropReason::StoodStill => "this node had stood still, and it may have gone on with another one",
            DropReason::Yielded => {
                "the copy that it was served has yielded to another, which has other bytes"
            }
            DropReason::Stopped => "it did not leave in time (node.stop_timeout)",
            _ => "the connection was ended",
        }
    }
}

const REASONS: [&str; 16] = [
    "limit",
    "handshake timeout",
    "login refused",
    "stalled",
    "dead",
    "reinstated",
    "reset",
    "protocol",
    "disconnected",
    "volume gone",
    "leader lost",
    "stood still",
    "resources",
    "stopped",
    LINK_REFUSED,
    "copy yielded",
];

/// How the status and metrics call connections of nodes that were turned away, which are no clients.
pub const LINK_REFUSED: &str = "link refused";

/// One of the places for clients that a node has, over all cores; dropping it frees it.
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place, unless `places_max` are taken.
    pub fn take(taken: &Arc<AtomicUsize>, places_max: usize) -> Option<Place> {
        let place = Place(taken.clone());
        (taken.fetch_add(1, Ordering::AcqRel) < places_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One client of this core.
pub struct Client {
    socket: Handle,
    protocol: Protocol,
    address: Option<SocketAddr>,
    volume: RefCell<String>,
    uuids: RefCell<Vec<Uuid>>,
    tls: Cell<bool>,
    deadline: Cell<Option<Moment>>,
    outbox: RefCell<Weak<Outbox>>,
    payload_since: Cell<Option<Moment>>,
    /// Requests being served.
    pub requests_inflight: Cell<usize>,
    /// Requests answered.
    pub requests: Cell<u64>,
    stopping: Cell<bool>,
    reason: Cell<Option<DropReason>>,
    session: RefCell<Option<Weak<dyn ClientSession>>>,
}

/// What a front knows of a client beyond its stream.
pub trait ClientSession {
    /// The session as status shows it.
    fn snapshot(&self) -> SessionSnapshot;
    /// Says goodbye, and stops reading once the client has had time to leave by itself.
    fn say_goodbye(&self);
}

impl Client {
    /// Its address; `None` for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Negotiation is over.
    pub fn named(&self, volume: &str, tls: bool) {
        self.volume.replace(volume.into());
        self.tls.set(tls);
        self.deadline.set(None);
    }

    /// It is served `uuids`, and replies through `outbox`.
    pub fn serves(&self, uuids: Vec<Uuid>, outbox: &Rc<Outbox>) {
        self.uuids.replace(uuids);
        self.outbox.replace(Rc::downgrade(outbox));
    }

    /// It has a session.
    pub fn has_session(&self, session: Weak<dyn ClientSession>) {
        self.session.replace(Some(session));
    }

    /// Since when a payload that it has announced is awaited; `None` when it is here.
    pub fn awaits_payload(&self, since: Option<Moment>) {
        self.payload_since.set(since);
    }

    /// Whether it is served this volume.
    pub fn is_served(&self, uuid: Uuid) -> bool {
        self.uuids.borrow().contains(&uuid)
    }

    /// Lets it go: soon it takes no further request, and what is in flight is still answered.
    pub fn part(&self) {
        match self.session.borrow().as_ref().and_then(Weak::upgrade) {
            Some(session) => session.say_goodbye(),
            None => self.stop_reading(),
        }
    }

    /// Takes no further request: what is in flight is still answered.
    pub fn stop_reading(&self) {
        self.stopping.set(true);
        self.socket.shutdown(Shutdown::Read);
    }

    /// Whether no further request is to be taken.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Ends the connection; its operations come back by themselves.
    pub fn disconnect(&self, reason: DropReason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
        self.stopping.set(true);
        self.socket.shutdown(Shutdown::Both);
    }

    /// Ends a connection that is over.
    pub fn disconnect_quietly(&self) {
        self.socket.shutdown(Shutdown::Both);
    }

    /// Why we ended it, if we did.
    pub fn reason(&self) -> Option<DropReason> {
        self.reason.get()
    }

    fn snapshot(&self) -> ClientSnapshot {
        let session = self.session.borrow().as_ref().and_then(Weak::upgrade);
        ClientSnapshot {
            protocol: self.protocol,
            address: self.address,
            volume: self.volume.borrow().clone(),
            tls: self.tls.get(),
            requests_inflight: self.requests_inflight.get(),
            requests: self.requests.get(),
            session: session.map(|session| session.snapshot()),
        }
    }

    fn check(&self, now: Moment, stall_timeout: Duration) {
        if self.deadline.get().is_some_and(|deadline| now >= deadline) {
            self.disconnect(DropReason::HandshakeTimeout);
        }
        let sending_since = self.outbox.borrow().upgrade().and_then(|outbox| outbox.sending_since());
        let stalled = |since: Option<Moment>| since.is_some_and(|since| now - since >= stall_timeout);
        if stalled(sending_since) || stalled(self.payload_since.get()) {
            self.disconnect(DropReason::Stalled);
        }
    }
}

/// All clients of one core.
#[derive(Default)]
pub struct Clients {
    all: RefCell<Vec<Weak<Client>>>,
    came: WaitList,
    dropped: [Cell<u64>; REASONS.len()],
    lines: Cell<(u64, u32)>,
    core: RefCell<Option<Core>>,
}

impl Clients {
    /// Whose clock counts.
    pub fn set_core(&self, core: &Core) {
        self.core.replace(Some(core.clone()));
    }

    /// A new client, that must have negotiated by `deadline`.
    pub fn enter(
        &self,
        socket: &Handle,
        protocol: Protocol,
        address: Option<SocketAddr>,
        deadline: Option<Moment>,
    ) -> Rc<Client> {
        let client = Rc::new(Client {
            socket: socket.clone(),
            protocol,
            address,
            volume: RefCell::default(),
            uuids: RefCell::default(),
            tls: Cell::new(false),
            deadline: Cell::new(deadline),
            outbox: RefCell::default(),
            payload_since: Cell::new(None),
            requests_inflight: Cell::new(0),
            requests: Cell::new(0),
            stopping: Cell::new(false),
            reason: Cell::new(None),
            session: RefCell::default(),
        });
        self.all.borrow_mut().push(Rc::downgrade(&client));
        self.came.wake_all();
        client
    }

    /// Those that are here now.
    pub fn now(&self) -> Vec<Rc<Client>> {
        let mut all = self.all.borrow_mut();
        all.retain(|client| client.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends the connections of a volume's clients.
    pub fn turn_away(&self, volume: Uuid, protocol: Protocol, reason: DropReason) {
        let clients = self.now();
        let chosen =
            clients.iter().filter(|client| client.is_served(volume) && client.protocol() == protocol);
        chosen.for_each(|client| client.disconnect(reason));
    }

    /// A client's stream has ended: counted, if it was we who ended it.
    pub fn left(&self, client: &Client) {
        if let Some(reason) = client.reason() {
            let fault = Fault::new(Kind::Disconnected, reason.remedy());
            self.dropped(reason, client.address(), &fault);
        }
    }

    /// Counts a client that had to go, and says so in one line.
    pub fn dropped(&self, reason: DropReason, address: Option<SocketAddr>, fault: &Fault) {
        self.count_dropped(reason);
        if self.may_log() {
            let client = address.map_or("a unix socket".to_string(), |address| address.to_string());
            tracing::warn!(client, reason = REASONS[reason as usize], "client dropped: {fault}");
        }
    }

    /// Counts one that was turned away.
    pub fn count_dropped(&self, reason: DropReason) {
        let count = &self.dropped[reason as usize];
        count.set(count.get() + 1);
    }

    /// Whether another line may be written in this second.
    pub fn may_log(&self) -> bool {
        let second = self.core.borrow().as_ref().map_or(0, |core| core.turn_started().0 / 1_000_000_000);
        let (at, lines) = self.lines.get();
        let lines = if at == second { lines + 1 } else { 1 };
        self.lines.set((second, lines));
        lines <= LINES_PER_SECOND
    }

    /// Who is here, and who had to go.
    pub fn snapshot(&self) -> (Vec<ClientSnapshot>, Vec<(&'static str, u64)>) {
        let clients = self.now().iter().map(|client| client.snapshot()).collect();
        let dropped =
            REASONS.iter().zip(&self.dropped).map(|(&reason, count)| (reason, count.get())).collect();
        (clients, dropped)
    }

    /// Looks after slow clients for ever.
    pub async fn sweep(&self, core: &Core, stall_timeout: impl Fn(Protocol) -> Duration) {
        loop {
            let clients = self.now();
            if clients.is_empty() {
                drop(clients);
                self.came.wait().await;
            } else {
                let now = core.now();
                clients.iter().for_each(|client| client.check(now, stall_timeout(client.protocol)));
                drop(clients);
            }
            verbs::sleep(core, SWEEP).await;
        }
    }
}
