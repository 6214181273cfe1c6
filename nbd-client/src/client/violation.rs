//! What a server may not do during transmission, by name. After it nothing that it says can be believed.

use wire::nbd::transmission::{BadMagic, ChunkType, Command};

/// Why the connection ends, and is not made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error(transparent)]
    Magic(#[from] BadMagic),
    #[error("a reply to cookie {0:#x}, which is no request in flight")]
    ForeignCookie(u64),
    #[error("a reply to another offset than the request's")]
    ForeignOffset,
    #[error("data in answer to {0:?}")]
    DataNotAskedFor(Command),
    #[error("{length} bytes of data at {offset}, outside of the request")]
    DataOutside { offset: u64, length: u64 },
    #[error("data for a part of the request that was answered before")]
    DataTwice,
    #[error("data in far too many pieces")]
    TooManyPieces,
    #[error("the reply ended before all data was there")]
    DataMissing,
    #[error("a simple reply to a read, although replies in chunks were agreed")]
    SimpleRead,
    #[error("block status in answer to {0:?}")]
    StatusNotAskedFor(Command),
    #[error("block status for a context that was not selected, or not asked for")]
    ForeignContext,
    #[error("block status twice")]
    StatusTwice,
    #[error("block status beyond the request")]
    StatusTooLong,
    #[error("the reply ended without block status")]
    StatusMissing,
    #[error("{payload_bytes} bytes in a chunk of type {chunk:?}")]
    ChunkLength { chunk: ChunkType, payload_bytes: u64 },
    #[error("a malformed chunk of type {0:?}")]
    MalformedChunk(ChunkType),
    #[error("an unknown type of chunk, {0}")]
    UnknownChunk(u16),
}
