//! The place in a stream of headers and payloads that arrives in pieces.
//!
//! Payload bytes are skipped where they lie: a generator that copied or looked at them would measure itself.
//! Rule: what is cut off at the end of a piece is carried, and goes in front of the next one.

/// No header is longer.
const HEADER_BYTES_MAX: usize = 64;

/// One connection's place.
pub struct Stream {
    skip: usize,
    carry: [u8; HEADER_BYTES_MAX],
    carried: usize,
}

impl Stream {
    /// At the start.
    pub fn new() -> Stream {
        Stream { skip: 0, carry: [0; HEADER_BYTES_MAX], carried: 0 }
    }

    /// Puts back the piece of a header that ended the bytes before; the next bytes go behind it.
    #[inline]
    pub fn resume(&mut self, inbox: &mut [u8]) -> usize {
        let carried = std::mem::take(&mut self.carried);
        inbox[..carried].copy_from_slice(&self.carry[..carried]);
        carried
    }

    /// The next `count` bytes are payload.
    #[inline]
    pub fn expect(&mut self, count: usize) {
        self.skip = count;
    }

    /// Splits what is still payload off the front of `bytes`: payload, and the rest.
    #[inline]
    pub fn split<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (payload, rest) = bytes.split_at(self.skip.min(bytes.len()));
        self.skip -= payload.len();
        (payload, rest)
    }

    /// All expected payload has come.
    #[inline]
    pub fn is_at_header(&self) -> bool {
        self.skip == 0
    }

    /// Carries the piece of a header that is left.
    #[inline]
    pub fn carry(&mut self, bytes: &[u8]) {
        self.carried = bytes.len();
        self.carry[..bytes.len()].copy_from_slice(bytes);
    }
}
