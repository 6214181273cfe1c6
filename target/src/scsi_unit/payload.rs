//! A command's data out: the views that it came in, given out in pieces that suit the medium.

use std::collections::VecDeque;

use reactor::buffer::PIECE_BYTES_MAX;
use reactor::{Buffer, Core, View};

/// How much of a long transfer is in the works at once.
pub const STEP_BYTES: usize = 256 << 10;

/// Data out.
pub struct Payload {
    core: Core,
    views: VecDeque<View>,
    len: usize,
}

impl Payload {
    /// `views` in their order, cut off at `len_max` bytes: an initiator may send more than its command takes.
    pub fn new(core: &Core, views: Vec<View>, len_max: u64) -> Payload {
        let mut len = 0;
        let mut kept = VecDeque::with_capacity(views.len());
        for mut view in views {
            let room = usize::try_from(len_max).unwrap_or(usize::MAX) - len;
            if view.len() > room {
                view = view.split_to(room);
            }
            len += view.len();
            if view.len() > 0 {
                kept.push_back(view);
            }
        }
        Payload { core: core.clone(), views: kept, len }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The next bytes, a multiple of `block` but at the end, and at most a step. As they came where that suits,
    /// otherwise copied together.
    pub fn next(&mut self, block: usize) -> Option<View> {
        let front = self.views.front()?.len().min(STEP_BYTES);
        let whole = front / block * block;
        if whole == 0 && self.views.len() > 1 {
            return Some(self.joined(self.len.min(STEP_BYTES)));
        }
        let len = if whole == 0 { front } else { whole };
        Some(self.cut(len))
    }

    /// All that is left, in one piece.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(&mut bytes);
        bytes
    }

    fn joined(&mut self, len: usize) -> View {
        let mut buffer = buffer(&self.core, len);
        self.copy_to(buffer.bytes_mut());
        buffer.into_view(0, len)
    }

    fn copy_to(&mut self, to: &mut [u8]) {
        let mut done = 0;
        while done < to.len() {
            let front = self.views.front().map_or(0, View::len);
            let view = self.cut(front.min(to.len() - done));
            view.copy_to(&mut to[done..done + view.len()]);
            done += view.len();
        }
    }

    /// The first `len` bytes of the first view.
    fn cut(&mut self, len: usize) -> View {
        let front = self.views.front_mut().expect("callers ask for what is left");
        self.len -= len;
        if front.len() > len {
            return front.split_to(len);
        }
        self.views.pop_front().expect("looked at above")
    }
}

/// A buffer for a step; never waits, because who waits for one may hold what others wait for.
pub fn buffer(core: &Core, len: usize) -> Buffer {
    core.arena().take_now(len)
}

/// `bytes` as views.
pub fn views_of(core: &Core, bytes: &[u8]) -> Vec<View> {
    let view = |piece: &[u8]| {
        let mut buffer = buffer(core, piece.len());
        buffer.bytes_mut().copy_from_slice(piece);
        buffer.into_view(0, piece.len())
    };
    bytes.chunks(PIECE_BYTES_MAX.min(STEP_BYTES)).map(view).collect()
}

/// All bytes of `views`.
pub fn bytes_of(views: &[View]) -> Vec<u8> {
    let mut bytes = vec![0; views.iter().map(View::len).sum()];
    let mut at = 0;
    for view in views {
        view.copy_to(&mut bytes[at..at + view.len()]);
        at += view.len();
    }
    bytes
}
