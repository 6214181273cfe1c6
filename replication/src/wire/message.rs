//! Messages as control bytes: `replication::Message` by the rules of `encoding.rs`.
//!
//! ```text
//! u32  variant, in the order of `Message`: Hello 0, Prepare 1, Promise 2, … NotLeading 21
//! …    its fields, in their order
//! ```
//! Its one rule: a message has the payload and the epoch that it must have, or it is none.

use bincode::error::DecodeError;

use crate::event::Operation;
use crate::id::{Epoch, ReplicaId};
use crate::message::{Hello, Message};

use super::encoding;
use super::frame::{FrameError, Header};

/// The longest name of a replica.
pub const NAME_BYTES_MAX: usize = 255;

/// A message of any kind needs no more memory than this.
const MEMORY_BYTES_MAX: usize = 2 * super::frame::CONTROL_BYTES_MAX;

/// The message of a frame whose header has been checked against these control bytes.
#[inline]
pub fn decode(header: &Header, control: &[u8]) -> Result<Message, FrameError> {
    let (message, taken) = encoding::decode::<Message, MEMORY_BYTES_MAX>(control).map_err(cause)?;
    if taken != control.len() {
        return Err(FrameError::Message("it is longer than what it says"));
    }
    if epoch(&message) != header.epoch {
        return Err(FrameError::Message("its epoch is not that of its frame"));
    }
    if !has_right_payload(&message, header.payload.map(|payload| u64::from(payload.bytes))) {
        return Err(FrameError::Message("its payload is not as long as it must be"));
    }
    if let Message::Hello(hello) = &message {
        check_hello(hello)?;
    }
    Ok(message)
}

fn cause(error: DecodeError) -> FrameError {
    FrameError::Message(match error {
        DecodeError::Other(cause) => cause,
        DecodeError::UnexpectedEnd { .. } => "it is cut short",
        DecodeError::LimitExceeded => "it is too long",
        DecodeError::UnexpectedVariant { .. } => "its kind is unknown",
        DecodeError::Utf8 { .. } => "a name is no UTF-8",
        _ => "a field has a value that it cannot have",
    })
}

fn has_right_payload(message: &Message, payload_bytes: Option<u64>) -> bool {
    let wanted = match message {
        Message::Forwarded { result, .. } => return result.is_ok() || payload_bytes.is_none(),
        Message::Write { range, .. } | Message::Resync { range, .. } => Some(range.bytes),
        Message::Forward { operation: Operation::Write { range, .. }, .. } => Some(range.bytes),
        _ => None,
    };
    payload_bytes == wanted.filter(|_| message.has_payload())
}

fn check_hello(hello: &Hello) -> Result<(), FrameError> {
    if hello.names.is_empty() || hello.names.len() > ReplicaId::COUNT_MAX {
        return Err(FrameError::Message("no volume has so many replicas"));
    }
    if hello.names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(FrameError::Message("a name is too long"));
    }
    Ok(())
}

/// The epoch that a message's frame carries: its own. Forwarded requests belong to none.
#[inline]
pub(super) fn epoch(message: &Message) -> Epoch {
    match message {
        Message::Hello(hello) => hello.promised,
        Message::Lead(lead) => lead.record.epoch,
        Message::Prepare { epoch, .. }
        | Message::Promise { epoch, .. }
        | Message::Refused { epoch, .. }
        | Message::Led { epoch, .. }
        | Message::InForce { epoch }
        | Message::Write { epoch, .. }
        | Message::Written { epoch, .. }
        | Message::Flush { epoch, .. }
        | Message::Flushed { epoch, .. }
        | Message::Durable { epoch, .. }
        | Message::Lacking { epoch, .. }
        | Message::Resync { epoch, .. }
        | Message::Resynced { epoch, .. }
        | Message::Ping { epoch, .. }
        | Message::Pong { epoch, .. }
        | Message::Checksum { epoch, .. }
        | Message::Checksummed { epoch, .. } => *epoch,
        Message::Forward { .. } | Message::Forwarded { .. } | Message::NotLeading { .. } => Epoch(0),
    }
}
