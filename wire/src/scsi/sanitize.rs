//! The parameter list of SANITIZE with OVERWRITE (SBC-3 5.24.2.2).
//!
//! ```text
//! invert(1 bit) test(2) overwrite count(5)  reserved(1)  pattern length(2)  pattern
//! ```

use super::{Geometry, Refusal, additional};

/// How to overwrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// How many times; at least once.
    pub passes: u8,
    /// Every second pass writes the complement.
    pub invert: bool,
    /// Repeated over each block from its beginning; from 1 byte to a block.
    pub pattern: Vec<u8>,
}

/// Reads the parameter list.
pub fn parse(data: &[u8], geometry: &Geometry) -> Result<Overwrite, Refusal> {
    let length_error = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);
    let (&[flags, _, high, low], pattern) = data.split_first_chunk().ok_or(length_error)?;
    let passes = flags & 0x1f;
    let pattern_bytes = u16::from_be_bytes([high, low]);
    if flags & 0x60 != 0 {
        return Err(Refusal::parameter_field(0, Some(6)));
    }
    if passes == 0 {
        return Err(Refusal::parameter_field(0, Some(4)));
    }
    if pattern_bytes == 0 || u32::from(pattern_bytes) > geometry.block_bytes {
        return Err(Refusal::parameter_field(2, None));
    }
    if pattern.len() != usize::from(pattern_bytes) {
        return Err(length_error);
    }
    Ok(Overwrite { passes, invert: flags & 0x80 != 0, pattern: pattern.to_vec() })
}
