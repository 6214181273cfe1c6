//! A replica's metadata as a file: superblock, activity log and bitmaps, each in two places in turn.
//!
//! ```text
//! open:   Reader::new ─▶ wants ─▶ take ─┬▶ … ─▶ finish ─▶ Stored, Writer
//!                                       └▶ ReadError::NotFormatted ─▶ format ─▶ Writer (and an empty Stored)
//! run:    Effect::WriteMetadata ─▶ Writer::encode ─▶ write it, make it durable ─▶ Event::MetadataDone
//! ```
//! Its one rule: a record is written where the one before the last was, so that a torn write destroys nothing
//! that was durable.

mod layout;
mod reader;
mod slot;
mod writer;

pub use layout::{CHUNK_BYTES, Layout, RecordName, SLOT_BYTES};
pub use reader::{Damage, Opened, ReadError, Reader, read};
pub use writer::{Writer, format};

use crate::config::ReplicaConfig;
use crate::id::{NodeId, ReplicaId};
use crate::region::Geometry;

/// Whose metadata a file has: written once, when the file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which node.
    pub node: NodeId,
    /// Which replica of the volume.
    pub replica: ReplicaId,
    /// The volume's size and regions.
    pub geometry: Geometry,
}

impl Identity {
    /// What a replica's configuration makes it.
    pub fn of(config: &ReplicaConfig) -> Identity {
        Identity { node: config.node, replica: config.own, geometry: config.geometry }
    }
}
