//! One direction of a connection, and what its two ends wait for.

use std::collections::VecDeque;

use nix::libc;
use reactor::op::Token;

use crate::agenda::{Agenda, HostId, Landing};
use crate::dice::Dice;

/// How the network behaves for the whole of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A segment takes so long, in nanoseconds.
    pub delay_min: u64,
    /// At most.
    pub delay_max: u64,
    /// Bytes that a sender may be ahead of the receiving program.
    pub window_bytes: usize,
    /// Of a hundred transfers, so many are of an odd size.
    pub odd_sizes: u64,
}

impl Shape {
    /// Of one segment.
    pub fn delay(&self, dice: &mut Dice) -> u64 {
        dice.scale(self.delay_min, self.delay_max)
    }

    /// How much of `len` moves at once; never nothing.
    fn part(&self, dice: &mut Dice, len: usize) -> usize {
        match dice.percent(self.odd_sizes) {
            true => 1 + dice.index(len),
            false => len,
        }
    }
}

/// What is sent.
pub enum Segment {
    Data(Vec<u8>),
    End,
    Reset,
}

/// Bytes from one side to the other.
#[derive(Default)]
pub struct Pipe {
    pub segments: VecDeque<Segment>,
    pub arrived: VecDeque<u8>,
    pub ended: bool,
    /// The arrival of the first segment is planned.
    pub is_arriving: bool,
}

/// One side of a connection.
pub struct End {
    pub host: HostId,
    pub state: EndState,
    pub reader: Option<Reader>,
    pub writer: Option<Writer>,
    pub reads_no_more: bool,
    pub writes_no_more: bool,
}

/// How one side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndState {
    /// It has asked, and waits.
    Dialing(Token),
    /// It has not been asked yet.
    Nobody,
    Open,
    /// The next operation hears of it.
    Reset,
    /// Its program has closed it.
    Closed,
    /// Its machine has lost its memory.
    Forgotten,
}

pub struct Reader {
    pub token: Token,
    pub max: usize,
    pub whole: bool,
}

pub struct Writer {
    pub token: Token,
    pub bytes: Vec<u8>,
}

impl End {
    pub fn new(host: HostId, state: EndState) -> End {
        End { host, state, reader: None, writer: None, reads_no_more: false, writes_no_more: false }
    }
}

impl Pipe {
    /// Gives `end`, at which it arrives, what it waits for.
    pub fn read(&mut self, agenda: &mut Agenda, end: &mut End, shape: &Shape) {
        let Some(Reader { token, max, whole }) = end.reader else { return };
        let here = self.arrived.len();
        let is_over = self.ended || end.reads_no_more;
        let landing = if end.state == EndState::Reset {
            Landing::Failed(libc::ECONNRESET)
        } else if here > 0 {
            let wanted = if whole { max.min(shape.window_bytes / 2) } else { 1 };
            if here < wanted && !is_over {
                return;
            }
            let len = shape.part(&mut agenda.dice, here.min(max));
            Landing::Received(self.arrived.drain(..len).collect())
        } else if is_over {
            Landing::Received(Vec::new())
        } else {
            return;
        };
        end.reader = None;
        agenda.land(end.host, token, landing);
    }

    /// Takes from `end`, at which it begins, what there is room for.
    pub fn write(&mut self, agenda: &mut Agenda, end: &mut End, shape: &Shape) {
        let Some(writer) = &end.writer else { return };
        let token = writer.token;
        let landing = if end.state == EndState::Reset {
            Landing::Failed(libc::ECONNRESET)
        } else if end.writes_no_more {
            Landing::Failed(libc::EPIPE)
        } else {
            let on_its_way: usize = self.segments.iter().map(Segment::len).sum();
            let room = shape.window_bytes.saturating_sub(on_its_way + self.arrived.len());
            if room == 0 {
                return;
            }
            let len = shape.part(&mut agenda.dice, room.min(writer.bytes.len()));
            self.segments.push_back(Segment::Data(writer.bytes[..len].to_vec()));
            Landing::Moved(len)
        };
        end.writer = None;
        agenda.land(end.host, token, landing);
    }
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Segment::Data(bytes) => bytes.len(),
            Segment::End | Segment::Reset => 0,
        }
    }
}
