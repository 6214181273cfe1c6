//! The links to all peers of one volume: which one is in use, and what has become of them.
//!
//! Its one rule: what is sent to a session that is gone is dropped without a word.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::View;
use reactor::driver::Moment;
use reactor::sync::WaitList;
use replication::{DisconnectReason, Message, NodeId, ReplicaId, Session, VolumeId};

use super::link::Link;
use crate::snapshot::LinkSnapshot;

/// All of them.
pub struct Links {
    peers: Vec<PeerLink>,
    next_session: Cell<u64>,
    /// A link has come or gone, or the settings have changed.
    pub changed: WaitList,
}

/// One peer.
#[derive(Default)]
pub struct PeerLink {
    name: String,
    current: RefCell<Option<Rc<Link>>>,
    links: Cell<u64>,
    corrupt: Cell<u64>,
    /// Of links that are gone.
    sent_bytes: Cell<u64>,
    received_bytes: Cell<u64>,
    trouble: RefCell<String>,
    /// It says what is to be done.
    is_advised: Cell<bool>,
}

impl Links {
    /// None yet.
    pub fn new(replicas: &[String]) -> Links {
        let peers = replicas.iter().map(|name| PeerLink { name: name.clone(), ..PeerLink::default() });
        Links { peers: peers.collect(), next_session: Cell::new(1), changed: WaitList::default() }
    }

    /// A number for one more link.
    pub fn session(&self) -> Session {
        let session = self.next_session.get();
        self.next_session.set(session + 1);
        Session(session)
    }

    /// Whether there is a link to this peer.
    pub fn is_up(&self, peer: ReplicaId) -> bool {
        self.peer(peer).current.borrow().is_some()
    }

    /// The UUID of the node at the other end of the link to this peer.
    pub fn node_of(&self, peer: ReplicaId) -> Option<NodeId> {
        self.peer(peer).current.borrow().as_ref().map(|link| link.node())
    }

    /// A link has come up; the one before it, if any, ends.
    pub fn up(&self, peer: ReplicaId, link: &Rc<Link>) -> Option<Session> {
        let slot = self.peer(peer);
        slot.links.set(slot.links.get() + 1);
        slot.trouble.borrow_mut().clear();
        let before = slot.current.replace(Some(link.clone()));
        self.changed.wake_all();
        before.map(|before| {
            before.close();
            self.book(slot, &before);
            before.session()
        })
    }

    /// A link has ended; whether it was the one in use.
    pub fn down(&self, peer: ReplicaId, link: &Rc<Link>) -> bool {
        let slot = self.peer(peer);
        let is_current = slot.current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, link));
        if is_current {
            slot.current.take();
            self.book(slot, link);
            self.changed.wake_all();
        }
        is_current
    }

    /// Sends a message, with its payload and that one's CRC32C.
    pub fn send(
        &self,
        to: ReplicaId,
        session: Session,
        volume: Option<VolumeId>,
        message: &Message,
        data: Option<(View, u32)>,
        now: Moment,
    ) {
        if let Some(link) = &*self.peer(to).current.borrow()
            && link.session() == session
        {
            link.send(volume, message, data, now);
        }
    }

    /// Ends a link, after what is on its way.
    pub fn hang_up(&self, peer: ReplicaId, session: Session, reason: &DisconnectReason, volume: &str) {
        let slot = self.peer(peer);
        let current = slot.current.borrow().clone();
        if let Some(link) = current.filter(|link| link.session() == session) {
            let peer = &slot.name;
            match reason {
                DisconnectReason::Changed | DisconnectReason::Replaced => {
                    tracing::debug!(volume, peer, "link ended: {reason}");
                }
                reason => tracing::warn!(volume, peer, "link ended: {reason}"),
            }
            slot.trouble.replace(reason.to_string());
            slot.is_advised.set(false);
            slot.current.take();
            self.book(slot, &link);
            link.close();
            self.changed.wake_all();
        }
    }

    /// Why there is no link, and whether that says what is to be done; true if it is news.
    pub fn trouble(&self, peer: ReplicaId, why: &str, is_advised: bool) -> bool {
        let slot = self.peer(peer);
        slot.is_advised.set(is_advised);
        if *slot.trouble.borrow() == why {
            return false;
        }
        slot.trouble.replace(why.to_owned());
        true
    }

    /// A frame was corrupt or foreign.
    pub fn corrupt(&self, peer: ReplicaId) {
        let corrupt = &self.peer(peer).corrupt;
        corrupt.set(corrupt.get() + 1);
    }

    /// Ends all.
    pub fn close(&self) {
        for slot in &self.peers {
            if let Some(link) = slot.current.take() {
                link.close();
            }
        }
        self.changed.wake_all();
    }

    /// For status.
    pub fn snapshot(&self, own: ReplicaId) -> Vec<LinkSnapshot> {
        let others = self.peers.iter().enumerate().filter(|(index, _)| *index != own.index());
        others.map(|(_, slot)| slot.snapshot()).collect()
    }

    fn peer(&self, peer: ReplicaId) -> &PeerLink {
        &self.peers[peer.index()]
    }

    fn book(&self, slot: &PeerLink, link: &Link) {
        slot.sent_bytes.set(slot.sent_bytes.get() + link.sent_bytes());
        slot.received_bytes.set(slot.received_bytes.get() + link.received_bytes());
    }
}

impl PeerLink {
    fn snapshot(&self) -> LinkSnapshot {
        let current = self.current.borrow();
        let now = current.as_ref();
        LinkSnapshot {
            peer: self.name.clone(),
            is_up: now.is_some(),
            links: self.links.get(),
            corrupt: self.corrupt.get(),
            sent_bytes: self.sent_bytes.get() + now.map_or(0, |link| link.sent_bytes()),
            received_bytes: self.received_bytes.get() + now.map_or(0, |link| link.received_bytes()),
            trouble: if now.is_some() { String::new() } else { self.trouble.borrow().clone() },
            is_advised: self.is_advised.get(),
        }
    }
}
