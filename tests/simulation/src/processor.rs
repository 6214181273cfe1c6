//! One processor of a simulated machine: what its core knows descriptors by, and what it has under way.
//!
//! Its one rule: what is under way belongs to one life of the machine, and ends with it.

use std::collections::BTreeMap;
use std::rc::Rc;

use reactor::op::{Completion, Op, Output, Token};
use reactor::uring::Doorbell;
use reactor::{Arena, Buffer};

use crate::agenda::{HostId, Landing};
use crate::host::{Host, Object};

/// What is under way.
pub struct Flight {
    pub op: Op,
    pub kind: FlightKind,
}

/// What is known of it beside the operation.
#[derive(Clone, Copy)]
pub enum FlightKind {
    Network,
    /// On this file; how far a flush reaches.
    Disk {
        file: usize,
        flush_point: u64,
    },
}

/// One processor.
pub struct Processor {
    /// Of which machine.
    pub host: HostId,
    /// When its core runs next.
    pub next_step: u64,
    pub flights: BTreeMap<u32, Flight>,
    pub landed: Vec<(Token, Landing)>,
    /// The inodes of descriptors, by what its driver knows them by.
    pub descriptors: BTreeMap<u32, u64>,
    /// Another core has left something for this one.
    pub doorbell: Option<Doorbell>,
    next_slot: u32,
    pub receive_arena: Rc<Arena>,
}

impl Processor {
    /// One that has never run.
    pub fn new(host: HostId) -> Processor {
        Processor {
            host,
            next_step: u64::MAX,
            flights: BTreeMap::new(),
            landed: Vec::new(),
            descriptors: BTreeMap::new(),
            doorbell: None,
            next_slot: 0,
            receive_arena: Arena::new(1 << 20).expect("a megabyte"),
        }
    }

    /// Takes a descriptor in; gives the number that handles know it by.
    pub fn adopt(&mut self, inode: u64) -> u32 {
        self.next_slot += 1;
        self.descriptors.insert(self.next_slot, inode);
        self.next_slot
    }

    /// Whether somebody has rung since it last looked.
    pub fn is_rung(&self) -> bool {
        self.doorbell.as_ref().is_some_and(Doorbell::is_rung)
    }

    /// The operations of a life that has ended. They may hold handles, so they are dropped outside.
    pub fn end_life(&mut self) -> BTreeMap<u32, Flight> {
        self.landed.clear();
        self.descriptors.clear();
        self.doorbell = None;
        self.next_step = u64::MAX;
        std::mem::take(&mut self.flights)
    }

    /// What has come of operations since it was last asked.
    pub fn harvest(&mut self, host: &mut Host) -> Vec<(Token, Completion)> {
        let landed = std::mem::take(&mut self.landed);
        landed.into_iter().map(|(token, landing)| (token, self.complete(token, landing, host))).collect()
    }

    fn complete(&mut self, token: Token, landing: Landing, host: &mut Host) -> Completion {
        let Flight { op, .. } = self.flights.remove(&token.0).expect("what lands was under way");
        let failed = |error| Err(std::io::Error::from_raw_os_error(error));
        match (landing, op) {
            (Landing::Failed(error), op) => Completion { result: failed(error), op },
            (Landing::Moved(count), op) => Completion { result: Ok(Output::Count(count as u64)), op },
            (Landing::Received(bytes), Op::ReceiveInto { socket, mut buffer, start, wait_all }) => {
                buffer.bytes_mut()[start..start + bytes.len()].copy_from_slice(&bytes);
                let op = Op::ReceiveInto { socket, buffer, start, wait_all };
                Completion { result: Ok(Output::Count(bytes.len() as u64)), op }
            }
            (Landing::Received(bytes), op) => {
                let mut buffer = self.receive_buffer(bytes.len());
                buffer.bytes_mut().copy_from_slice(&bytes);
                Completion { result: Ok(Output::Buffer(buffer)), op }
            }
            (Landing::Accepted(connection), op) => {
                let fd = host.descriptor(Object::Stream(connection, 1));
                Completion { result: Ok(Output::Descriptor(fd)), op }
            }
        }
    }

    fn receive_buffer(&self, len: usize) -> Buffer {
        let arena = &self.receive_arena;
        arena.try_take(len).unwrap_or_else(|| arena.spill(len))
    }
}
