//! One simulated machine: its disk, its descriptors, and the operations that its core has under way.
//!
//! Its one rule: what is under way belongs to one life of the machine, and ends with it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;

use nix::libc;
use nix::sys::stat::fstat;
use reactor::op::{Completion, Op, Output, Token};
use reactor::{Arena, Buffer};

use crate::agenda::Landing;
use crate::dice::Dice;
use crate::disk::{Image, Mood};

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A socket that nothing was done with.
    Socket,
    /// A port that is listened on.
    Listener(u16),
    /// One side of a connection.
    Stream(u32, usize),
    /// A file of the machine's disk.
    File(usize),
}

/// What is under way.
pub struct Flight {
    pub op: Op,
    pub kind: FlightKind,
}

/// What is known of it beside the operation.
pub enum FlightKind {
    Network,
    /// On this file; how far a flush reaches.
    Disk {
        file: usize,
        flush_point: u64,
    },
}

/// One machine.
pub struct Host {
    /// For the timeline.
    pub name: &'static str,
    /// Counts its lives.
    pub boot: u32,
    /// Its system runs.
    pub is_on: bool,
    /// Its program runs.
    pub is_live: bool,
    /// Its program gets no time.
    pub is_frozen: bool,
    /// When its core runs next.
    pub next_step: u64,
    pub files: Vec<Image>,
    pub mood: Mood,
    pub clock: Clock,
    pub flights: BTreeMap<u32, Flight>,
    pub landed: Vec<(Token, Landing)>,
    /// Disk operations that wait until the disk is not hung any more.
    pub held: Vec<Token>,
    /// By what their driver knows them by.
    pub objects: BTreeMap<u32, Object>,
    /// Descriptors that the core has not taken in yet, by the number of their inode.
    fresh: BTreeMap<u64, Object>,
    next_slot: u32,
    pub receive_arena: Rc<Arena>,
}

/// A clock that is not quite right.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it showed in the beginning.
    pub start: u64,
    /// Millionths by which it is too fast.
    pub drift: i64,
}

impl Clock {
    /// What it shows.
    pub fn shows(&self, now: u64) -> u64 {
        let drifted = i128::from(now) * i128::from(1_000_000 + self.drift) / 1_000_000;
        self.start + drifted as u64
    }

    /// When it will show that.
    pub fn when(&self, shown: u64) -> u64 {
        let elapsed = i128::from(shown.saturating_sub(self.start));
        (elapsed * 1_000_000 / i128::from(1_000_000 + self.drift)) as u64 + 1
    }
}

impl Host {
    /// A machine that has never run.
    pub fn new(name: &'static str, clock: Clock, mood: Mood) -> Host {
        Host {
            name,
            boot: 0,
            is_on: true,
            is_live: false,
            is_frozen: false,
            next_step: u64::MAX,
            files: Vec::new(),
            mood,
            clock,
            flights: BTreeMap::new(),
            landed: Vec::new(),
            held: Vec::new(),
            objects: BTreeMap::new(),
            fresh: BTreeMap::new(),
            next_slot: 0,
            receive_arena: Arena::new(1 << 20).expect("a megabyte"),
        }
    }

    /// A descriptor that stands for `object`: a real one, as handles own descriptors, that nothing is done with.
    pub fn descriptor(&mut self, object: Object) -> OwnedFd {
        let fd = OwnedFd::from(UnixDatagram::unbound().expect("a descriptor is left"));
        self.fresh.insert(inode(&fd), object);
        fd
    }

    /// Takes a descriptor in; gives the number that handles know it by.
    pub fn adopt(&mut self, fd: &OwnedFd) -> u32 {
        let inode = inode(fd);
        let object = *self.fresh.get(&inode).expect("descriptors are made here");
        if !matches!(object, Object::File(_)) {
            self.fresh.remove(&inode);
        }
        self.next_slot += 1;
        self.objects.insert(self.next_slot, object);
        self.next_slot
    }

    /// The operations of a life that has ended. They may hold handles, so they are dropped outside.
    pub fn end_life(&mut self, dice: &mut Dice) -> BTreeMap<u32, Flight> {
        for flight in self.flights.values() {
            tear(&mut self.files, flight, dice);
        }
        self.is_live = false;
        self.is_frozen = false;
        self.landed.clear();
        self.held.clear();
        self.fresh.clear();
        self.objects.clear();
        self.next_step = u64::MAX;
        std::mem::take(&mut self.flights)
    }

    /// What has come of operations since it was last asked.
    pub fn harvest(&mut self) -> Vec<(Token, Completion)> {
        let landed = std::mem::take(&mut self.landed);
        landed.into_iter().map(|(token, landing)| (token, self.complete(token, landing))).collect()
    }

    fn complete(&mut self, token: Token, landing: Landing) -> Completion {
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
                let fd = self.descriptor(Object::Stream(connection, 1));
                Completion { result: Ok(Output::Descriptor(fd)), op }
            }
        }
    }

    fn receive_buffer(&self, len: usize) -> Buffer {
        let arena = &self.receive_arena;
        arena.try_take(len).unwrap_or_else(|| arena.spill(len))
    }

    /// A write that failed has done something, or nothing.
    pub fn spoil(&mut self, token: Token, dice: &mut Dice) {
        let flight = self.flights.get(&token.0).expect("it is under way");
        tear(&mut self.files, flight, dice);
    }

    /// Does to the disk what an operation asks for, and fills its buffer. Whether it may be done was decided before.
    pub fn perform(&mut self, token: Token, len: usize) {
        let flight = self.flights.get_mut(&token.0).expect("it is under way");
        let FlightKind::Disk { file, flush_point } = flight.kind else { return };
        let image = &mut self.files[file];
        match &mut flight.op {
            Op::Read { buffer, start, offset, .. } => {
                let from = *offset as usize;
                buffer.bytes_mut()[*start..*start + len].copy_from_slice(&image.bytes()[from..from + len]);
            }
            Op::Write { data, offset, durable, .. } => {
                let mut bytes = vec![0; data.len()];
                data.copy_to(&mut bytes);
                match durable {
                    true => image.write_through(*offset as usize, &bytes[..len]),
                    false => image.write(*offset as usize, &bytes[..len]),
                }
            }
            Op::Sync { .. } => image.flush(flush_point),
            Op::Allocate { mode, offset, len, .. } => {
                let zeroes = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
                if *mode & zeroes != 0 {
                    image.write(*offset as usize, &vec![0; *len as usize]);
                }
            }
            _ => {}
        }
    }
}

/// What was being written may be on the disk, in part.
fn tear(files: &mut [Image], flight: &Flight, dice: &mut Dice) {
    let FlightKind::Disk { file, .. } = flight.kind else { return };
    match &flight.op {
        Op::Write { data, offset, .. } => {
            let mut bytes = vec![0; data.len()];
            data.copy_to(&mut bytes);
            files[file].tear(*offset as usize, &bytes, dice);
        }
        Op::Allocate { offset, len, .. } => {
            files[file].tear(*offset as usize, &vec![0; *len as usize], dice);
        }
        _ => {}
    }
}

fn inode(fd: &OwnedFd) -> u64 {
    fstat(fd.as_fd()).expect("an open descriptor").st_ino
}
