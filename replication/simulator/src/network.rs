//! Links between nodes: they keep order, but for what may pass a resync, and lose nothing while they live, as TCP does.
//!
//! A direction that is blocked holds what is sent until it is free again. What is under way when a link ends may
//! still arrive, or not.
//! Its one rule: an end of a link hears of it first, then of what came over it, then of its end.

use std::collections::VecDeque;

use replication::{Message, Place};

use crate::payload::Payload;

pub(crate) const NODES_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) at: u64,
    pub(crate) session: u32,
    pub(crate) message: Message,
    pub(crate) payload: Option<Payload>,
}

/// From one node to another.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) parcels: VecDeque<Parcel>,
    /// Nothing arrives before this.
    pub(crate) last: u64,
    pub(crate) blocked: bool,
    /// The arrival of the first parcel is in the bag.
    pub(crate) scheduled: bool,
}

impl Direction {
    /// The last parcel arrives before those before it that yield, unless they are on their way already.
    pub(crate) fn let_last_pass(&mut self) {
        let on_its_way = usize::from(self.scheduled);
        for place in (on_its_way + 1..self.parcels.len()).rev() {
            let [before, after] = [place - 1, place].map(|place| &self.parcels[place]);
            if before.message.place() != Place::Yields || before.session != after.session {
                return;
            }
            self.parcels.swap(place - 1, place);
            let at = self.parcels[place].at;
            self.parcels[place].at = std::mem::replace(&mut self.parcels[place - 1].at, at);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    directions: Vec<Direction>,
    /// The link between two nodes, by the lower and the higher; 0: none.
    live: Vec<u32>,
    /// The link that an end believes in; 0: none.
    believed: Vec<u32>,
    last_session: u32,
    /// When each session began.
    began: Vec<u64>,
}

#[inline]
fn index(a: usize, b: usize) -> usize {
    a * NODES_MAX + b
}

impl Network {
    pub(crate) fn new() -> Network {
        let all = NODES_MAX * NODES_MAX;
        Network {
            directions: (0..all).map(|_| Direction::default()).collect(),
            live: vec![0; all],
            believed: vec![0; all],
            last_session: 0,
            began: vec![0],
        }
    }

    #[inline]
    pub(crate) fn direction(&mut self, from: usize, to: usize) -> &mut Direction {
        &mut self.directions[index(from, to)]
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.directions[index(from, to)].blocked
    }

    pub(crate) fn live(&self, a: usize, b: usize) -> u32 {
        self.live[index(a.min(b), a.max(b))]
    }

    pub(crate) fn begin(&mut self, a: usize, b: usize, now: u64) -> u32 {
        self.last_session += 1;
        self.began.push(now);
        self.live[index(a.min(b), a.max(b))] = self.last_session;
        self.last_session
    }

    /// When the link between two nodes began, if there is one.
    pub(crate) fn live_since(&self, a: usize, b: usize) -> Option<u64> {
        let session = self.live(a, b);
        (session != 0).then(|| self.began[session as usize])
    }

    /// The link is no more. Its ends may not know yet.
    pub(crate) fn end(&mut self, a: usize, b: usize) {
        self.live[index(a.min(b), a.max(b))] = 0;
    }

    #[inline]
    pub(crate) fn believed(&self, node: usize, peer: usize) -> u32 {
        self.believed[index(node, peer)]
    }

    pub(crate) fn believe(&mut self, node: usize, peer: usize, session: u32) {
        self.believed[index(node, peer)] = session;
    }

    /// The end of a process: what comes for it comes to nobody.
    pub(crate) fn forget(&mut self, node: usize) {
        for peer in 0..NODES_MAX {
            self.believed[index(node, peer)] = 0;
            self.directions[index(peer, node)].parcels.clear();
        }
    }
}
