//! The metadata file of a replica.

use std::sync::Arc;

use crate::fault::Fault;
use crate::settings::VolumeSettings;

/// A replica's metadata, read and ready for its core.
pub struct OpenMetadata {}

/// Opens the metadata of a mirrored volume of `size_bytes`, made if it is not there. Blocks: never on a core.
pub fn open_metadata(settings: &Arc<VolumeSettings>, size_bytes: u64) -> Result<OpenMetadata, Fault> {
    let _ = (settings, size_bytes);
    Ok(OpenMetadata {})
}
