//! Frames between nodes: never a panic, nothing beyond its bound, and what is taken is what would be sent.
//!
//! ```text
//! 1 choice: bit 0 the checksum is made right     4 payload bytes     8 epoch     the control bytes
//! ```

use replication::message::Message;
use replication::wire::frame::{
    CONTROL_BYTES_MAX, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Payload, Stamp, encode,
};
use replication::wire::message::decode;
use replication::{ByteRange, Operation};

const STAMP: Stamp = Stamp { version: 1, volume: None };

/// The input as a frame, with or without a checksum that fits.
pub fn mirror_frames(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice & 1 == 0 {
        return take(rest);
    }
    let Some((&sizes, control)) = rest.split_first_chunk::<12>() else { return };
    take(&sealed(&sizes, control));
}

/// A frame of these parts, whose checksum is right.
fn sealed(sizes: &[u8; 12], control: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    frame[..6].copy_from_slice(b"RSF1\x01\x00");
    frame[8..12].copy_from_slice(&(control.len() as u32).to_le_bytes());
    frame[12..24].copy_from_slice(sizes);
    frame.extend_from_slice(control);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..44]), control);
    frame[44..48].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn take(frame: &[u8]) {
    let Some((header, control)) = frame.split_first_chunk::<HEADER_BYTES>() else { return };
    let Ok(header) = Header::decode(header, STAMP.version) else { return };
    assert!(header.control_bytes <= CONTROL_BYTES_MAX);
    assert!(header.payload.is_none_or(|payload| payload.bytes as usize <= PAYLOAD_BYTES_MAX));
    let control = control.get(..header.control_bytes).unwrap_or(control);
    if header.check_control(control).is_err() {
        return;
    }
    if let Ok(message) = decode(&header, control) {
        assert_sound(&message, header.payload);
        assert_survives(&message, &header, control);
    }
}

/// What a machine counts on.
fn assert_sound(message: &Message, payload: Option<Payload>) {
    assert!(!message.has_payload() || payload.is_some());
    let range = match message {
        Message::Write { range, .. } | Message::Resync { range, .. } | Message::Checksum { range, .. } => {
            *range
        }
        Message::Forward { operation: Operation::Write { range, .. }, .. } => *range,
        Message::Forward { operation: Operation::Read { range }, .. } => *range,
        _ => ByteRange::new(0, 1),
    };
    assert!(range.bytes > 0 && range.start.checked_add(range.bytes).is_some());
    assert!(!message.has_payload() || payload.is_some_and(|payload| u64::from(payload.bytes) == range.bytes));
}

fn assert_survives(message: &Message, header: &Header, control: &[u8]) {
    let mut again = Vec::new();
    encode(message, STAMP, header.payload, &mut again);
    assert_eq!(again[HEADER_BYTES..], *control);
    let head = again.first_chunk().expect("a header");
    let same = Header::decode(head, STAMP.version).expect("ours");
    assert_eq!((same.epoch, same.payload), (header.epoch, header.payload));
}
