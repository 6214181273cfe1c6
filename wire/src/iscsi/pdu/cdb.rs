//! A SCSI command descriptor block: sixteen bytes of the header, or more with an extended CDB AHS.
//!
//! Its one rule: only a CDB of more than sixteen bytes is on the heap.

use std::ops::Deref;

/// The longest CDB that SPC-4 knows.
pub const CDB_BYTES_MAX: usize = 260;
/// What the basic header holds.
pub(super) const INLINE_BYTES: usize = 16;

/// The bytes of a command. Shorter commands are padded with zeroes to sixteen.
#[derive(Clone, PartialEq, Eq)]
pub struct Cdb(Bytes);

#[derive(Clone, PartialEq, Eq)]
enum Bytes {
    Inline([u8; INLINE_BYTES]),
    Extended(Box<[u8]>),
}

impl Cdb {
    /// From at most 260 bytes of ours.
    pub fn new(bytes: &[u8]) -> Cdb {
        assert!(bytes.len() <= CDB_BYTES_MAX, "a CDB has at most 260 bytes");
        if bytes.len() > INLINE_BYTES {
            return Cdb(Bytes::Extended(bytes.into()));
        }
        let mut inline = [0; INLINE_BYTES];
        inline[..bytes.len()].copy_from_slice(bytes);
        Cdb(Bytes::Inline(inline))
    }

    #[inline]
    pub(super) fn from_header(inline: [u8; INLINE_BYTES]) -> Cdb {
        Cdb(Bytes::Inline(inline))
    }

    /// With what an AHS adds; `None` where it is empty or longer than any CDB.
    pub(super) fn extended(inline: &[u8], more: &[u8]) -> Option<Cdb> {
        let total = inline.len() + more.len();
        let fits = !more.is_empty() && total <= CDB_BYTES_MAX;
        fits.then(|| Cdb(Bytes::Extended([inline, more].concat().into())))
    }

    /// The part in the basic header, and the rest.
    pub(super) fn parts(&self) -> (&[u8; INLINE_BYTES], &[u8]) {
        self.split_first_chunk().expect("a CDB is padded to sixteen bytes")
    }
}

impl Deref for Cdb {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline(bytes) => bytes,
            Bytes::Extended(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Cdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cdb(")?;
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
