//! Cuts the server's bytes into replies to options, and reads their payloads.
//!
//! Its one rule: the answer to one option is at most `ANSWER_BYTES_MAX`, however it is composed.

use crate::bytes::{Gather, Reader};
use crate::nbd::handshake::code::{REPLY_HEADER_BYTES, REPLY_MAGIC};
use crate::nbd::handshake::option::text;
use crate::nbd::handshake::{OptionCode, ReplyCode};
use crate::nbd::transmission::TransmissionFlags;

use super::{BlockSizes, DialContext, DialError, ListedExport};

/// Room for thousands of exports, or for any list of contexts.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// One reply, whole.
#[derive(Debug)]
pub(super) struct OptionReply {
    pub(super) code: ReplyCode,
    pub(super) payload: Vec<u8>,
}

/// Cuts replies; one for each option that was sent.
#[derive(Debug)]
pub(super) struct Replies {
    option: OptionCode,
    gather: Gather,
    header: Option<(ReplyCode, usize)>,
    answer_bytes: usize,
}

impl Replies {
    pub(super) fn new(option: OptionCode) -> Replies {
        Replies { option, gather: Gather::default(), header: None, answer_bytes: 0 }
    }

    pub(super) fn option(&self) -> OptionCode {
        self.option
    }

    /// The next reply off `input`; `None` when all was taken and more is needed.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<OptionReply>, DialError> {
        let (code, payload_bytes) = match self.header {
            Some(header) => header,
            None => match self.gather.take(input, REPLY_HEADER_BYTES) {
                None => return Ok(None),
                Some(header) => self.read_header(&header)?,
            },
        };
        self.header = Some((code, payload_bytes));
        let Some(payload) = self.gather.take(input, payload_bytes) else { return Ok(None) };
        self.header = None;
        Ok(Some(OptionReply { code, payload }))
    }

    fn read_header(&mut self, header: &[u8]) -> Result<(ReplyCode, usize), DialError> {
        let mut reader = Reader::new(header);
        let mut fields = || Some((reader.u64()?, reader.u32()?, reader.u32()?, reader.u32()?));
        let (magic, option, code, length) = fields().expect("twenty bytes were gathered");
        if magic != REPLY_MAGIC {
            return Err(DialError::BadReplyMagic(magic));
        }
        let got = OptionCode::from_u32(option);
        if got != self.option {
            return Err(DialError::ForeignReply { expected: self.option, got });
        }
        let payload_bytes = usize::try_from(length).expect("a length of 32 bits fits the address space");
        self.answer_bytes = self.answer_bytes.saturating_add(REPLY_HEADER_BYTES + payload_bytes);
        if self.answer_bytes > ANSWER_BYTES_MAX {
            return Err(DialError::TooLong(self.option));
        }
        Ok((ReplyCode::from_u32(code), payload_bytes))
    }
}

pub(super) fn decode_server(payload: &[u8]) -> Option<ListedExport> {
    let mut reader = Reader::new(payload);
    let name_bytes = reader.u32()?;
    let name = text(reader.bytes(usize::try_from(name_bytes).ok()?)?)?.to_owned();
    Some(ListedExport { name, description: String::from_utf8_lossy(reader.rest()).into_owned() })
}

pub(super) fn decode_context(payload: &[u8]) -> Option<DialContext> {
    let mut reader = Reader::new(payload);
    let id = reader.u32()?;
    Some(DialContext { id, name: text(reader.rest())?.to_owned() })
}

/// Size and flags, as in NBD_INFO_EXPORT and at the beginning of the answer to EXPORT_NAME.
pub(super) fn decode_export(bytes: &[u8]) -> Option<(u64, TransmissionFlags)> {
    let mut reader = Reader::new(bytes);
    let export = (reader.u64()?, TransmissionFlags::from_bits(reader.u16()?));
    reader.is_empty().then_some(export)
}

/// Lawful sizes only: a client computes with them.
pub(super) fn decode_block_sizes(bytes: &[u8]) -> Option<BlockSizes> {
    let mut reader = Reader::new(bytes);
    let sizes = BlockSizes { min: reader.u32()?, preferred: reader.u32()?, payload_max: reader.u32()? };
    let BlockSizes { min, preferred, payload_max } = sizes;
    let lawful = min.is_power_of_two()
        && min <= 1 << 16
        && preferred.is_power_of_two()
        && preferred >= min
        && payload_max >= min
        && (payload_max == u32::MAX || payload_max.is_multiple_of(min));
    (reader.is_empty() && lawful).then_some(sizes)
}
