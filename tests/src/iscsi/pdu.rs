//! A protocol data unit as 48 bytes of header and its data: whatever a test wants to put there.

use anyhow::{Context, Result};

use super::{HEADER_BYTES, NO_TAG, response};

/// A PDU without additional header segments. The lengths in its header are made when it is framed.
#[derive(Clone)]
pub struct Pdu {
    /// The basic header segment.
    pub header: [u8; HEADER_BYTES],
    /// The data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// All zero but the opcode.
    pub fn new(opcode: u8) -> Pdu {
        let mut header = [0; HEADER_BYTES];
        header[0] = opcode;
        Pdu { header, data: Vec::new() }
    }

    /// Sets the byte of flags.
    pub fn flags(self, flags: u8) -> Pdu {
        self.byte(1, flags)
    }

    /// Sets a byte.
    pub fn byte(mut self, at: usize, byte: u8) -> Pdu {
        self.header[at] = byte;
        self
    }

    /// Sets four bytes.
    pub fn word(mut self, at: usize, word: u32) -> Pdu {
        self.header[at..at + 4].copy_from_slice(&word.to_be_bytes());
        self
    }

    /// Sets the initiator task tag.
    pub fn tag(self, tag: u32) -> Pdu {
        self.word(16, tag)
    }

    /// Sets the data segment.
    pub fn data(mut self, data: Vec<u8>) -> Pdu {
        self.data = data;
        self
    }

    /// The opcode, without the immediate bit.
    pub fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    /// The initiator task tag.
    pub fn tag_of(&self) -> u32 {
        self.word_at(16)
    }

    /// Four bytes of the header.
    pub fn word_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.header[at], self.header[at + 1], self.header[at + 2], self.header[at + 3]])
    }

    /// The length of the data segment, by a received header.
    pub fn data_bytes(&self) -> usize {
        self.word_at(4) as usize & 0xff_ffff
    }

    /// StatSN, where this response uses one up.
    pub fn stat_sn(&self) -> Option<u32> {
        let has_status = match self.opcode() {
            response::DATA_IN => self.header[1] & 1 != 0,
            response::NOP_IN => self.tag_of() != NO_TAG,
            response::R2T => false,
            _ => true,
        };
        has_status.then(|| self.word_at(24))
    }

    /// Its bytes, with padding and these digests (§11.2.3, §11.2.4).
    pub fn frame(&self, header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut header = self.header;
        header[5..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        let mut frame = header.to_vec();
        if header_digest {
            frame.extend(crc32c::crc32c(&header).to_le_bytes());
        }
        let mut data = self.data.clone();
        data.resize(data.len().next_multiple_of(4), 0);
        frame.extend(&data);
        if data_digest && !data.is_empty() {
            frame.extend(crc32c::crc32c(&data).to_le_bytes());
        }
        frame
    }
}

impl std::fmt::Debug for Pdu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PDU {:02x?} and {} bytes", self.header, self.data.len())
    }
}

/// `key=value` pairs as text (§6.1).
pub fn pairs<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|(key, value)| format!("{}={}\0", key.as_ref(), value.as_ref()).into_bytes())
        .collect()
}

/// Reads such text.
pub fn read_pairs(text: &[u8]) -> Result<Vec<(String, String)>> {
    let lines = text.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    let pair = |line| -> Result<(String, String)> {
        let line = std::str::from_utf8(line)?;
        let (key, value) = line.split_once('=').with_context(|| format!("{line:?} is no pair"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    lines.map(pair).collect()
}
