//! How long the parts of a PDU are that follow its basic header.

use super::BHS_BYTES;
use super::field::u32_at;

/// The lengths that a basic header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// The additional header segment, at most 1020.
    pub ahs_bytes: usize,
    /// The data segment without its padding, below 16 MiB.
    pub data_bytes: usize,
}

impl Segments {
    /// Out of a header of either direction.
    #[inline]
    pub fn of(bhs: &[u8; BHS_BYTES]) -> Segments {
        let lengths = u32_at(bhs, 4);
        Segments { ahs_bytes: (lengths >> 24) as usize * 4, data_bytes: (lengths & 0x00ff_ffff) as usize }
    }

    /// How many bytes of padding follow the data.
    #[inline]
    pub fn padding(&self) -> usize {
        self.data_bytes.wrapping_neg() % 4
    }
}
