//! The handshake's packets.
//!
//! ```text
//!  0  4  magic 52 53 48 31 ("RSH1")       Greeting 1   Attach 2   Accepted 3   Refused 4
//!  4  2  kind                             bodies by the rules of `encoding.rs`; what follows the fields
//!  6  2  0                                known here, a newer version has added: it is skipped
//!  8  4  body bytes, at most 16 KiB       the last 32 bytes of Attach and Accepted are the proof
//! 12     body                                                                       all little endian
//! ```
//! Its one rule: names are bounded, not empty and printable before anybody sees them.

use bincode::{Decode, Encode};

use super::proof::PROOF_BYTES;
use super::reason::HandshakeError;
use super::{AuthKind, Features, Nonce, Versions, VolumeFacts};
use crate::id::{NodeId, ReplicaId};
use crate::wire::encoding;
use crate::wire::message::NAME_BYTES_MAX;

/// The longest packet.
pub const PACKET_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

const HEADER_BYTES: usize = 12;
const BODY_BYTES_MAX: usize = 16 << 10;
const TEXT_LETTERS_MAX: usize = 1024;
const MAGIC: [u8; 4] = *b"RSH1";

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Greeting {
    pub(super) versions: Versions,
    pub(super) features: Features,
    pub(super) auth: AuthKind,
    pub(super) nonce: Nonce,
    pub(super) name: String,
    pub(super) node: NodeId,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Accepted {
    pub(super) own: ReplicaId,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Greeting = 1,
    Attach = 2,
    Accepted = 3,
    Refused = 4,
}

/// A whole packet, as it came.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    bytes: Vec<u8>,
}

impl Packet {
    /// As it came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn greeting(&self) -> Result<Greeting, HandshakeError> {
        let greeting: Greeting = decode(&self.bytes[HEADER_BYTES..])?;
        check_name(&greeting.name)?;
        Ok(greeting)
    }

    pub(super) fn attach(&self) -> Result<VolumeFacts, HandshakeError> {
        let facts: VolumeFacts = decode(self.proven()?)?;
        let count = facts.replicas.len();
        if !(1..=ReplicaId::COUNT_MAX).contains(&count) || facts.own.index() >= count {
            return Err(HandshakeError::Malformed("its list of replicas is no list of replicas"));
        }
        facts.replicas.iter().chain([&facts.volume]).try_for_each(|name| check_name(name))?;
        Ok(facts)
    }

    pub(super) fn accepted(&self) -> Result<Accepted, HandshakeError> {
        decode(self.proven()?)
    }

    /// What the peer says, with nothing in it that would mislead a terminal or a log.
    pub(super) fn refused(&self) -> Result<Refused, HandshakeError> {
        let mut refused: Refused = decode(&self.bytes[HEADER_BYTES..])?;
        let printable = refused.text.chars().filter(|letter| !letter.is_control());
        refused.text = printable.take(TEXT_LETTERS_MAX).collect();
        Ok(refused)
    }

    /// The packet up to its proof, and the proof.
    pub(super) fn split_proof(&self) -> Result<(&[u8], &[u8; PROOF_BYTES]), HandshakeError> {
        let split = self.bytes.split_last_chunk();
        split.filter(|(before, _)| before.len() >= HEADER_BYTES).ok_or(TOO_SHORT)
    }

    fn proven(&self) -> Result<&[u8], HandshakeError> {
        self.split_proof().map(|(before, _)| &before[HEADER_BYTES..])
    }
}

const TOO_SHORT: HandshakeError = HandshakeError::Malformed("a packet is cut short");

fn decode<T: Decode<()>>(body: &[u8]) -> Result<T, HandshakeError> {
    let decoded = encoding::decode::<T, { 2 * BODY_BYTES_MAX }>(body);
    decoded.map(|(value, _)| value).map_err(|_| HandshakeError::Malformed("a packet makes no sense"))
}

fn check_name(name: &str) -> Result<(), HandshakeError> {
    if is_name(name) {
        Ok(())
    } else {
        Err(HandshakeError::Malformed("a name is empty, too long or unprintable"))
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// A packet without proof.
pub(super) fn encode(kind: Kind, body: &impl Encode) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    encoding::encode(body, &mut packet);
    finish(kind, packet)
}

/// A packet with room for its proof at the end.
pub(super) fn encode_unproven(kind: Kind, body: &impl Encode) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    encoding::encode(body, &mut packet);
    packet.extend_from_slice(&[0; PROOF_BYTES]);
    finish(kind, packet)
}

fn finish(kind: Kind, mut packet: Vec<u8>) -> Vec<u8> {
    let body_bytes = packet.len() - HEADER_BYTES;
    assert!(body_bytes <= BODY_BYTES_MAX, "names are bounded");
    packet[..4].copy_from_slice(&MAGIC);
    packet[4..6].copy_from_slice(&(kind as u16).to_le_bytes());
    packet[8..12].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    packet
}

/// Gathers one packet after another, and takes not a byte more.
#[derive(Debug, Default)]
pub(super) struct Intake {
    bytes: Vec<u8>,
}

impl Intake {
    /// How many of these bytes were taken, and the packet that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Packet>), HandshakeError> {
        let mut taken = self.gather(HEADER_BYTES, bytes);
        let Some(header) = self.bytes.first_chunk() else {
            return if MAGIC.starts_with(&self.bytes[..self.bytes.len().min(4)]) {
                Ok((taken, None))
            } else {
                NOT_OURS
            };
        };
        let (kind, body_bytes) = decode_header(header)?;
        taken += self.gather(HEADER_BYTES + body_bytes, &bytes[taken..]);
        if self.bytes.len() < HEADER_BYTES + body_bytes {
            return Ok((taken, None));
        }
        Ok((taken, Some(Packet { kind, bytes: std::mem::take(&mut self.bytes) })))
    }

    fn gather(&mut self, wanted: usize, bytes: &[u8]) -> usize {
        let taken = wanted.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }
}

const NOT_OURS: Result<(usize, Option<Packet>), HandshakeError> = Err(STRANGER);
const STRANGER: HandshakeError =
    HandshakeError::Malformed("it does not speak the protocol of ringsan's nodes");

fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<(Kind, usize), HandshakeError> {
    if header[..4] != MAGIC {
        return Err(STRANGER);
    }
    let kind = match u16::from_le_bytes([header[4], header[5]]) {
        1 => Kind::Greeting,
        2 => Kind::Attach,
        3 => Kind::Accepted,
        4 => Kind::Refused,
        _ => return Err(HandshakeError::Malformed("a packet is of an unknown kind")),
    };
    let body_bytes = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if body_bytes > BODY_BYTES_MAX {
        return Err(HandshakeError::Malformed("a packet is too long"));
    }
    Ok((kind, body_bytes))
}
