//! One direction of a connection, and what its two ends wait for.

use std::collections::VecDeque;

use nix::libc;
use reactor::op::Token;

use crate::agenda::{Agenda, CoreId, HostId, Landing};
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

/// What is sent, and when it arrives.
pub struct Segment {
    pub what: Sent,
    pub due: u64,
}

/// Bytes, or the end of them.
pub enum Sent {
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
    /// Which of its cores holds it.
    pub core: CoreId,
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
    pub fn new(host: HostId, core: CoreId, state: EndState) -> End {
        End { host, core, state, reader: None, writer: None, reads_no_more: false, writes_no_more: false }
    }
}

impl Pipe {
    /// Sends something: it arrives behind all that was sent before.
    pub fn push(&mut self, agenda: &mut Agenda, what: Sent, shape: &Shape) {
        let before = self.segments.back().map_or(0, |segment| segment.due);
        let due = before.max(agenda.now + shape.delay(&mut agenda.dice));
        self.segments.push_back(Segment { what, due });
    }

    /// When the first segment arrives. What was held back is sent again.
    pub fn next_due(&mut self, agenda: &mut Agenda, shape: &Shape) -> Option<u64> {
        if self.segments.front()?.due < agenda.now {
            let again = agenda.now + shape.delay(&mut agenda.dice);
            self.segments.iter_mut().for_each(|segment| segment.due = segment.due.max(again));
        }
        self.segments.front().map(|first| first.due)
    }

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
        agenda.land(end.core, token, landing);
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
            let on_its_way: usize = self.segments.iter().map(|segment| segment.what.len()).sum();
            let room = shape.window_bytes.saturating_sub(on_its_way + self.arrived.len());
            if room == 0 {
                return;
            }
            let len = shape.part(&mut agenda.dice, room.min(writer.bytes.len()));
            let data = Sent::Data(writer.bytes[..len].to_vec());
            self.push(agenda, data, shape);
            Landing::Moved(len)
        };
        end.writer = None;
        agenda.land(end.core, token, landing);
    }
}

impl Sent {
    fn len(&self) -> usize {
        match self {
            Sent::Data(bytes) => bytes.len(),
            Sent::End | Sent::Reset => 0,
        }
    }
}
