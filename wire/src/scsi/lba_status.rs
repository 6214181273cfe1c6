//! The answer to GET LBA STATUS (SBC-3 5.4).

/// What holds for a run of blocks (SBC-3 table 49).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Provisioning {
    Mapped = 0,
    Deallocated = 1,
    Anchored = 2,
}

/// A run of blocks of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaExtent {
    /// Its first block.
    pub lba: u64,
    /// How many; more than fit into 32 bits are told as several.
    pub blocks: u64,
    /// What holds for them.
    pub provisioning: Provisioning,
}

/// The parameter data for `extents`, which follow one another; at most `allocation_bytes` of it.
pub fn put_lba_status(extents: &[LbaExtent], allocation_bytes: u32) -> Vec<u8> {
    let room = (allocation_bytes.saturating_sub(8) / 16).max(1) as usize;
    let mut data = vec![0; 8];
    for piece in extents.iter().flat_map(|extent| pieces(*extent)).take(room) {
        data.extend_from_slice(&piece.lba.to_be_bytes());
        data.extend_from_slice(&u32::try_from(piece.blocks).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(&[piece.provisioning as u8, 0, 0, 0]);
    }
    let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    data.truncate(allocation_bytes as usize);
    data
}

fn pieces(extent: LbaExtent) -> impl Iterator<Item = LbaExtent> {
    const PIECE: u64 = u32::MAX as u64;
    (0..extent.blocks.div_ceil(PIECE)).map(move |index| {
        let done = index * PIECE;
        LbaExtent { lba: extent.lba.saturating_add(done), blocks: PIECE.min(extent.blocks - done), ..extent }
    })
}
