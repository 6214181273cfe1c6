//! What initiators are told of a volume as a medium.

use wire::scsi::Geometry;

use crate::settings::IscsiLun;
use crate::volume::Volume;

/// The longest transfer of one command.
const TRANSFER_BYTES_MAX: u64 = 32 << 20;
/// The longest range that one command unmaps, or fills with one block.
const RANGE_BYTES_MAX: u64 = 4 << 30;
/// The largest physical block that is told of; sizes beyond say only what performs best.
const PAGE_BYTES: u32 = 4096;
/// Block descriptors of one UNMAP.
const UNMAP_DESCRIPTORS_MAX: u32 = 256;

/// The geometry of `volume` as `lun`.
pub fn of(volume: &Volume, lun: &IscsiLun) -> Geometry {
    let facts = volume.facts();
    let block = u64::from(lun.block_bytes);
    let in_blocks = |bytes: u32| (u64::from(bytes) / block).max(1) as u32;
    // A page cache and a file system move whole pages, whatever they let a write be.
    let physical_blocks = in_blocks(facts.block_bytes.max(facts.preferred_bytes.min(PAGE_BYTES)));
    let preferred_blocks = in_blocks(facts.preferred_bytes);
    Geometry {
        block_bytes: lun.block_bytes,
        blocks: volume.size_bytes() / block,
        physical_block_exponent: physical_blocks.ilog2() as u8,
        optimal_blocks: if preferred_blocks > physical_blocks { preferred_blocks } else { 0 },
        transfer_blocks_max: (TRANSFER_BYTES_MAX / block) as u32,
        unmap_blocks_max: (RANGE_BYTES_MAX / block) as u32,
        unmap_descriptors_max: UNMAP_DESCRIPTORS_MAX,
        unmap_granularity_blocks: preferred_blocks.max(physical_blocks),
        write_same_blocks_max: RANGE_BYTES_MAX / block,
        compare_and_write_blocks_max: u8::MAX,
        can_discard: facts.can_discard,
        // Only then is a discarded range zeroed without writing zeroes.
        zero_after_unmap: facts.can_discard && facts.can_fast_zero,
        read_only: lun.read_only || volume.settings().read_only,
        // What lies in memory is not made safer by a flush.
        write_cache: !volume.is_immediate(),
        removable: lun.removable,
    }
}
