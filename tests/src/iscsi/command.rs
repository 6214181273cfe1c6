//! SCSI commands over a session: a command, its data either way, its status.

use anyhow::{Context, Result, bail, ensure};

use super::{BLOCK, Client, NO_TAG, Pdu, request, response};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const FINAL: u8 = 0x80;
const SIMPLE: u8 = 1;
/// Data of one Data-Out, below any MaxRecvDataSegmentLength that a target may sensibly declare.
const SEGMENT: usize = 8192;

/// What a command moves.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// Nothing.
    None,
    /// So many bytes from the target.
    In(u32),
    /// So many bytes to the target, the first of them with the command.
    Out(u32, &'a [u8]),
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// SCSI status.
    pub status: u8,
    /// Sense data.
    pub sense: Vec<u8>,
    /// What was read.
    pub data: Vec<u8>,
}

impl Answer {
    /// Sense key, additional sense code and its qualifier.
    pub fn code(&self) -> Option<(u8, u8, u8)> {
        match self.sense.first()? & 0x7f {
            0x70 => Some((self.sense.get(2)? & 0xf, *self.sense.get(12)?, *self.sense.get(13)?)),
            0x72 => Some((self.sense.get(1)? & 0xf, *self.sense.get(2)?, *self.sense.get(3)?)),
            _ => None,
        }
    }

    /// An error unless the status is GOOD.
    pub fn good(self) -> Result<Vec<u8>> {
        ensure!(self.status == 0, "{self:?}");
        Ok(self.data)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:#x}, sense {:x?}, {} bytes", self.status, self.code(), self.data.len())
    }
}

/// How the target took something that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The command ended with this status.
    Status(u8),
    /// The PDU was rejected for this reason (RFC 7143, §11.17.1).
    Rejected(u8),
    /// The connection was ended.
    Ended,
}

impl Client {
    /// What becomes of the session after it has broken a rule; silence is an error.
    pub fn taken(&mut self) -> Result<Taken> {
        loop {
            let pdu = match self.receive_answering() {
                Ok(pdu) => pdu,
                Err(_) if self.has_ended()? => return Ok(Taken::Ended),
                Err(error) => return Err(error).context("it was passed over in silence"),
            };
            match pdu.opcode() {
                response::REJECT => return Ok(Taken::Rejected(pdu.header[2])),
                response::COMMAND => return Ok(Taken::Status(pdu.header[3])),
                response::DATA_IN if pdu.header[1] & 1 != 0 => return Ok(Taken::Status(pdu.header[3])),
                _ => {}
            }
        }
    }

    /// A command, not sent yet. Without unsolicited data it is final.
    pub fn command(&mut self, cdb: &[u8], data: Data<'_>) -> Pdu {
        let (flags, bytes, immediate) = match data {
            Data::None => (0, 0, &[][..]),
            Data::In(bytes) => (READ, bytes, &[][..]),
            Data::Out(bytes, immediate) => (WRITE, bytes, immediate),
        };
        let pdu = self.request(request::COMMAND).flags(FINAL | SIMPLE | flags).word(20, bytes);
        let mut pdu = pdu.byte(9, self.lun);
        pdu.header[32..32 + cdb.len()].copy_from_slice(cdb);
        pdu.data(immediate.to_vec())
    }

    /// Sends a command.
    pub fn start(&mut self, cdb: &[u8], data: Data<'_>) -> Result<Pdu> {
        let pdu = self.command(cdb, data);
        self.send(&pdu)?;
        Ok(pdu)
    }

    /// Waits for the end of a command; `out` is what R2Ts may ask for. What comes for others meanwhile is kept.
    pub fn finish(&mut self, command: &Pdu, out: &[u8]) -> Result<Answer> {
        let mut data = vec![0; if command.header[1] & READ == 0 { 0 } else { command.word_at(20) as usize }];
        let mut end = 0;
        loop {
            let pdu = self.receive_for(command.tag_of())?;
            match pdu.opcode() {
                response::R2T => self.send_data(command, &pdu, out)?,
                response::DATA_IN => {
                    let at = pdu.word_at(40) as usize;
                    end = at + pdu.data.len();
                    data.get_mut(at..end).context("Data-In beyond its buffer")?.copy_from_slice(&pdu.data);
                    if pdu.header[1] & 1 != 0 {
                        data.truncate(end);
                        return Ok(Answer { status: pdu.header[3], sense: Vec::new(), data });
                    }
                }
                response::COMMAND => {
                    ensure!(pdu.header[2] == 0, "service response {}", pdu.header[2]);
                    data.truncate(end);
                    let sense = pdu.data.get(2..).unwrap_or(&[]).to_vec();
                    return Ok(Answer { status: pdu.header[3], sense, data });
                }
                _ => bail!("unexpected {pdu:?}"),
            }
        }
    }

    fn receive_for(&mut self, tag: u32) -> Result<Pdu> {
        if let Some(at) = self.early.iter().position(|pdu| pdu.tag_of() == tag) {
            return Ok(self.early.remove(at));
        }
        loop {
            let pdu = self.receive_answering()?;
            if pdu.tag_of() == tag {
                return Ok(pdu);
            }
            ensure!(pdu.tag_of() != NO_TAG && self.early.len() < 4096, "for nobody: {pdu:?}");
            self.early.push(pdu);
        }
    }

    /// Sends what an R2T asks for.
    pub fn send_data(&mut self, command: &Pdu, r2t: &Pdu, out: &[u8]) -> Result<()> {
        let (start, len) = (r2t.word_at(40) as usize, r2t.word_at(44) as usize);
        let burst = out.get(start..start + len).with_context(|| format!("{r2t:?} asks for too much"))?;
        let pieces: Vec<&[u8]> = burst.chunks(SEGMENT).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let flags = if number + 1 == pieces.len() { FINAL } else { 0 };
            let offset = start + number * SEGMENT;
            let pdu =
                self.data_out(command, r2t.word_at(20), number as u32, offset as u32, piece).flags(flags);
            self.send(&pdu)?;
        }
        Ok(())
    }

    /// A Data-Out for a command, without the final bit.
    pub fn data_out(&self, command: &Pdu, transfer_tag: u32, data_sn: u32, offset: u32, data: &[u8]) -> Pdu {
        let pdu = Pdu::new(request::DATA_OUT).tag(command.tag_of()).word(20, transfer_tag);
        let pdu = pdu.word(28, self.exp_stat_sn).word(36, data_sn).word(40, offset);
        let mut pdu = pdu.data(data.to_vec());
        if transfer_tag != NO_TAG {
            pdu.header[8..16].copy_from_slice(&command.header[8..16]);
        }
        pdu
    }

    /// Runs a command, alone on the session.
    pub fn run(&mut self, cdb: &[u8], data: Data<'_>, out: &[u8]) -> Result<Answer> {
        let command = self.start(cdb, data)?;
        self.finish(&command, out)
    }

    /// Asks whether the unit is ready until it is: unit attentions are told once each.
    pub fn await_ready(&mut self) -> Result<()> {
        for _ in 0..8 {
            let answer = self.run(&[0; 6], Data::None, &[])?;
            match answer.code() {
                None => return answer.good().map(drop),
                Some((6, ..)) => {}
                Some(_) => bail!("the unit is not ready: {answer:?}"),
            }
        }
        bail!("unit attentions without end")
    }

    /// Writes whole blocks, with every byte asked for by R2T.
    pub fn write(&mut self, lba: u32, data: &[u8]) -> Result<()> {
        let answer = self.run(&write_10(lba, blocks(data)?), Data::Out(data.len() as u32, &[]), data)?;
        answer.good().map(drop).with_context(|| format!("write of {} bytes at block {lba}", data.len()))
    }

    /// Reads whole blocks.
    pub fn read(&mut self, lba: u32, blocks: u16) -> Result<Vec<u8>> {
        let bytes = u32::from(blocks) * BLOCK as u32;
        let data = self.run(&read_10(lba, blocks), Data::In(bytes), &[])?.good()?;
        ensure!(data.len() == bytes as usize, "a read of {bytes} bytes brings {}", data.len());
        Ok(data)
    }
}

fn blocks(data: &[u8]) -> Result<u16> {
    ensure!(data.len().is_multiple_of(BLOCK), "{} bytes are not whole blocks", data.len());
    Ok(u16::try_from(data.len() / BLOCK)?)
}

/// READ (10).
pub fn read_10(lba: u32, blocks: u16) -> [u8; 10] {
    cdb_10(0x28, lba, blocks)
}

/// WRITE (10).
pub fn write_10(lba: u32, blocks: u16) -> [u8; 10] {
    cdb_10(0x2a, lba, blocks)
}

fn cdb_10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
