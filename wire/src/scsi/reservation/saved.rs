//! Reservations as bytes that outlive the process (APTPL).
//!
//! ```text
//! "RINGSAN-PR" version(2) volume(16) type(1, 0 none) count(4)
//!   registrant: key(8) flags(1: 1 holds, 2 all ports) isid(6) name(2+n)
//!               [portal group(2) relative port(2) target name(2+n)]   unless all ports
//! crc32c(4) of all before it
//! ```
//! Integers are big-endian. Nothing is in it unless it is to persist; PRGENERATION starts anew (SPC-4 6.15.2).

use thiserror::Error;

use super::{Kind, REGISTRANTS_MAX, Registrant, Reservations};
use crate::bytes::Reader;
use crate::scsi::port::{InitiatorPort, TargetPort};

/// Why saved reservations cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SavedError {
    /// Not ours, or from a version that we do not know.
    #[error("not reservations in a form that this version knows")]
    Unknown,
    /// Cut short or altered.
    #[error("the saved reservations are damaged")]
    Damaged,
    /// Of another volume.
    #[error("the saved reservations are another volume's")]
    OtherVolume,
}

const MAGIC: &[u8; 10] = b"RINGSAN-PR";
const VERSION: u16 = 1;

const HOLDS: u8 = 1;
const ALL_PORTS: u8 = 2;

impl Reservations {
    /// What is to be found again after a restart.
    pub fn save(&self, volume: &[u8; 16]) -> Vec<u8> {
        let kept: &[Registrant] = if self.persists { &self.registrants } else { &[] };
        let kind = self.held.filter(|_| self.persists).map_or(0, |kind| kind as u8);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(volume);
        out.push(kind);
        out.extend_from_slice(&(kept.len() as u32).to_be_bytes());
        for registrant in kept {
            registrant.save(&mut out);
        }
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// What `save` wrote.
    pub fn load(saved: &[u8], volume: &[u8; 16]) -> Result<Reservations, SavedError> {
        let (content, checksum) = saved.split_last_chunk().ok_or(SavedError::Damaged)?;
        let mut reader = Reader::new(content);
        if reader.bytes(MAGIC.len()) != Some(MAGIC) || reader.u16() != Some(VERSION) {
            return Err(SavedError::Unknown);
        }
        if crc32c(content) != u32::from_be_bytes(*checksum) {
            return Err(SavedError::Damaged);
        }
        if reader.bytes(16).ok_or(SavedError::Damaged)? != volume {
            return Err(SavedError::OtherVolume);
        }
        Reservations::load_content(reader).ok_or(SavedError::Damaged)
    }

    fn load_content(mut reader: Reader<'_>) -> Option<Reservations> {
        let held = match byte(&mut reader)? {
            0 => None,
            kind => Some(Kind::from_u8(kind)?),
        };
        let count = usize::try_from(reader.u32()?).ok().filter(|count| *count <= REGISTRANTS_MAX)?;
        let mut registrants = Vec::new();
        for _ in 0..count {
            registrants.push(Registrant::load(&mut reader)?);
        }
        let loaded = Reservations { registrants, held, generation: 0, persists: count > 0 };
        (reader.is_empty() && loaded.is_sound()).then_some(loaded)
    }

    /// What `assert_invariants` would assert, of bytes from outside.
    fn is_sound(&self) -> bool {
        let holders = self.registrants.iter().filter(|registrant| registrant.holds).count();
        let expected = usize::from(self.held.is_some_and(|kind| !kind.is_held_by_all()));
        let has_registrants = self.held.is_none() || self.is_in_use();
        holders == expected && has_registrants && self.registrants.iter().all(|each| each.key != 0)
    }
}

impl Registrant {
    fn save(&self, out: &mut Vec<u8>) {
        let flags = if self.holds { HOLDS } else { 0 } | if self.target.is_none() { ALL_PORTS } else { 0 };
        out.extend_from_slice(&self.key.to_be_bytes());
        out.push(flags);
        out.extend_from_slice(&self.initiator.isid);
        put_text(out, &self.initiator.name);
        if let Some(target) = &self.target {
            out.extend_from_slice(&target.portal_group.to_be_bytes());
            out.extend_from_slice(&target.relative_port.to_be_bytes());
            put_text(out, &target.target_name);
        }
    }

    fn load(reader: &mut Reader<'_>) -> Option<Registrant> {
        let key = reader.u64()?;
        let flags = byte(reader)?;
        let isid = *reader.bytes(6)?.first_chunk()?;
        let initiator = InitiatorPort { isid, name: text(reader)? };
        let target = if flags & ALL_PORTS == 0 { Some(target_port(reader)?) } else { None };
        let is_known = flags & !(HOLDS | ALL_PORTS) == 0;
        is_known.then_some(Registrant { initiator, target, key, holds: flags & HOLDS != 0 })
    }
}

fn target_port(reader: &mut Reader<'_>) -> Option<TargetPort> {
    let (portal_group, relative_port) = (reader.u16()?, reader.u16()?);
    Some(TargetPort { target_name: text(reader)?, portal_group, relative_port })
}

/// Names have at most 223 bytes (RFC 7143 4.2.7.1), which login and TransportIDs have seen to.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("iSCSI names are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn text(reader: &mut Reader<'_>) -> Option<String> {
    let length = reader.u16()?;
    let bytes = reader.bytes(length.into())?;
    Some(str::from_utf8(bytes).ok()?.to_owned())
}

fn byte(reader: &mut Reader<'_>) -> Option<u8> {
    reader.bytes(1).map(|bytes| bytes[0])
}

/// CRC-32C (Castagnoli), bit by bit: a few kilobytes, once in a while.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
        }
    }
    !crc
}
