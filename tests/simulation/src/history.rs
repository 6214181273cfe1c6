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
    /// Of anything: an operator has used force. Requests in this time, which several leaders may have answered, count
    /// as unanswered.
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

fn sector_of(tag: u64, sector: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR_BYTES);
    fill(tag, sector, &mut bytes);
    bytes
}

/// The number of the write that these bytes of this sector are of.
pub fn tag_of(bytes: &[u8], sector: usize) -> Result<u64, String> {
    let tag = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    match sector_of(tag, sector) == bytes {
        true => Ok(tag),
        false => Err(format!("sector {sector} holds what no write has put there: {:02x?} …", &bytes[..32])),
    }
}

impl History {
    /// Whether these bytes of a sector are of one write, and of others that were under way since `since`: what a read of
    /// memory may see of writes that it overlaps.
    pub fn is_torn(&self, bytes: &[u8], sector: usize, since: u64) -> bool {
        let covers = |request: &&Request| (request.first..request.first + request.sectors).contains(&sector);
        let mut all = vec![(sector_of(0, sector), false)];
        for request in self.requests.iter().filter(covers) {
            if let Asked::Write(tag) = request.asked {
                let is_late = request.answered.is_none_or(|answered| answered >= since);
                all.push((sector_of(tag, sector), is_late));
            }
        }
        let is_of_late =
            |place: usize| all.iter().any(|(one, is_late)| *is_late && one[place] == bytes[place]);
        let rest: Vec<usize> = (0..bytes.len()).filter(|place| !is_of_late(*place)).collect();
        all.iter().any(|(one, _)| rest.iter().all(|place| one[*place] == bytes[*place]))
    }

    /// Whether one copy could have answered so. An error names the first sector that tells otherwise.
    pub fn check(&self) -> Result<(), String> {
        let mut sectors: BTreeMap<usize, Vec<&Request>> = BTreeMap::new();
        let mut flushes = Vec::new();
        let requests: Vec<Request> =
            self.requests.iter().filter_map(|request| self.outside_forks(request)).collect();
        for request in &requests {
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

    /// A request in a time in which several leaders may have answered: what was read binds nobody, and what was
    /// written may be there afterwards, or come later.
    fn outside_forks(&self, request: &Request) -> Option<Request> {
        let overlaps = |loss: &&Loss| {
            let ended = request.answered.unwrap_or(u64::MAX);
            loss.of_anything && request.sent <= loss.until && ended >= loss.since
        };
        let Some(fork) = self.losses.iter().rfind(overlaps) else { return Some(request.clone()) };
        let is_write = matches!(request.asked, Asked::Write(_));
        // One that was sent before may have been seen before.
        let sent = if request.sent < fork.since { request.sent } else { fork.until };
        is_write.then(|| Request { sent, answered: None, ..request.clone() })
    }
}
