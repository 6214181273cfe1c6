//! Logical unit numbers as iSCSI carries them: the eight bytes of SAM-5 §4.7.
//!
//! ```text
//! peripheral  00 bus(6) | number(8) | six zero bytes      bus 0
//! flat space  01 number(14)         | six zero bytes
//! ```

/// The eight bytes of a LUN, read as one big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lun(pub u64);

impl Lun {
    /// The single-level form of a number below 16384: peripheral up to 255, flat space above.
    pub fn from_number(number: u16) -> Lun {
        assert!(number < 1 << 14, "a single-level LUN has 14 bits");
        let method = if number < 256 { 0 } else { 0x4000 };
        Lun(u64::from(method | number) << 48)
    }

    /// Its number where it has one level, on bus 0 or in flat space.
    #[inline]
    pub fn number(self) -> Option<u16> {
        let first = (self.0 >> 48) as u16;
        if self.0 << 16 != 0 {
            return None;
        }
        match first >> 14 {
            0 => (first < 256).then_some(first),
            1 => Some(first & 0x3fff),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Lun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number() {
            Some(number) => write!(f, "Lun({number})"),
            None => write!(f, "Lun({:#018x})", self.0),
        }
    }
}
