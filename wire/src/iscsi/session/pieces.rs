//! Data in, cut into PDUs and sequences (RFC 7143 §11.7.1).
//!
//! Its one rule: a piece is at most MaxRecvDataSegmentLength, a sequence of pieces at most MaxBurstLength, and
//! the last piece of a sequence is final.

use crate::iscsi::parameters::Parameters;

/// The PDUs that a transfer is cut into: (offset, bytes, is_final).
#[derive(Clone, Debug)]
pub struct Pieces {
    offset: u32,
    end: u32,
    piece_bytes: u32,
    burst_bytes: u32,
    burst_left: u32,
}

impl Pieces {
    #[inline]
    pub(super) fn new(offset: u32, bytes: u32, parameters: &Parameters) -> Pieces {
        let burst_bytes = parameters.max_burst_length;
        Pieces {
            offset,
            end: offset.checked_add(bytes).expect("data in ends within 4 GiB"),
            piece_bytes: parameters.max_recv_data_segment_length,
            burst_bytes,
            burst_left: burst_bytes,
        }
    }
}

impl Iterator for Pieces {
    type Item = (u32, u32, bool);

    #[inline]
    fn next(&mut self) -> Option<(u32, u32, bool)> {
        if self.offset == self.end {
            return None;
        }
        let (offset, left) = (self.offset, self.end - self.offset);
        let bytes = left.min(self.piece_bytes).min(self.burst_left);
        self.offset += bytes;
        self.burst_left -= bytes;
        let is_final = self.burst_left == 0 || self.offset == self.end;
        if self.burst_left == 0 {
            self.burst_left = self.burst_bytes;
        }
        Some((offset, bytes, is_final))
    }
}
