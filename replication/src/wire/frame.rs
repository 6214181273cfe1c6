//! Frames: what two nodes send each other once they have shaken hands.
//!
//! ```text
//!  0  4  magic 52 53 46 31 ("RSF1")     24 16  the volume's UUID; zero while it has none
//!  4  2  version agreed on              40  4  CRC32C of the payload; 0 without one
//!  6  2  0, not looked at               44  4  CRC32C of bytes 0..44 and of the control bytes
//!  8  4  control bytes                  48     control (`message.rs`), then the payload
//! 12  4  payload bytes; 0: none
//! 16  8  epoch of the message; 0: none                                              all little endian
//! ```
//! Its one rule: nothing is believed before its checksum, and no length is obeyed beyond its bound.

use crate::config::Limits;
use crate::id::{Epoch, VolumeId};
use crate::message::Message;

use super::encoding;

/// The header's length.
pub const HEADER_BYTES: usize = 48;
/// The most that follows a header before the payload.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;
/// The longest payload.
pub const PAYLOAD_BYTES_MAX: usize = Limits::OPERATION_BYTES_MAX as usize;

const MAGIC: [u8; 4] = *b"RSF1";
const CRC_AT: usize = 44;

/// What all frames of a link say alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// As agreed on in the handshake.
    pub version: u16,
    /// The volume's UUID, once the replica has one.
    pub volume: Option<VolumeId>,
}

/// Bytes that follow a frame's control bytes, as the header tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// How many; not 0.
    pub bytes: u32,
    /// Their CRC32C.
    pub crc: u32,
}

impl Payload {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Payload {
        Payload { bytes: bytes.len() as u32, crc: crc32c::crc32c(bytes) }
    }
}

/// Why the link must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a frame.
    #[error("what came is no frame: the stream is damaged, or the peer is something else")]
    Magic,
    /// Of another version than agreed on.
    #[error("a frame of version {0}, and another was agreed on")]
    Version(u16),
    /// Longer than a frame may be.
    #[error("a frame announces more bytes than any may have")]
    TooLong,
    /// The header or the control bytes are damaged.
    #[error("a frame was damaged on its way: the checksum of its header is wrong")]
    HeaderChecksum,
    /// The payload is damaged.
    #[error("a frame was damaged on its way: the checksum of its payload is wrong")]
    PayloadChecksum,
    /// The control bytes are no message of this version.
    #[error("a frame is whole, and its message makes no sense: {0}")]
    Message(&'static str),
    /// Another volume's.
    #[error("a frame is of another volume: check `backing` on both nodes")]
    ForeignVolume,
}

/// The first part of a frame, within bounds. `check_control` comes before anything else is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// So many control bytes follow.
    pub control_bytes: usize,
    /// And then, if there is one, the payload.
    pub payload: Option<Payload>,
    /// The message's epoch; `Epoch(0)` for messages that have none.
    pub epoch: Epoch,
    /// The volume of the sender.
    pub volume: Option<VolumeId>,
    own_crc: u32,
    expected_crc: u32,
}

impl Header {
    /// Checks all that can be checked before the control bytes have come.
    #[inline]
    pub fn decode(bytes: &[u8; HEADER_BYTES], version: u16) -> Result<Header, FrameError> {
        let number = |at: usize| u32::from_le_bytes(*part(bytes, at));
        let said = u16::from_le_bytes(*part(bytes, 4));
        if *part(bytes, 0) != MAGIC {
            return Err(FrameError::Magic);
        }
        if said != version {
            return Err(FrameError::Version(said));
        }
        let (control_bytes, payload_bytes) = (number(8) as usize, number(12));
        if control_bytes > CONTROL_BYTES_MAX || payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let volume: [u8; 16] = *part(bytes, 24);
        Ok(Header {
            control_bytes,
            payload: (payload_bytes > 0).then(|| Payload { bytes: payload_bytes, crc: number(40) }),
            epoch: Epoch(u64::from_le_bytes(*part(bytes, 16))),
            volume: (volume != [0; 16]).then_some(VolumeId(volume)),
            own_crc: crc32c::crc32c(&bytes[..CRC_AT]),
            expected_crc: number(CRC_AT),
        })
    }

    /// Whether header and control bytes are as they were sent.
    #[inline]
    pub fn check_control(&self, control: &[u8]) -> Result<(), FrameError> {
        let is_right = control.len() == self.control_bytes
            && crc32c::crc32c_append(self.own_crc, control) == self.expected_crc;
        if is_right { Ok(()) } else { Err(FrameError::HeaderChecksum) }
    }

    /// Whether the payload, whose CRC32C this is, is as it was sent.
    #[inline]
    pub fn check_payload(&self, crc: u32) -> Result<(), FrameError> {
        let is_right = self.payload.is_some_and(|payload| payload.crc == crc);
        if is_right { Ok(()) } else { Err(FrameError::PayloadChecksum) }
    }

    /// Whether the frame is of our volume, as far as both have one. A `Hello` is for the machine to judge, which
    /// says in words what is wrong.
    #[inline]
    pub fn check_volume(&self, own: Option<VolumeId>, message: &Message) -> Result<(), FrameError> {
        let is_foreign = self.volume.zip(own).is_some_and(|(its, own)| its != own);
        if is_foreign && !matches!(message, Message::Hello(_) | Message::Refused { .. }) {
            return Err(FrameError::ForeignVolume);
        }
        Ok(())
    }
}

/// Appends a frame but for its payload, which is to be sent right after it.
#[inline]
pub fn encode(message: &Message, stamp: Stamp, payload: Option<Payload>, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(HEADER_BYTES + 96);
    out.extend_from_slice(&[0; HEADER_BYTES]);
    encoding::encode(message, out);
    let control_bytes = out.len() - start - HEADER_BYTES;
    assert!(control_bytes <= CONTROL_BYTES_MAX, "every list in a message is bounded");
    let (payload_bytes, payload_crc) = payload.map_or((0, 0), |payload| (payload.bytes, payload.crc));
    assert!(payload_bytes as usize <= PAYLOAD_BYTES_MAX, "operations are bounded");
    let frame = &mut out[start..];
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..6].copy_from_slice(&stamp.version.to_le_bytes());
    frame[8..12].copy_from_slice(&(control_bytes as u32).to_le_bytes());
    frame[12..16].copy_from_slice(&payload_bytes.to_le_bytes());
    frame[16..24].copy_from_slice(&super::message::epoch(message).0.to_le_bytes());
    frame[24..40].copy_from_slice(&stamp.volume.map_or([0; 16], |volume| volume.0));
    frame[40..44].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[HEADER_BYTES..]);
    frame[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

#[inline]
fn part<const BYTES: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> &[u8; BYTES] {
    bytes[at..at + BYTES].try_into().expect("the slice has this length")
}
