//! Cuts the client's bytes into its flags and its options, however they arrive.
//!
//! ```text
//! flags 4 | { magic 8 | option 4 | length 4 | payload }*
//! ```
//! Its one rule: it stores at most one payload of `OPTION_BYTES_MAX`; what is longer, or what nobody
//! wants to read, is counted and forgotten.

use crate::bytes::{Gather, Reader, split_up_to};

use super::code::{CLIENT_FLAGS_BYTES, OPTION_HEADER_BYTES, OPTION_MAGIC, OptionCode};

/// The longest payload of an option that is read: a name and a few queries at their full length.
pub const OPTION_BYTES_MAX: usize = 16 * 1024;

/// What the client has sent, once it is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unit {
    ClientFlags(u32),
    Option {
        code: OptionCode,
        payload: Vec<u8>,
    },
    /// The payload was longer than allowed, and is gone.
    TooBig {
        code: OptionCode,
    },
    BadMagic(u64),
}

#[derive(Debug)]
enum Expect {
    ClientFlags,
    Header,
    Payload { code: OptionCode, payload_bytes: usize },
    Drain { code: OptionCode, left_bytes: usize },
}

#[derive(Debug)]
pub(super) struct Framing {
    expect: Expect,
    gather: Gather,
}

impl Framing {
    pub(super) fn new() -> Framing {
        Framing { expect: Expect::ClientFlags, gather: Gather::default() }
    }

    /// Takes bytes off `input` up to the end of one unit; `None` when all were taken and more are needed.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Unit> {
        loop {
            match self.expect {
                Expect::ClientFlags => {
                    let flags = self.gather.take(input, CLIENT_FLAGS_BYTES)?;
                    self.expect = Expect::Header;
                    return Some(Unit::ClientFlags(
                        Reader::new(&flags).u32().expect("four bytes were gathered"),
                    ));
                }
                Expect::Header => {
                    let header = self.gather.take(input, OPTION_HEADER_BYTES)?;
                    if let Err(magic) = self.expect_payload(&header) {
                        return Some(Unit::BadMagic(magic));
                    }
                }
                Expect::Payload { code, payload_bytes } => {
                    let payload = self.gather.take(input, payload_bytes)?;
                    self.expect = Expect::Header;
                    return Some(Unit::Option { code, payload });
                }
                Expect::Drain { code, left_bytes } => {
                    let taken = split_up_to(input, left_bytes).len();
                    if taken < left_bytes {
                        self.expect = Expect::Drain { code, left_bytes: left_bytes - taken };
                        return None;
                    }
                    self.expect = Expect::Header;
                    return Some(Unit::TooBig { code });
                }
            }
        }
    }

    fn expect_payload(&mut self, header: &[u8]) -> Result<(), u64> {
        let mut reader = Reader::new(header);
        let mut fields = || Some((reader.u64()?, reader.u32()?, reader.u32()?));
        let (magic, code, length) = fields().expect("sixteen bytes were gathered");
        if magic != OPTION_MAGIC {
            return Err(magic);
        }
        let code = OptionCode::from_u32(code);
        let payload_bytes = usize::try_from(length).expect("a length of 32 bits fits the address space");
        self.expect = match payload_bytes <= OPTION_BYTES_MAX {
            true => Expect::Payload { code, payload_bytes },
            false => Expect::Drain { code, left_bytes: payload_bytes },
        };
        Ok(())
    }
}
