//! The parameter list of UNMAP (SBC-3 5.28).
//!
//! ```text
//! data length(2)  block descriptor data length(2)  reserved(4)
//!   descriptor: lba(8) blocks(4) reserved(4)
//! ```

use super::decode::check_range;
use super::{Geometry, Refusal, additional};

/// The extents to let go, first block and count each, in the order given; none is empty.
pub fn parse(data: &[u8], geometry: &Geometry) -> Result<Vec<(u64, u64)>, Refusal> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let length_error = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);
    let (&[_, _, high, low, ..], rest) = data.split_first_chunk::<8>().ok_or(length_error)?;
    // The whole descriptors among those bytes count, the rest is ignored.
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let (descriptors, _) = rest.get(..announced).ok_or(length_error)?.as_chunks::<16>();
    if descriptors.len() > geometry.unmap_descriptors_max as usize {
        return Err(Refusal::parameter_field(2, None));
    }
    let mut extents = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        let [a, b, c, d, e, f, g, h, k, l, m, n, ..] = *descriptor;
        let lba = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let blocks = u64::from(u32::from_be_bytes([k, l, m, n]));
        if blocks > 0 {
            check_range(lba, blocks, geometry)?;
            extents.push((lba, blocks));
        } else if lba > geometry.blocks {
            return Err(Refusal::lba_out_of_range(lba));
        }
    }
    if extents.iter().map(|(_, blocks)| blocks).sum::<u64>() > geometry.unmap_blocks_max.into() {
        return Err(Refusal::parameter_field(8, None));
    }
    Ok(extents)
}
