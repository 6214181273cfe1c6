//! What one send carries: small heads written here, and views of payload, in order.
//!
//! Boxed while the kernel has it, because the message header points into it.

use crate::buffer::View;

/// The kernel's UIO_MAXIOV; what is beyond goes with the next send.
const IOVECS_MAX: usize = 1024;
/// Bytes of one send; what is beyond goes with the next one, so that a slow peer is seen to take something.
const SEND_BYTES_MAX: usize = 1 << 20;

/// An outgoing sequence of bytes.
#[derive(Default)]
pub struct Gather {
    heads: Vec<u8>,
    parts: Vec<Part>,
    len: usize,
    sent: usize,
    iovecs: Vec<libc::iovec>,
    header: Option<libc::msghdr>,
}

enum Part {
    Head { start: usize, len: usize },
    View(View),
}

impl Gather {
    /// Appends what `write` appends to the vector it is given.
    pub fn head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.heads.len();
        write(&mut self.heads);
        let len = self.heads.len() - start;
        self.len += len;
        match self.parts.last_mut() {
            Some(Part::Head { len: last, .. }) => *last += len,
            _ => self.parts.push(Part::Head { start, len }),
        }
    }

    /// Appends a payload.
    pub fn view(&mut self, view: View) {
        self.len += view.len();
        self.parts.push(Part::View(view));
    }

    /// Bytes not yet sent.
    pub fn remaining(&self) -> usize {
        self.len - self.sent
    }

    /// Bytes in all.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends all of `other`, which is left empty.
    pub fn append(&mut self, other: &mut Gather) {
        assert_eq!(other.sent, 0, "what is being sent stays where it is");
        let base = self.heads.len();
        self.heads.extend_from_slice(&other.heads);
        self.parts.extend(other.parts.drain(..).map(|part| match part {
            Part::Head { start, len } => Part::Head { start: base + start, len },
            view => view,
        }));
        self.len += other.len;
        other.clear();
    }

    /// Empties it, keeping its memory; payloads go back to where they came from.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.parts.clear();
        self.iovecs.clear();
        self.header = None;
        self.len = 0;
        self.sent = 0;
    }

    /// Counts `count` bytes as sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        assert!(self.sent <= self.len, "the kernel sends no more than it was given");
    }

    /// Copies what is not yet sent to the end of `to`, for a channel that must transform it.
    pub fn copy_to(&self, to: &mut Vec<u8>) {
        let mut skip = self.sent;
        for part in &self.parts {
            let start = to.len();
            match part {
                Part::Head { start, len } => to.extend_from_slice(&self.heads[*start..start + len]),
                Part::View(view) => {
                    to.resize(start + view.len(), 0);
                    view.copy_to(&mut to[start..]);
                }
            }
            let part_len = to.len() - start;
            let skipped = skip.min(part_len);
            to.drain(start..start + skipped);
            skip -= skipped;
        }
    }

    /// The message header of what remains. It points into `self`, which must stay where it is and unchanged
    /// until the kernel is done with it.
    pub(crate) fn prepare(&mut self) -> *const libc::msghdr {
        self.iovecs.clear();
        let mut skip = self.sent;
        let mut room = SEND_BYTES_MAX;
        for part in &self.parts {
            let (ptr, len) = match part {
                Part::Head { start, len } => (self.heads[*start..].as_ptr(), *len),
                Part::View(view) => (view.ptr(), view.len()),
            };
            let skipped = skip.min(len);
            skip -= skipped;
            if self.iovecs.len() == IOVECS_MAX || room == 0 {
                break;
            }
            let iov_len = (len - skipped).min(room);
            if iov_len > 0 {
                room -= iov_len;
                let iov_base = ptr.wrapping_add(skipped).cast_mut().cast();
                self.iovecs.push(libc::iovec { iov_base, iov_len });
            }
        }
        // SAFETY: all-zero is a valid msghdr: no name, no control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.iovecs.as_mut_ptr();
        header.msg_iovlen = self.iovecs.len();
        self.header.insert(header)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::region::Region;

    #[test]
    fn one_send_is_bounded_and_the_next_goes_on_where_it_ended() {
        let mut gather = Gather::default();
        gather.head(|out| out.resize(SEND_BYTES_MAX - 1, 1));
        gather.head(|out| out.resize(2 * SEND_BYTES_MAX + 5, 2));
        let mut sends = Vec::new();
        while gather.remaining() > 0 {
            gather.prepare();
            let len = gather.iovecs.iter().map(|iovec| iovec.iov_len).sum();
            sends.push(len);
            gather.advance(len);
        }
        assert_eq!(sends, [SEND_BYTES_MAX, SEND_BYTES_MAX, 5]);
    }

    #[test]
    fn copies_heads_and_views_in_order_without_what_was_sent() {
        let region = Rc::new(Region::new(16).expect("memory"));
        region.copy_in(0, b"0123456789abcdef");
        for sent in 0..=14 {
            let mut gather = Gather::default();
            gather.head(|out| out.extend_from_slice(b"AA"));
            gather.head(|out| out.extend_from_slice(b"BB"));
            gather.view(region.view(2, 4));
            gather.head(|out| out.extend_from_slice(b"CC"));
            gather.view(region.view(12, 4));
            gather.advance(sent);
            let mut out = b"x".to_vec();
            gather.copy_to(&mut out);
            assert_eq!(&out[1..], &b"AABB2345CCcdef"[sent..]);
        }
    }
}
