//! A load: what is asked of a server, how often at once, and in what order.
//!
//! Rule: the same load asks every server the same questions, in the same order for the same seed.

use serde::Serialize;
use wire::nbd::transmission::ReplyStyle;

/// Where the requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any block, each time anew.
    Random,
    /// One block after the other; each connection begins at its own part of the volume.
    Sequential,
}

/// How requests leave the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sending {
    /// All that are due in one send: flatters servers that gather replies.
    Gather,
    /// One send a request, as the kernel's client does.
    Single,
}

/// What the client does while no reply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Look again: waking this client costs the server nothing.
    Spin,
    /// Sleep in poll(2): for clients that share their core.
    Sleep,
}

/// The style of replies to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ReplyKind {
    /// What every server and the kernel's client speak.
    Simple,
    /// Reads come in chunks.
    Structured,
    /// Headers with 64-bit lengths.
    Extended,
}

impl ReplyKind {
    /// As the codec calls it.
    pub fn style(self) -> ReplyStyle {
        match self {
            ReplyKind::Simple => ReplyStyle::Simple,
            ReplyKind::Structured => ReplyStyle::Structured,
            ReplyKind::Extended => ReplyStyle::Extended,
        }
    }
}

/// The digests to ask for, of CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DigestKind {
    /// Neither.
    None,
    /// Behind each data segment.
    Data,
    /// Behind headers, too.
    Both,
}

/// One load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Where the requests go.
    pub order: Order,
    /// Writes among a hundred requests.
    pub write_percent: u8,
    /// Bytes of each request.
    pub block_bytes: u32,
    /// Requests in flight on each connection.
    pub depth: usize,
    /// Connections.
    pub connections: usize,
    /// How requests leave.
    pub sending: Sending,
    /// How replies are awaited.
    pub waiting: Waiting,
    /// How an NBD server is to reply.
    pub replies: ReplyKind,
    /// The digests of an iSCSI session.
    pub digests: DigestKind,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Load {
    /// Random reads of 4 KiB, 32 at once, on one connection.
    pub fn random_4k(write_percent: u8, depth: usize) -> Load {
        Load {
            order: Order::Random,
            write_percent,
            block_bytes: 4096,
            depth,
            connections: 1,
            sending: Sending::Gather,
            waiting: Waiting::Spin,
            replies: ReplyKind::Simple,
            digests: DigestKind::None,
            seed: 1,
        }
    }

    /// Sequential transfers of 128 KiB, 8 at once, on one connection.
    pub fn sequential_128k(write_percent: u8) -> Load {
        Load { order: Order::Sequential, block_bytes: 128 << 10, ..Load::random_4k(write_percent, 8) }
    }

    /// Bytes that may follow a request.
    pub fn payload_bytes_max(&self) -> usize {
        if self.write_percent > 0 { self.block_bytes as usize } else { 0 }
    }
}

/// The questions of one connection, one after the other.
pub struct Questions {
    random: Random,
    order: Order,
    write_percent: u64,
    block_bytes: u64,
    blocks: u64,
    next_block: u64,
}

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// A write; else a read.
    pub write: bool,
    /// Where.
    pub offset_bytes: u64,
}

impl Questions {
    /// Those of connection `index` of `load`, to a volume of `size_bytes` (at least one block).
    pub fn new(load: &Load, index: usize, size_bytes: u64) -> Questions {
        let block_bytes = u64::from(load.block_bytes);
        let blocks = size_bytes / block_bytes;
        assert!(blocks > 0, "the volume is smaller than one block");
        Questions {
            random: Random::new(load.seed.wrapping_add(index as u64)),
            order: load.order,
            write_percent: u64::from(load.write_percent),
            block_bytes,
            blocks,
            next_block: blocks / load.connections as u64 * index as u64,
        }
    }

    /// The next one.
    #[inline]
    pub fn next(&mut self) -> Question {
        let block = match self.order {
            Order::Random => self.random.below(self.blocks),
            Order::Sequential => self.following(),
        };
        let write = match self.write_percent {
            0 => false,
            100 => true,
            percent => self.random.below(100) < percent,
        };
        Question { write, offset_bytes: block * self.block_bytes }
    }

    fn following(&mut self) -> u64 {
        let block = self.next_block;
        self.next_block = if block + 1 == self.blocks { 0 } else { block + 1 };
        block
    }
}

/// SplitMix64: small, seeded, good enough to spread offsets.
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// Fills `bytes`: no block of it is zero, so no server can answer with a hole.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(load: &Load, index: usize, size_bytes: u64, count: usize) -> Vec<Question> {
        let mut questions = Questions::new(load, index, size_bytes);
        (0..count).map(|_| questions.next()).collect()
    }

    #[test]
    fn same_seed_asks_the_same_questions() {
        let load = Load::random_4k(50, 4);
        assert_eq!(questions(&load, 0, 1 << 30, 100), questions(&load, 0, 1 << 30, 100));
        assert_ne!(questions(&load, 0, 1 << 30, 100), questions(&load, 1, 1 << 30, 100));
    }

    #[test]
    fn random_offsets_are_aligned_and_inside() {
        for question in questions(&Load::random_4k(0, 1), 0, 10 * 4096 + 100, 1000) {
            assert_eq!(question.offset_bytes % 4096, 0);
            assert!(question.offset_bytes < 10 * 4096);
        }
    }

    #[test]
    fn sequential_connections_start_apart_and_wrap() {
        let load = Load { connections: 2, ..Load::sequential_128k(0) };
        let at = |index| {
            let asked = questions(&load, index, 4 * (128 << 10), 5);
            asked.iter().map(|question| question.offset_bytes >> 17).collect::<Vec<_>>()
        };
        assert_eq!(at(0), [0, 1, 2, 3, 0]);
        assert_eq!(at(1), [2, 3, 0, 1, 2]);
    }

    #[test]
    fn mixed_load_writes_about_its_share() {
        let asked = questions(&Load::random_4k(30, 1), 0, 1 << 30, 10_000);
        let writes = asked.iter().filter(|question| question.write).count();
        assert!((2_800..3_200).contains(&writes), "{writes} writes of 10000");
    }
}
