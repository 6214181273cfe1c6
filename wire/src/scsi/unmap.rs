//! The parameter list of UNMAP (SBC-3 5.28).

use super::{Geometry, Refusal};

/// The extents to let go, first block and count each, in the order given; none is empty.
pub fn parse(data: &[u8], geometry: &Geometry) -> Result<Vec<(u64, u64)>, Refusal> {
    let _ = (data, geometry);
    unimplemented!()
}
