//! Who wrote what, and which of it must survive: the checker behind the crash tests.
//!
//! Each block of 4 KiB carries its own number and a version. After a crash a block must hold a version that
//! is not older than the newest one that a flush (or FUA) covered, and not newer than the newest one sent.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use anyhow::{Result, ensure};

use crate::nbd::{Client, FLAG_FUA};
use crate::scratch::Random;

const BLOCK: usize = 4096;
const BATCH_MAX: u64 = 32;

/// What is known of one block.
#[derive(Clone, Copy, Default)]
struct Block {
    sent: u64,
    acknowledged: u64,
    durable: u64,
}

/// A range of blocks that one writer owns.
pub struct Ledger {
    first: u64,
    blocks: Vec<Block>,
    random: Random,
}

impl Ledger {
    /// For `count` blocks from block `first` on; the order of the writes depends on `seed`.
    pub fn new(first: u64, count: usize, seed: u64) -> Ledger {
        Ledger { first, blocks: vec![Block::default(); count], random: Random(seed) }
    }

    /// Writes and flushes until the server goes away, and says so after each flush.
    pub fn write_until_lost(
        &mut self,
        address: SocketAddr,
        export: &str,
        flushed: &Sender<()>,
    ) -> Result<()> {
        let mut client = Client::attach(address, export)?;
        while self.batch(&mut client).is_ok() {
            let _ = flushed.send(());
        }
        Ok(())
    }

    fn batch(&mut self, client: &mut Client) -> Result<()> {
        let fua = if self.random.below(4) == 0 { FLAG_FUA } else { 0 };
        let start = self.random.below(self.blocks.len() as u64);
        let count = 1 + self.random.below(BATCH_MAX.min(self.blocks.len() as u64));
        for step in 0..count {
            let index = ((start + step) % self.blocks.len() as u64) as usize;
            self.blocks[index].sent += 1;
            let number = self.first + index as u64;
            client.request_write(
                fua,
                index as u64,
                number * BLOCK as u64,
                &stamp(number, self.blocks[index].sent),
            )?;
        }
        for _ in 0..count {
            self.acknowledge(client.reply()?, fua)?;
        }
        if fua == 0 && self.random.below(2) == 0 {
            client.flush()?;
            self.blocks.iter_mut().for_each(|block| block.durable = block.acknowledged);
        }
        Ok(())
    }

    fn acknowledge(&mut self, (error, cookie): (u32, u64), fua: u16) -> Result<()> {
        ensure!(error == 0, "NBD error {error}");
        let block = &mut self.blocks[cookie as usize];
        block.acknowledged = block.sent;
        if fua != 0 {
            block.durable = block.sent;
        }
        Ok(())
    }

    /// How many blocks a flush covered.
    pub fn durable_blocks(&self) -> usize {
        self.blocks.iter().filter(|block| block.durable > 0).count()
    }

    /// Reads every block and compares; what is there becomes the known state, so that writing can go on.
    pub fn verify(&mut self, client: &mut Client) -> Result<()> {
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let number = self.first + index as u64;
            let version = version_of(&client.read(number * BLOCK as u64, BLOCK as u32)?, number)?;
            ensure!(
                (block.durable..=block.sent).contains(&version),
                "block {number} has version {version}; {} was flushed, {} sent",
                block.durable,
                block.sent,
            );
            (block.acknowledged, block.durable) = (version, version);
        }
        Ok(())
    }
}

fn stamp(number: u64, version: u64) -> Vec<u8> {
    [number.to_be_bytes(), version.to_be_bytes()].concat().repeat(BLOCK / 16)
}

fn version_of(data: &[u8], number: u64) -> Result<u64> {
    let version = u64::from_be_bytes(data[8..16].try_into()?);
    let expected = if version == 0 { vec![0; BLOCK] } else { stamp(number, version) };
    ensure!(data == expected, "block {number} is torn or foreign: it starts {:02x?}", &data[..32]);
    Ok(version)
}
