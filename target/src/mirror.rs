//! The mirror of a volume on its core: carries out what `replication::Replica` asks for.

mod metadata;

pub use metadata::{OpenMetadata, open_metadata};
