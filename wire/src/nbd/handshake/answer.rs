//! The server's replies to options.
//!
//! ```text
//! magic 8 | option 4 | reply 4 | length 4 | payload
//! ```

use crate::bytes::Frame;
use crate::nbd::transmission::TransmissionFlags;

use super::code::{
    EXPORT_NAME_PADDING_BYTES, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, GREETING_BYTES, INFO_BLOCK_SIZE,
    INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, INIT_MAGIC, OPTION_MAGIC, OptionCode, REPLY_HEADER_BYTES,
    REPLY_MAGIC, ReplyCode,
};
use super::export::ExportInfo;

pub(super) fn put_greeting(out: &mut Vec<u8>) {
    let flags = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
    Frame::append::<GREETING_BYTES>(out).u64(INIT_MAGIC).u64(OPTION_MAGIC).u16(flags).end();
}

pub(super) fn put_ack(out: &mut Vec<u8>, option: OptionCode) {
    put_reply(out, option, ReplyCode::Ack, &[]);
}

/// An error and a sentence for people.
pub(super) fn put_refusal(out: &mut Vec<u8>, option: OptionCode, error: ReplyCode, message: &str) {
    debug_assert!(error.is_error());
    put_reply(out, option, error, &[message.as_bytes()]);
}

/// One line of an answer to LIST.
pub(super) fn put_server(out: &mut Vec<u8>, export: &ExportInfo) {
    let name_bytes = u32::try_from(export.name.len()).expect("a name was checked when the table was built");
    let parts = [&name_bytes.to_be_bytes(), export.name.as_bytes(), export.description.as_bytes()];
    put_reply(out, OptionCode::List, ReplyCode::Server, &parts);
}

pub(super) fn put_meta_context(out: &mut Vec<u8>, option: OptionCode, id: u32, name: &str) {
    put_reply(out, option, ReplyCode::MetaContext, &[&id.to_be_bytes(), name.as_bytes()]);
}

/// What INFO and GO tell of an export: always its size and flags, the rest if wanted.
pub(super) fn put_infos(
    out: &mut Vec<u8>,
    option: OptionCode,
    export: &ExportInfo,
    flags: TransmissionFlags,
    wanted: &[u16],
) {
    let mut put = |info: u16, parts: [&[u8]; 3]| {
        let [a, b, c] = parts;
        put_reply(out, option, ReplyCode::Info, &[&info.to_be_bytes(), a, b, c]);
    };
    put(INFO_EXPORT, [&export.size_bytes.to_be_bytes(), &flags.bits().to_be_bytes(), &[]]);
    if wanted.contains(&INFO_NAME) {
        put(INFO_NAME, [export.name.as_bytes(), &[], &[]]);
    }
    if wanted.contains(&INFO_DESCRIPTION) && !export.description.is_empty() {
        put(INFO_DESCRIPTION, [export.description.as_bytes(), &[], &[]]);
    }
    if wanted.contains(&INFO_BLOCK_SIZE) {
        let sizes = [export.block_min, export.block_preferred, export.payload_max].map(u32::to_be_bytes);
        put(INFO_BLOCK_SIZE, [&sizes[0], &sizes[1], &sizes[2]]);
    }
}

/// The answer to EXPORT_NAME, which has no header.
pub(super) fn put_export_name_answer(
    out: &mut Vec<u8>,
    size_bytes: u64,
    flags: TransmissionFlags,
    zeroes: bool,
) {
    Frame::append::<10>(out).u64(size_bytes).u16(flags.bits()).end();
    if zeroes {
        out.resize(out.len() + EXPORT_NAME_PADDING_BYTES, 0);
    }
}

fn put_reply(out: &mut Vec<u8>, option: OptionCode, reply: ReplyCode, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).expect("the parts of a reply are strings of the protocol");
    let header = Frame::append::<REPLY_HEADER_BYTES>(out).u64(REPLY_MAGIC).u32(option.to_u32());
    header.u32(reply.to_u32()).u32(length).end();
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
