//! A disk with a volatile cache: what was written is read back at once, and survives a power loss only if flushed.
//!
//! Sectors are atomic, longer writes are not. Its one rule: of an unflushed sector any version since the last
//! flush may be what a power loss leaves.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// Bytes that are written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// One file.
#[derive(Default)]
pub struct Image {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Versions since the last flush, the oldest first.
    unflushed: BTreeMap<usize, Vec<(u64, Box<Sector>)>>,
    writes: u64,
}

impl Image {
    /// A file of so many zeros.
    pub fn new(bytes: usize) -> Image {
        Image { durable: vec![0; bytes], current: vec![0; bytes], ..Image::default() }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// What reading gives.
    pub fn bytes(&self) -> &[u8] {
        &self.current
    }

    /// Changes bytes. Whole sectors.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES),
            "whole sectors"
        );
        self.writes += 1;
        for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            let at = offset / SECTOR_BYTES + index;
            let sector: Box<Sector> = Box::new(sector.try_into().expect("cut to size"));
            self.unflushed.entry(at).or_default().push((self.writes, sector));
        }
        self.current[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Changes bytes and makes them durable.
    pub fn write_through(&mut self, offset: usize, bytes: &[u8]) {
        self.write(offset, bytes);
        let first = offset / SECTOR_BYTES;
        for at in first..first + bytes.len() / SECTOR_BYTES {
            self.unflushed.remove(&at);
        }
        self.durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Where a flush that begins now reaches to.
    pub fn flush_point(&self) -> u64 {
        self.writes
    }

    /// Makes durable what had been written by then.
    pub fn flush(&mut self, point: u64) {
        let durable = &mut self.durable;
        self.unflushed.retain(|&at, versions| {
            let covered = versions.iter().take_while(|(write, _)| *write <= point).count();
            if let Some((_, sector)) = versions[..covered].last() {
                durable[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES].copy_from_slice(&**sector);
            }
            versions.drain(..covered);
            !versions.is_empty()
        });
    }

    /// Some sectors of a write that was under way when the end came.
    pub fn tear(&mut self, offset: usize, bytes: &[u8], dice: &mut Dice) {
        let chance = dice.pick(&[0, 50, 100]);
        for (index, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
            if dice.percent(chance) {
                self.write(offset + index * SECTOR_BYTES, sector);
            }
        }
    }

    /// The cache is gone; some of what was in it has reached the disk.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        let chance = dice.pick(&[0, 0, 30, 70, 100]);
        for (at, versions) in std::mem::take(&mut self.unflushed) {
            if dice.percent(chance) {
                let (_, sector) = &versions[dice.index(versions.len())];
                self.durable[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES].copy_from_slice(&**sector);
            }
        }
        self.current.clone_from(&self.durable);
    }

    /// Begins anew: durably so many zeros.
    pub fn make(&mut self, bytes: usize) {
        *self = Image::new(bytes);
    }
}

/// How a disk behaves at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    /// Reads and writes take up to so long.
    pub transfer_max: u64,
    /// Flushes take up to so long.
    pub flush_max: u64,
    /// Of ten thousand reads, so many fail.
    pub failing_reads: u64,
    /// Of ten thousand writes and flushes, so many fail.
    pub failing_writes: u64,
    /// Nothing can be written.
    pub is_full: bool,
    /// Nothing ends.
    pub is_hung: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_loss_takes_what_was_written_after_the_flush_and_nothing_else() {
        for seed in 0..50 {
            let mut image = Image::new(4 * SECTOR_BYTES);
            image.write(0, &[1; 2 * SECTOR_BYTES]);
            let point = image.flush_point();
            image.write(SECTOR_BYTES, &[2; SECTOR_BYTES]);
            image.flush(point);
            image.write_through(2 * SECTOR_BYTES, &[3; SECTOR_BYTES]);
            image.write(2 * SECTOR_BYTES, &[4; SECTOR_BYTES]);
            image.lose_power(&mut Dice::new(seed));
            let sectors: Vec<u8> = image.bytes().chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
            assert_eq!((sectors[0], sectors[3]), (1, 0));
            assert!([1, 2].contains(&sectors[1]) && [3, 4].contains(&sectors[2]), "{sectors:?}");
        }
    }
}
