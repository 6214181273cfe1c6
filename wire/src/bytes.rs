//! Big-endian values off the front of a slice, and onto the end of a buffer.
//!
//! Its one rule: a read past the end is `None`, never a panic.

/// What is left to read of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

/// Gathers a part of known size from input that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    partial: Vec<u8>,
}

impl Gather {
    /// `count` bytes in one piece, once they are there; the same `count` until then.
    ///
    /// Grows with what has arrived, not with what was announced.
    pub(crate) fn take(&mut self, input: &mut &[u8], count: usize) -> Option<Vec<u8>> {
        let missing = count - self.partial.len();
        self.partial.extend_from_slice(split_up_to(input, missing));
        (self.partial.len() == count).then(|| std::mem::take(&mut self.partial))
    }
}

/// Takes at most `count_max` bytes off the front of `input`.
pub(crate) fn split_up_to<'a>(input: &mut &'a [u8], count_max: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count_max.min(input.len()));
    *input = rest;
    taken
}

/// A frame of known size at the end of a buffer, filled field by field.
///
/// The fields are written where they stay: gathered elsewhere and copied, they would be loaded again
/// before their stores are through.
#[must_use = "a frame is complete only at its end"]
pub(crate) struct Frame<'a> {
    unfilled: &'a mut [u8],
}

impl<'a> Frame<'a> {
    #[inline]
    pub(crate) fn append<const N: usize>(out: &'a mut Vec<u8>) -> Frame<'a> {
        out.extend_from_slice(&[0; N]);
        let (_, unfilled) = out.split_last_chunk_mut::<N>().expect("N bytes were appended");
        Frame { unfilled }
    }

    #[inline]
    pub(crate) fn u16(self, value: u16) -> Frame<'a> {
        self.put(value.to_be_bytes())
    }

    #[inline]
    pub(crate) fn u32(self, value: u32) -> Frame<'a> {
        self.put(value.to_be_bytes())
    }

    #[inline]
    pub(crate) fn u64(self, value: u64) -> Frame<'a> {
        self.put(value.to_be_bytes())
    }

    /// Every byte must have been given: a frame is never padded by accident.
    #[inline]
    pub(crate) fn end(self) {
        assert!(self.unfilled.is_empty(), "a frame holds exactly its fields");
    }

    #[inline]
    fn put<const M: usize>(self, field: [u8; M]) -> Frame<'a> {
        let (place, unfilled) =
            self.unfilled.split_first_chunk_mut().expect("the frame has room for its fields");
        *place = field;
        Frame { unfilled }
    }
}
