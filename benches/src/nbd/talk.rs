//! The generator's side of NBD: requests in, replies out, whatever their style.

use anyhow::Result;
use wire::nbd::dial::Dialed as Negotiated;
use wire::nbd::transmission::{Command, CommandFlags, Cookie, ReplyStyle, Request, encode_request};

use super::dial::negotiated;
use super::replies::{READ, Replies};
use crate::address::Address;
use crate::load::{Load, Question};
use crate::outgoing::Outgoing;
use crate::talk::{Answer, Dialed, Talk};

/// Connects and negotiates.
pub fn dial(address: &Address, export: &str, load: &Load) -> Result<Dialed> {
    let (socket, Negotiated { style, size_bytes, .. }) = negotiated(address, export, load.replies)?;
    let talk = Box::new(NbdTalk {
        style,
        replies: Replies::new(style, load.block_bytes),
        header: Vec::with_capacity(64),
        block_bytes: load.block_bytes.into(),
        payload_bytes_max: load.payload_bytes_max(),
    });
    Ok(Dialed { socket, talk, size_bytes })
}

struct NbdTalk {
    style: ReplyStyle,
    replies: Replies,
    header: Vec<u8>,
    block_bytes: u64,
    payload_bytes_max: usize,
}

impl Talk for NbdTalk {
    fn request_bytes_max(&self) -> usize {
        self.style.request_bytes() + self.payload_bytes_max
    }

    fn may_ask(&self) -> bool {
        true
    }

    #[inline]
    fn ask(&mut self, question: Question, slot: usize, out: &mut Outgoing) {
        let (command, mark) = if question.write { (Command::Write, 0) } else { (Command::Read, READ) };
        let request = Request {
            command,
            flags: CommandFlags::NONE,
            cookie: Cookie(slot as u64 | mark),
            offset: question.offset_bytes,
            length: self.block_bytes,
        };
        self.header.clear();
        encode_request(&mut self.header, self.style, &request);
        out.header(&self.header);
        out.payload(request.payload_bytes(self.style) as usize);
    }

    fn respond(&mut self, _: &mut Outgoing) -> bool {
        false
    }

    fn resume(&mut self, inbox: &mut [u8]) -> usize {
        self.replies.resume(inbox)
    }

    #[inline]
    fn take(&mut self, bytes: &[u8], answered: &mut dyn FnMut(Answer)) -> Result<()> {
        self.replies.take(bytes, answered)
    }
}
