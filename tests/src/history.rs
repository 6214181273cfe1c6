//! What each block of a disk may hold while writes to it overlap, are aborted, refused or lost: the checker behind the
//! model tests.
//!
//! Every eight bytes carry the number of their write and their own place. A write that was acknowledged rules out all
//! that had ended before it was issued; one that was aborted may have happened, up to the moment of its abort; one
//! that was refused has not.

use std::collections::HashMap;

use anyhow::{Result, ensure};

/// Bytes of a block.
pub const BLOCK: usize = 512;
const WORD: usize = 8;
/// Bits of a word for its place; the others are the number of its write.
const PLACE_BITS: u32 = 24;

#[derive(Clone, Copy)]
struct Write {
    first: usize,
    end: usize,
    issued: u64,
    /// `u64::MAX`: it may still happen.
    ended: u64,
}

/// The disk.
pub struct History {
    clock: u64,
    writes: HashMap<u64, Write>,
    /// By block: whose words it may hold.
    possible: Vec<Vec<u64>>,
}

/// What was possible when a read was issued.
pub struct Before {
    first: usize,
    at: u64,
    possible: Vec<Vec<u64>>,
}

impl History {
    /// A disk of so many blocks, all zero.
    pub fn new(blocks: usize) -> History {
        let zero = Write { first: 0, end: blocks, issued: 0, ended: 0 };
        History { clock: 0, writes: HashMap::from([(0, zero)]), possible: vec![vec![0]; blocks] }
    }

    /// A write is about to be sent: its number and its bytes.
    pub fn write(&mut self, first: usize, blocks: usize) -> (u64, Vec<u8>) {
        let id = self.writes.len() as u64;
        let issued = self.tick();
        self.writes.insert(id, Write { first, end: first + blocks, issued, ended: u64::MAX });
        self.possible[first..first + blocks].iter_mut().for_each(|possible| possible.push(id));
        let places = (first * BLOCK / WORD)..((first + blocks) * BLOCK / WORD);
        (id, places.flat_map(|place| (id << PLACE_BITS | place as u64).to_le_bytes()).collect())
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, id: u64) {
        let write = self.end(id);
        let writes = &self.writes;
        for possible in &mut self.possible[write.first..write.end] {
            possible.retain(|other| *other == id || writes[other].ended >= write.issued);
        }
    }

    /// It has happened or not, in whole or in part, and will not happen later.
    pub fn aborted(&mut self, id: u64) {
        self.end(id);
    }

    /// It has not happened.
    pub fn refused(&mut self, id: u64) {
        let write = self.end(id);
        for possible in &mut self.possible[write.first..write.end] {
            possible.retain(|other| *other != id);
        }
    }

    /// A read is about to be sent.
    pub fn before(&mut self, first: usize, blocks: usize) -> Before {
        Before { first, at: self.tick(), possible: self.possible[first..first + blocks].to_vec() }
    }

    /// The same for a reader of the front that the writes come by: what aborted ones still do, it waits for. So where
    /// nothing was written meanwhile, it stays as it was read.
    pub fn check_settled(&mut self, before: &Before, data: &[u8]) -> Result<()> {
        self.check(before, data)?;
        for (index, bytes) in data.chunks(BLOCK).enumerate() {
            let block = before.first + index;
            let id = id_of(bytes);
            let is_quiet = self.possible[block].iter().all(|id| self.writes[id].ended < before.at);
            if is_quiet && bytes.chunks(WORD).all(|word| id_of(word) == id) {
                ensure!(self.possible[block].contains(&id), "block {block}: write {id} came back");
                self.possible[block] = vec![id];
            }
        }
        Ok(())
    }

    /// What was read must have been possible at some time since.
    pub fn check(&mut self, before: &Before, data: &[u8]) -> Result<()> {
        ensure!(data.len() == before.possible.len() * BLOCK, "a read brings {} bytes", data.len());
        for (index, bytes) in data.chunks(BLOCK).enumerate() {
            for (number, word) in bytes.chunks(WORD).enumerate() {
                self.check_word(before.first + index, number, word_of(word), before)?;
            }
        }
        Ok(())
    }

    fn check_word(&self, block: usize, number: usize, word: u64, before: &Before) -> Result<()> {
        let (id, place) = (word >> PLACE_BITS, word & ((1 << PLACE_BITS) - 1));
        let expected = if id == 0 { 0 } else { (block * BLOCK / WORD + number) as u64 };
        ensure!(place == expected, "block {block}: word {number} of write {id} belongs at word {place}");
        let possible = &before.possible[block - before.first];
        let is_later = || {
            let write = self.writes.get(&id);
            write.is_some_and(|write| write.issued > before.at && (write.first..write.end).contains(&block))
        };
        ensure!(
            possible.contains(&id) || is_later(),
            "block {block}: word {number} is of write {id}, possible were {possible:?}"
        );
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn end(&mut self, id: u64) -> Write {
        let now = self.tick();
        let write = self.writes.get_mut(&id).expect("only writes of this history end");
        write.ended = now;
        *write
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("blocks consist of words"))
}

fn id_of(bytes: &[u8]) -> u64 {
    word_of(bytes) >> PLACE_BITS
}
