//! The generator's side of a session: commands in, responses out, and the data that the target asks for.
//!
//! Writes go as the agreed parameters let them: what fits with the command, what may follow unasked in Data-Out
//! PDUs, and the rest as R2Ts ask for it.
//! Rule: a task's tag is its slot.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{
    BHS_BYTES, Cdb, CommandRequest, DataOut, Lun, NO_TAG, NopIn, NopOut, R2t, Request, Residual, Response,
    TaskAttribute,
};

use super::frames::Frames;
use super::pdu::{DIGEST_BYTES, Digests, digest};
use crate::load::{Load, Question};
use crate::outgoing::Outgoing;
use crate::talk::{Answer, Talk};

const GOOD: u8 = 0;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;
/// Header, padding and digests of a PDU.
const FRAME_BYTES_MAX: usize = BHS_BYTES + 3 + 2 * DIGEST_BYTES;

/// The logical unit that is asked.
#[derive(Clone, Copy)]
pub struct Unit {
    /// Its number.
    pub lun: Lun,
    /// Bytes of one of its blocks.
    pub logical_block_bytes: u32,
}

/// The numbers that commands and responses carry.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Of the next command.
    pub cmd_sn: u32,
    /// Of the next response.
    pub exp_stat_sn: u32,
    /// The last command that the target has room for.
    pub max_cmd_sn: u32,
}

/// One session.
pub struct IscsiTalk {
    digests: Digests,
    numbers: Numbers,
    unit: Unit,
    block_bytes: u32,
    slots: usize,
    /// Of a write: bytes that go with its command, and where the unasked ones end.
    immediate: u32,
    unasked_end: u32,
    /// Of one PDU; whole words, so that only the last needs padding.
    data_segment_bytes_max: u32,
    writes: bool,
    frames: Frames,
    header: Vec<u8>,
    due: VecDeque<Due>,
}

/// What the target has asked for.
enum Due {
    Data(Burst),
    Pong(NopIn),
}

/// Data out of one task.
struct Burst {
    task_tag: u32,
    transfer_tag: u32,
    start: u32,
    end: u32,
}

impl IscsiTalk {
    /// At the start of the full feature phase, for `load`.
    pub fn new(agreed: Parameters, numbers: Numbers, unit: Unit, load: &Load) -> IscsiTalk {
        let digests = Digests::of(&agreed);
        let data_segment_bytes_max = agreed.max_recv_data_segment_length & !3;
        let first_burst = load.block_bytes.min(agreed.first_burst_length);
        let immediate = if agreed.immediate_data { first_burst.min(data_segment_bytes_max) } else { 0 };
        IscsiTalk {
            digests,
            numbers,
            unit,
            block_bytes: load.block_bytes,
            slots: load.depth,
            immediate,
            unasked_end: if agreed.initial_r2t { immediate } else { first_burst },
            data_segment_bytes_max,
            writes: load.write_percent > 0,
            frames: Frames::new(digests),
            header: Vec::with_capacity(BHS_BYTES),
            due: VecDeque::new(),
        }
    }

    #[inline]
    fn burst(&mut self, burst: &Burst, out: &mut Outgoing) {
        let (mut at, mut data_sn) = (burst.start, 0);
        while at < burst.end {
            let bytes = (burst.end - at).min(self.data_segment_bytes_max);
            let request = Request::DataOut(DataOut {
                is_final: at + bytes == burst.end,
                lun: self.unit.lun,
                initiator_task_tag: burst.task_tag,
                target_transfer_tag: burst.transfer_tag,
                exp_stat_sn: self.numbers.exp_stat_sn,
                data_sn,
                buffer_offset: at,
            });
            self.put(&request, bytes as usize, out);
            (at, data_sn) = (at + bytes, data_sn + 1);
        }
    }

    #[inline]
    fn put(&mut self, request: &Request, data_bytes: usize, out: &mut Outgoing) {
        self.header.clear();
        request.encode(data_bytes, &mut self.header);
        out.header(&self.header);
        if self.digests.header {
            out.header(&digest(&self.header));
        }
        let data = out.payload(data_bytes.next_multiple_of(4));
        if self.digests.data && data_bytes > 0 {
            let digest = digest(data);
            out.header(&digest);
        }
    }

    /// The most bytes that `data_bytes` take in PDUs of their own.
    fn framed_bytes_max(&self, data_bytes: u32) -> usize {
        let pdus = data_bytes.div_ceil(self.data_segment_bytes_max) as usize;
        data_bytes as usize + pdus * FRAME_BYTES_MAX
    }

    #[inline]
    fn response(&mut self, response: Response) -> Result<Option<Answer>> {
        let (task_tag, stat_sn, max_cmd_sn, is_good) = match response {
            Response::DataIn(data) => {
                let Some(status) = data.status else {
                    self.room(data.max_cmd_sn);
                    return Ok(None);
                };
                let is_good = status == GOOD && data.residual == Residual::None;
                (data.initiator_task_tag, data.stat_sn, data.max_cmd_sn, is_good)
            }
            Response::Command(end) => {
                let is_good = end.response == 0 && end.status == GOOD && end.residual == Residual::None;
                (end.initiator_task_tag, end.stat_sn, end.max_cmd_sn, is_good)
            }
            other => return self.request(other).map(|()| None),
        };
        self.numbers.exp_stat_sn = stat_sn.wrapping_add(1);
        self.room(max_cmd_sn);
        let slot = task_tag as usize;
        if slot >= self.slots {
            bail!("the server answered a task that was never asked for");
        }
        Ok(Some(Answer { slot, error: !is_good }))
    }

    /// What the target wants of us.
    fn request(&mut self, response: Response) -> Result<()> {
        match response {
            Response::R2t(r2t) => {
                self.room(r2t.max_cmd_sn);
                self.due.push_back(Due::Data(self.asked(&r2t)?));
            }
            Response::NopIn(ping) => {
                self.room(ping.max_cmd_sn);
                if ping.target_transfer_tag != NO_TAG {
                    self.due.push_back(Due::Pong(ping));
                }
            }
            other => bail!("the server says what ends a load: {other:?}"),
        }
        Ok(())
    }

    fn asked(&self, r2t: &R2t) -> Result<Burst> {
        let start = r2t.buffer_offset;
        let end = start.saturating_add(r2t.desired_data_transfer_length);
        if end > self.block_bytes {
            bail!("the server asks for data that the write does not have");
        }
        let (task_tag, transfer_tag) = (r2t.initiator_task_tag, r2t.target_transfer_tag);
        Ok(Burst { task_tag, transfer_tag, start, end })
    }

    /// Numbers wrap around: the later one is less than half the circle ahead.
    #[inline]
    fn room(&mut self, max_cmd_sn: u32) {
        if (max_cmd_sn.wrapping_sub(self.numbers.max_cmd_sn) as i32) > 0 {
            self.numbers.max_cmd_sn = max_cmd_sn;
        }
    }
}

impl Talk for IscsiTalk {
    fn request_bytes_max(&self) -> usize {
        let data_bytes = if self.writes { self.block_bytes } else { 0 };
        // The command itself, and one PDU more because immediate data may end in the middle of one.
        self.framed_bytes_max(data_bytes) + 2 * FRAME_BYTES_MAX
    }

    #[inline]
    fn may_ask(&self) -> bool {
        self.numbers.max_cmd_sn.wrapping_sub(self.numbers.cmd_sn) as i32 >= 0
    }

    #[inline]
    fn ask(&mut self, question: Question, slot: usize, out: &mut Outgoing) {
        let (immediate, unasked_end) =
            if question.write { (self.immediate, self.unasked_end) } else { (0, 0) };
        let task_tag = slot as u32;
        let request = Request::Command(CommandRequest {
            immediate: false,
            is_final: unasked_end == immediate,
            read: !question.write,
            write: question.write,
            attribute: TaskAttribute::Simple,
            lun: self.unit.lun,
            initiator_task_tag: task_tag,
            expected_data_transfer_length: self.block_bytes,
            cmd_sn: self.numbers.cmd_sn,
            exp_stat_sn: self.numbers.exp_stat_sn,
            cdb: cdb(question, self.block_bytes, self.unit.logical_block_bytes),
            read_data_transfer_length: None,
        });
        self.numbers.cmd_sn = self.numbers.cmd_sn.wrapping_add(1);
        self.put(&request, immediate as usize, out);
        self.burst(&Burst { task_tag, transfer_tag: NO_TAG, start: immediate, end: unasked_end }, out);
    }

    #[inline]
    fn respond(&mut self, out: &mut Outgoing) -> bool {
        let room = match self.due.front() {
            None => return false,
            Some(Due::Data(burst)) => self.framed_bytes_max(burst.end - burst.start),
            Some(Due::Pong(_)) => FRAME_BYTES_MAX,
        };
        if !out.has_room(room) {
            return false;
        }
        match self.due.pop_front().expect("there is a first one") {
            Due::Data(burst) => self.burst(&burst, out),
            Due::Pong(ping) => self.put(&pong(&ping, &self.numbers), 0, out),
        }
        true
    }

    fn resume(&mut self, inbox: &mut [u8]) -> usize {
        self.frames.resume(inbox)
    }

    #[inline]
    fn take(&mut self, mut bytes: &[u8], answered: &mut dyn FnMut(Answer)) -> Result<()> {
        while let Some(response) = self.frames.next(&mut bytes)? {
            if let Some(answer) = self.response(response)? {
                answered(answer);
            }
        }
        Ok(())
    }
}

/// READ (16) or WRITE (16) (SBC-3 §5.12, §5.34).
#[inline]
fn cdb(question: Question, block_bytes: u32, logical_block_bytes: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = if question.write { WRITE_16 } else { READ_16 };
    cdb[2..10].copy_from_slice(&(question.offset_bytes / u64::from(logical_block_bytes)).to_be_bytes());
    cdb[10..14].copy_from_slice(&(block_bytes / logical_block_bytes).to_be_bytes());
    Cdb::new(&cdb)
}

/// An answer to a ping takes no number (RFC 7143 §11.18).
fn pong(ping: &NopIn, numbers: &Numbers) -> Request {
    Request::NopOut(NopOut {
        immediate: true,
        lun: ping.lun,
        initiator_task_tag: NO_TAG,
        target_transfer_tag: ping.target_transfer_tag,
        cmd_sn: numbers.cmd_sn,
        exp_stat_sn: numbers.exp_stat_sn,
    })
}

#[cfg(test)]
mod tests;
