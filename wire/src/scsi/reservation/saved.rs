//! Reservations as bytes that outlive the process (APTPL).

use thiserror::Error;

/// Why saved reservations cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SavedError {
    /// Not ours, or from a version that we do not know.
    #[error("not reservations as this version saves them")]
    Unknown,
    /// Cut short or altered.
    #[error("the saved reservations are damaged: their checksum does not match")]
    Damaged,
    /// Of another volume.
    #[error("the saved reservations are another volume's")]
    OtherVolume,
}
