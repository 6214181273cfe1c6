//! What initiators are told of a volume as a medium.

use wire::scsi::Geometry;

use crate::settings::IscsiLun;
use crate::volume::Volume;

/// The longest transfer of one command.
pub const TRANSFER_BYTES_MAX: u64 = 32 << 20;
/// The longest range that one command fills with one block.
const WRITE_SAME_BYTES_MAX: u64 = 4 << 30;
/// Blocks that one UNMAP lets go: as many as initiators and their tests expect at most.
const UNMAP_BLOCKS_MAX: u32 = 1 << 20;
/// Block descriptors of one UNMAP.
const UNMAP_DESCRIPTORS_MAX: u32 = 256;

/// The geometry of `volume` as `lun`.
pub fn of(volume: &Volume, lun: &IscsiLun) -> Geometry {
    let facts = volume.facts();
    let block = u64::from(lun.block_bytes);
    let in_blocks = |bytes: u32| (u64::from(bytes) / block).max(1) as u32;
    let physical_blocks = in_blocks(match (facts.block_bytes, volume.is_immediate()) {
        // A page cache takes any length, but what lies below it is read and written in pages.
        (1, false) => facts.preferred_bytes,
        (block_bytes, _) => block_bytes,
    });
    let preferred_blocks = in_blocks(facts.preferred_bytes);
    Geometry {
        block_bytes: lun.block_bytes,
        blocks: volume.size_bytes() / block,
        physical_block_exponent: physical_blocks.ilog2() as u8,
        optimal_blocks: if preferred_blocks > physical_blocks { preferred_blocks } else { 0 },
        transfer_blocks_max: (TRANSFER_BYTES_MAX / block) as u32,
        unmap_blocks_max: UNMAP_BLOCKS_MAX,
        unmap_descriptors_max: UNMAP_DESCRIPTORS_MAX,
        unmap_granularity_blocks: preferred_blocks.max(physical_blocks),
        write_same_blocks_max: WRITE_SAME_BYTES_MAX / block,
        // Clients of other nodes could come between.
        compare_and_write_blocks_max: if volume.mirror().is_some() { 0 } else { u8::MAX },
        can_discard: facts.can_discard,
        // Only then is a discarded range zeroed without writing zeroes.
        zero_after_unmap: facts.can_discard && facts.can_fast_zero,
        read_only: lun.read_only || volume.settings().read_only,
        // What lies in memory is not made safer by a flush.
        write_cache: !volume.is_immediate(),
        removable: lun.removable,
    }
}
