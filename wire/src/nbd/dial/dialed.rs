//! What a client learns from its server.

use crate::bytes::Reader;
use crate::nbd::handshake::code::{INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME};
use crate::nbd::handshake::option::text;
use crate::nbd::transmission::{ReplyStyle, TransmissionFlags};

use super::reply::{decode_block_sizes, decode_export};

/// An export in the server's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedExport {
    /// Its name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

/// What the server wants of offsets and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// All are multiples of it: a power of two.
    pub min: u32,
    /// The unit that performs best: a power of two.
    pub preferred: u32,
    /// The longest read or write.
    pub payload_max: u32,
}

/// A metadata context that the server selected for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialContext {
    /// Its number in this session.
    pub id: u32,
    /// Its name, such as base:allocation.
    pub name: String,
}

/// What the server told of the export, and what holds during transmission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialed {
    /// The export's size.
    pub size_bytes: u64,
    /// What it can do.
    pub flags: TransmissionFlags,
    /// The server's name for it, if it said so.
    pub name: Option<String>,
    /// For people, if there is one.
    pub description: Option<String>,
    /// `None` where the server did not say.
    pub block_sizes: Option<BlockSizes>,
    /// Which headers both sides use.
    pub style: ReplyStyle,
    /// The metadata contexts.
    pub contexts: Vec<DialContext>,
    /// What the server listed for `DialOptions::context_queries`.
    pub offered_contexts: Vec<String>,
    /// Whether this was agreed under TLS.
    pub tls: bool,
}

/// What the NBD_REP_INFO of one answer said so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) export: Option<(u64, TransmissionFlags)>,
    name: Option<String>,
    description: Option<String>,
    block_sizes: Option<BlockSizes>,
}

impl Told {
    /// Takes one NBD_REP_INFO; `None` if it is malformed. Unknown ones say nothing to us.
    pub(super) fn note(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        match reader.u16()? {
            INFO_EXPORT => self.export = Some(decode_export(reader.rest())?),
            INFO_NAME => self.name = Some(text(reader.rest())?.to_owned()),
            INFO_DESCRIPTION => self.description = Some(text(reader.rest())?.to_owned()),
            INFO_BLOCK_SIZE => self.block_sizes = Some(decode_block_sizes(reader.rest())?),
            _ => {}
        }
        Some(())
    }

    /// `None` if the server never told the size.
    pub(super) fn into_dialed(
        self,
        style: ReplyStyle,
        contexts: Vec<DialContext>,
        tls: bool,
    ) -> Option<Box<Dialed>> {
        let Told { export, name, description, block_sizes } = self;
        let (size_bytes, flags) = export?;
        let offered_contexts = Vec::new();
        Some(Box::new(Dialed {
            size_bytes,
            flags,
            name,
            description,
            block_sizes,
            style,
            contexts,
            offered_contexts,
            tls,
        }))
    }
}
