//! SCSI block devices (SPC-4, SBC-3): command descriptor blocks, and the logical unit that answers them.
//!
//! ```text
//! cdb ── Unit::begin ──▶ Command::Unit(..)  ── Unit::answer(data out) ──▶ Answer
//!                    ├─▶ Command::Read, ..  ── the caller does it on the medium
//!                    └─▶ Refusal            ── status and sense
//! ```

mod command;
pub mod copy;
mod decode;
mod geometry;
mod inquiry;
mod lba_status;
mod mode;
mod opcodes;
mod port;
mod reservation;
pub mod sanitize;
mod sense;
mod unit;
pub mod unmap;
mod vpd;

pub use command::{ByteCheck, Command, SanitizeAction, UnitCommand};
pub use geometry::{Geometry, Identity};
pub use lba_status::{LbaExtent, Provisioning, put_lba_status};
pub use port::{InitiatorPort, TargetPort};
pub use reservation::saved::SavedError;
pub use sense::{FieldPointer, Refusal, Sense, SenseKey, Status, additional};
pub use unit::{Answer, NexusId, Reset, Unit, begin_without_unit};
