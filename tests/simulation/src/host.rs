//! One simulated machine: its disk, its clock, its descriptors.
//!
//! Its one rule: a descriptor stands for one object as long as anybody holds it, on whichever core.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::sys::stat::fstat;
use reactor::op::{Op, Token};

use crate::agenda::CoreId;
use crate::dice::Dice;
use crate::disk::{Image, Mood};
use crate::processor::{Flight, FlightKind};

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

/// A descriptor that somebody holds.
struct Held {
    object: Object,
    /// The other end of the real descriptor: shows whether anybody holds that one.
    watch: UnixStream,
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
    /// Its processors.
    pub cores: Range<CoreId>,
    pub files: Vec<Image>,
    pub mood: Mood,
    pub clock: Clock,
    /// Disk operations that wait until the disk is not hung any more.
    pub held: Vec<(CoreId, Token)>,
    /// By the number of their inode.
    descriptors: BTreeMap<u64, Held>,
    /// On their way from one core to another.
    in_transit: Vec<u64>,
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
    pub fn new(name: &'static str, cores: Range<CoreId>, clock: Clock, mood: Mood) -> Host {
        Host {
            name,
            boot: 0,
            is_on: true,
            is_live: false,
            is_frozen: false,
            cores,
            files: Vec::new(),
            mood,
            clock,
            held: Vec::new(),
            descriptors: BTreeMap::new(),
            in_transit: Vec::new(),
        }
    }

    /// A descriptor that stands for `object`: a real one, as handles own descriptors, that nothing is done with.
    pub fn descriptor(&mut self, object: Object) -> OwnedFd {
        let (fd, watch) = UnixStream::pair().expect("descriptors are left");
        watch.set_nonblocking(true).expect("a socket can be");
        self.descriptors.insert(inode(fd.as_fd()), Held { object, watch });
        fd.into()
    }

    /// What a descriptor stands for.
    pub fn object(&self, inode: u64) -> Option<Object> {
        self.descriptors.get(&inode).map(|held| held.object)
    }

    /// A core takes a descriptor in.
    pub fn adopted(&mut self, inode: u64) {
        self.in_transit.retain(|one| *one != inode);
    }

    /// A socket has become a side of a connection.
    pub fn becomes(&mut self, inode: u64, object: Object) {
        self.descriptors.get_mut(&inode).expect("descriptors are made here").object = object;
    }

    /// A core has let go of a descriptor: what is closed by that, if nobody else holds it.
    pub fn let_go(&mut self, inode: u64) -> Option<Object> {
        if self.descriptors.get(&inode)?.is_held() {
            self.in_transit.push(inode);
            return None;
        }
        self.descriptors.remove(&inode).map(|held| held.object)
    }

    /// Objects that nobody has taken in at the other end of their way.
    pub fn lost_in_transit(&mut self) -> Vec<Object> {
        if self.in_transit.is_empty() {
            return Vec::new();
        }
        let is_lost = |inode: &mut u64| self.descriptors.get(inode).is_none_or(|held| !held.is_held());
        let lost: Vec<u64> = self.in_transit.extract_if(.., is_lost).collect();
        lost.into_iter().filter_map(|inode| self.descriptors.remove(&inode)).map(|held| held.object).collect()
    }

    /// Its program has ended.
    pub fn end_life(&mut self) {
        self.is_live = false;
        self.is_frozen = false;
        self.held.clear();
        self.descriptors.clear();
        self.in_transit.clear();
    }

    /// A write that failed, or did not get to its end, has done something, or nothing.
    pub fn spoil(&mut self, flight: &Flight, dice: &mut Dice) {
        let FlightKind::Disk { file, .. } = flight.kind else { return };
        match &flight.op {
            Op::Write { data, offset, .. } => {
                let mut bytes = vec![0; data.len()];
                data.copy_to(&mut bytes);
                self.files[file].tear(*offset as usize, &bytes, dice);
            }
            Op::Allocate { offset, len, .. } => {
                self.files[file].tear(*offset as usize, &vec![0; *len as usize], dice);
            }
            _ => {}
        }
    }

    /// Does to the disk what an operation asks for, and fills its buffer. Whether it may be done was decided before.
    pub fn perform(&mut self, flight: &mut Flight, len: usize) {
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

impl Held {
    /// Whether anybody has the descriptor.
    fn is_held(&self) -> bool {
        !matches!((&self.watch).read(&mut [0; 1]), Ok(0))
    }
}

/// Names a descriptor, and its copies.
pub fn inode(fd: BorrowedFd<'_>) -> u64 {
    fstat(fd).expect("an open descriptor").st_ino
}
