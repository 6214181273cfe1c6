//! The parameter list of SANITIZE with OVERWRITE (SBC-3 5.24.2.2).

use super::{Geometry, Refusal};

/// How to overwrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// How many times; at least once.
    pub passes: u8,
    /// Every second pass writes the complement.
    pub invert: bool,
    /// Repeated over the medium; from 1 byte to a block.
    pub pattern: Vec<u8>,
}

/// Reads the parameter list.
pub fn parse(data: &[u8], geometry: &Geometry) -> Result<Overwrite, Refusal> {
    let _ = (data, geometry);
    unimplemented!()
}
