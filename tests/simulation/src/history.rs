//! What clients asked and were told, and whether one copy of the volume could have told them so.
//!
//! Every write puts a number of its own into each sector, so a read tells which write it saw. Its one rule: a
//! request without an answer, or with an error, may have happened at any time after it was sent, or never.

mod linear;

use std::collections::BTreeMap;

use crate::disk::SECTOR_BYTES;

/// What was asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// The numbers found, one for each sector.
    Read(Vec<u64>),
    /// The number written; 0 for zeroes.
    Write(u64),
    /// Everything before is to be durable.
    Flush,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub asked: Asked,
    /// The first sector.
    pub first: usize,
    /// How many.
    pub sectors: usize,
    /// Answered only when durable.
    pub durable: bool,
    /// When it was sent.
    pub sent: u64,
    /// When it was answered without an error.
    pub answered: Option<u64>,
}

/// A time in which acknowledged writes that nobody had flushed may have been lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Since when they may be missing.
    pub since: u64,
    /// From when on they are.
    pub until: u64,
    /// Flushed ones too: an operator has said so.
    pub of_anything: bool,
}

/// All of it.
#[derive(Default)]
pub struct History {
    /// In the order in which they were sent.
    pub requests: Vec<Request>,
    /// In the order of time.
    pub losses: Vec<Loss>,
}

/// The bytes that a write with this number puts into a sector.
pub fn fill(tag: u64, sector: usize, out: &mut Vec<u8>) {
    for _ in 0..SECTOR_BYTES / 16 {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&(if tag == 0 { 0 } else { sector as u64 }).to_le_bytes());
    }
}

/// The number of the write that these bytes of this sector are of.
pub fn tag_of(bytes: &[u8], sector: usize) -> Result<u64, String> {
    let tag = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let mut expected = Vec::with_capacity(SECTOR_BYTES);
    fill(tag, sector, &mut expected);
    match expected == bytes {
        true => Ok(tag),
        false => Err(format!("sector {sector} holds what no write has put there: {:02x?} …", &bytes[..32])),
    }
}

impl History {
    /// Whether one copy could have answered so. An error names the first sector that tells otherwise.
    pub fn check(&self) -> Result<(), String> {
        let mut sectors: BTreeMap<usize, Vec<&Request>> = BTreeMap::new();
        let mut flushes = Vec::new();
        for request in &self.requests {
            match request.asked {
                Asked::Flush => flushes.extend(request.answered.map(|answered| (request.sent, answered))),
                _ => {
                    for sector in request.first..request.first + request.sectors {
                        sectors.entry(sector).or_default().push(request);
                    }
                }
            }
        }
        for (sector, requests) in sectors {
            linear::check(sector, &requests, &flushes, &self.losses)?;
        }
        Ok(())
    }
}
