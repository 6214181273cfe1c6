//! What a logical unit is made of: who it is, and what its medium can do.
//!
//! Its one rule: everything that tells one unit from another derives from the volume's UUID and name,
//! so that every node that serves the volume shows the same unit.

/// Who the logical unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// The volume's name.
    pub volume_name: String,
}

/// What the medium is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a logical block: a power of two from 512 to 4096.
    pub block_bytes: u32,
    /// Logical blocks.
    pub blocks: u64,
    /// A physical block is two to this many logical blocks.
    pub physical_block_exponent: u8,
    /// The transfer length that serves best, in blocks; 0 says nothing.
    pub optimal_blocks: u32,
    /// The longest read, write, verify or ORWRITE, in blocks.
    pub transfer_blocks_max: u32,
    /// The most blocks of one UNMAP command.
    pub unmap_blocks_max: u32,
    /// The most block descriptors of one UNMAP command.
    pub unmap_descriptors_max: u32,
    /// What the backing discards at a time, in blocks; at least 1.
    pub unmap_granularity_blocks: u32,
    /// The longest WRITE SAME, in blocks.
    pub write_same_blocks_max: u64,
    /// The longest COMPARE AND WRITE, in blocks.
    pub compare_and_write_blocks_max: u8,
    /// The backing can let go of blocks.
    pub can_discard: bool,
    /// Blocks that were let go read as zeroes (LBPRZ).
    pub zero_after_unmap: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// The backing may lose acknowledged writes with its power, until it was flushed.
    pub write_cache: bool,
    /// The medium can be ejected.
    pub removable: bool,
}
