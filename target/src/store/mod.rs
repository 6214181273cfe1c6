//! Stores: where a replica's bytes lie, behind one interface.

use crate::fault::Fault;
use crate::message::VolumeFacts;
use crate::settings::VolumeSettings;

/// An open store, not yet attached to a core.
pub struct Opened {}

impl Opened {
    /// What it turned out to be.
    pub fn facts(&self) -> VolumeFacts {
        unimplemented!()
    }
}

/// Opens the backing of `settings`, which must exist (memory is made). Blocking: control thread only.
pub fn open(settings: &VolumeSettings) -> Result<Opened, Fault> {
    let _ = settings;
    unimplemented!()
}

/// Makes a file backing of `size_bytes`, sparse. Fails where anything exists at that path; for block, NVMe
/// and memory backings there is nothing to make.
pub fn create(settings: &VolumeSettings) -> Result<(), Fault> {
    let _ = settings;
    unimplemented!()
}

/// Grows or shrinks a file backing; the caller then sends `Ask::ResizeVolume`. For devices it
/// only checks that the device has that size by now; memory takes any size.
pub fn resize(settings: &VolumeSettings, size_bytes: u64) -> Result<(), Fault> {
    let _ = (settings, size_bytes);
    unimplemented!()
}

/// Deletes a file backing. Never touches a device.
pub fn remove(settings: &VolumeSettings) -> Result<(), Fault> {
    let _ = settings;
    unimplemented!()
}
