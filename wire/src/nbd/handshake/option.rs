//! The payloads of options, both ways.
//!
//! ```text
//! INFO, GO             name length 4 | name | count 2 | { information type 2 }*
//! LIST_, SET_META_…    name length 4 | name | count 4 | { query length 4 | query }*
//! ```
//! Its one rule: a payload that is short, long, or whose strings are no text, is no request.

use crate::bytes::{Frame, Reader};
use crate::nbd::transmission::STRING_BYTES_MAX;

use super::code::{OPTION_HEADER_BYTES, OPTION_MAGIC, OptionCode};

/// Which export an INFO or GO is about, and what the client wants to hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InfoRequest<'a> {
    pub(crate) name: &'a str,
    pub(crate) wanted: Vec<u16>,
}

impl<'a> InfoRequest<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Option<InfoRequest<'a>> {
        let mut reader = Reader::new(payload);
        let name = string(&mut reader)?;
        let count = reader.u16()?;
        let (wanted, odd) = reader.rest().as_chunks();
        let whole = odd.is_empty() && wanted.len() == usize::from(count);
        whole.then(|| InfoRequest {
            name,
            wanted: wanted.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect(),
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self.name);
        let count = u16::try_from(self.wanted.len()).expect("there are but a few information types");
        out.extend_from_slice(&count.to_be_bytes());
        for wanted in &self.wanted {
            out.extend_from_slice(&wanted.to_be_bytes());
        }
    }
}

/// Which contexts of which export are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaRequest<'a> {
    pub(crate) name: &'a str,
    pub(crate) queries: Vec<&'a str>,
}

impl<'a> MetaRequest<'a> {
    pub(crate) fn decode(payload: &'a [u8]) -> Option<MetaRequest<'a>> {
        let mut reader = Reader::new(payload);
        let name = string(&mut reader)?;
        let count = reader.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            queries.push(string(&mut reader)?);
        }
        reader.is_empty().then_some(MetaRequest { name, queries })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self.name);
        let count = u32::try_from(self.queries.len()).expect("a client has few queries");
        out.extend_from_slice(&count.to_be_bytes());
        self.queries.iter().for_each(|query| put_string(out, query));
    }
}

/// Text as the protocol defines it: UTF-8, no NUL, at most 4096 bytes.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    (text.len() <= STRING_BYTES_MAX && !text.contains('\0')).then_some(text)
}

/// A stranger's words for a log line or a terminal: short, and without anything that moves a cursor.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Appends one option of a client.
pub(crate) fn put_option(out: &mut Vec<u8>, code: OptionCode, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("an option of ours is short");
    let header = Frame::append::<OPTION_HEADER_BYTES>(out).u64(OPTION_MAGIC).u32(code.to_u32()).u32(length);
    header.end();
    out.extend_from_slice(payload);
}

fn string<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    let length = reader.u32()?;
    text(reader.bytes(usize::try_from(length).ok()?)?)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a string of the protocol is short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
