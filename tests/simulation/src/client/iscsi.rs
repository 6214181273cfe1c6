//! An iSCSI session of one connection: commands out, responses in, and the data that the target asks for.
//!
//! Its one rule: a task's tag is its own, and a response that fits none is a scandal.

mod login;

pub use login::log_in;

use std::collections::BTreeMap;

use wire::iscsi::initiator::LoggedIn;
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{
    BHS_BYTES, Cdb, CommandRequest, DataIn, DataOut, LogoutRequest, Lun, NO_TAG, NopOut, R2t, Request,
    Residual, Response, Segments, TaskAttribute,
};

use super::speech::{Heard, Kind, Question};
use super::words::Reply;
use crate::disk::SECTOR_BYTES;

const DIGEST_BYTES: usize = 4;
const GOOD: u8 = 0;

/// One session.
pub struct Talk {
    agreed: Parameters,
    input: Vec<u8>,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    next_tag: u32,
    tasks: BTreeMap<u32, Task>,
}

struct Task {
    cookie: u64,
    /// To be written.
    data_out: Vec<u8>,
    /// What was read, and how much of it has come.
    data_in: Vec<u8>,
    came: usize,
}

impl Talk {
    /// At the start of the full feature phase; `input` has come behind the login.
    fn new(logged_in: LoggedIn, input: Vec<u8>) -> Talk {
        Talk {
            agreed: logged_in.parameters,
            input,
            cmd_sn: logged_in.cmd_sn,
            exp_stat_sn: logged_in.exp_stat_sn,
            max_cmd_sn: logged_in.max_cmd_sn,
            next_tag: 1,
            tasks: BTreeMap::new(),
        }
    }

    /// Whether the target has room for a command.
    pub fn may_ask(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) as i32 >= 0
    }

    /// Appends a command, and as much of its data as may go unasked.
    pub fn ask(&mut self, question: &Question, out: &mut Vec<u8>) {
        let mut data_out = Vec::new();
        match question.kind {
            Kind::Write => question.payload(&mut data_out),
            Kind::Zero => data_out.resize(SECTOR_BYTES, 0),
            Kind::Trim => unmap(question, &mut data_out),
            Kind::Read | Kind::Flush => {}
        }
        let reads = if question.kind == Kind::Read { question.bytes() } else { 0 };
        let tag = self.next_tag;
        self.next_tag += 1;
        let unasked = data_out.len().min(self.agreed.first_burst_length as usize);
        let segment = self.agreed.max_recv_data_segment_length as usize & !3;
        let immediate = if self.agreed.immediate_data { unasked.min(segment) } else { 0 };
        let end = if self.agreed.initial_r2t { immediate } else { unasked };
        let request = Request::Command(CommandRequest {
            immediate: false,
            is_final: end == immediate,
            read: reads > 0,
            write: !data_out.is_empty(),
            attribute: TaskAttribute::Simple,
            lun: Lun::from_number(0),
            initiator_task_tag: tag,
            expected_data_transfer_length: data_out.len().max(reads) as u32,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: cdb(question),
            read_data_transfer_length: None,
        });
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.put(&request, &data_out[..immediate], out);
        self.put_data(tag, NO_TAG, &data_out[..end], immediate, out);
        let task = Task { cookie: question.cookie, data_out, data_in: vec![0; reads], came: 0 };
        self.tasks.insert(tag, task);
    }

    /// Appends the data from `start` on, in PDUs of one burst.
    fn put_data(&self, tag: u32, transfer_tag: u32, data: &[u8], start: usize, out: &mut Vec<u8>) {
        let segment = self.agreed.max_recv_data_segment_length as usize & !3;
        let mut at = start;
        for (number, chunk) in data[start.min(data.len())..].chunks(segment).enumerate() {
            let request = Request::DataOut(DataOut {
                is_final: at + chunk.len() == data.len(),
                lun: Lun::from_number(0),
                initiator_task_tag: tag,
                target_transfer_tag: transfer_tag,
                exp_stat_sn: self.exp_stat_sn,
                data_sn: number as u32,
                buffer_offset: at as u32,
            });
            self.put(&request, chunk, out);
            at += chunk.len();
        }
    }

    /// Appends that we leave.
    pub fn log_out(&mut self, out: &mut Vec<u8>) {
        let request = Request::Logout(LogoutRequest {
            immediate: true,
            initiator_task_tag: self.next_tag,
            cid: 1,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            ..LogoutRequest::default()
        });
        self.put(&request, &[], out);
    }

    fn put(&self, request: &Request, data: &[u8], out: &mut Vec<u8>) {
        put(request, data, [self.agreed.header_digest, self.agreed.data_digest], out);
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// See `Speech::hear`.
    pub fn hear(&mut self, out: &mut Vec<u8>) -> Result<Option<Heard>, String> {
        let digests = [self.agreed.header_digest, self.agreed.data_digest];
        while let Some((response, data)) = take(&mut self.input, digests)? {
            let heard = match response {
                Response::DataIn(response) => self.data_in(&response, &data)?,
                Response::Command(response) => {
                    self.answered(response.stat_sn, response.max_cmd_sn);
                    let is_good = response.response == 0 && response.status == GOOD;
                    let is_whole = response.residual == Residual::None;
                    let error = format!("response {}, status {}", response.response, response.status);
                    Some(self.ended(response.initiator_task_tag, is_good, is_whole, error)?)
                }
                Response::R2t(r2t) => {
                    self.room(r2t.max_cmd_sn);
                    self.asked(&r2t, out)?;
                    None
                }
                Response::NopIn(ping) => {
                    self.room(ping.max_cmd_sn);
                    if ping.target_transfer_tag != NO_TAG {
                        let pong = Request::NopOut(NopOut {
                            immediate: true,
                            lun: ping.lun,
                            initiator_task_tag: NO_TAG,
                            target_transfer_tag: ping.target_transfer_tag,
                            cmd_sn: self.cmd_sn,
                            exp_stat_sn: self.exp_stat_sn,
                        });
                        self.put(&pong, &[], out);
                    }
                    None
                }
                Response::Async(_) | Response::Logout(_) => Some(Heard::Leave),
                other => return Err(format!("a response that nobody has asked for: {other:?}")),
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
        Ok(None)
    }

    fn data_in(&mut self, response: &DataIn, data: &[u8]) -> Result<Option<Heard>, String> {
        self.room(response.max_cmd_sn);
        let tag = response.initiator_task_tag;
        let task =
            self.tasks.get_mut(&tag).ok_or_else(|| format!("data for the task {tag}, which is none"))?;
        let start = response.buffer_offset as usize;
        let place = task.data_in.get_mut(start..start + data.len());
        place.ok_or("more data than was asked for")?.copy_from_slice(data);
        task.came += data.len();
        let Some(status) = response.status else { return Ok(None) };
        self.answered(response.stat_sn, response.max_cmd_sn);
        let is_whole = response.residual == Residual::None;
        self.ended(tag, status == GOOD, is_whole, format!("status {status}")).map(Some)
    }

    fn ended(&mut self, tag: u32, is_good: bool, is_whole: bool, error: String) -> Result<Heard, String> {
        let task =
            self.tasks.remove(&tag).ok_or_else(|| format!("an answer to {tag}, which was not asked"))?;
        if is_good && !(is_whole && task.came == task.data_in.len()) {
            return Err(format!("{} bytes where {} were asked for", task.came, task.data_in.len()));
        }
        let error = (!is_good).then_some(error);
        Ok(Heard::Reply(Reply { cookie: task.cookie, error, data: task.data_in }))
    }

    fn asked(&mut self, r2t: &R2t, out: &mut Vec<u8>) -> Result<(), String> {
        let tag = r2t.initiator_task_tag;
        let start = r2t.buffer_offset as usize;
        let end = start + r2t.desired_data_transfer_length as usize;
        let task =
            self.tasks.get(&tag).ok_or_else(|| format!("data is asked for of {tag}, which is no task"))?;
        let data = task.data_out.get(..end).ok_or("more data is asked for than there is")?;
        self.put_data(tag, r2t.target_transfer_tag, data, start, out);
        Ok(())
    }

    fn answered(&mut self, stat_sn: u32, max_cmd_sn: u32) {
        self.exp_stat_sn = stat_sn.wrapping_add(1);
        self.room(max_cmd_sn);
    }

    /// Numbers wrap around: the later one is less than half the circle ahead.
    fn room(&mut self, max_cmd_sn: u32) {
        if (max_cmd_sn.wrapping_sub(self.max_cmd_sn) as i32) > 0 {
            self.max_cmd_sn = max_cmd_sn;
        }
    }
}

/// READ (16), WRITE (16), SYNCHRONIZE CACHE (16), WRITE SAME (16) and UNMAP (SBC-4).
fn cdb(question: &Question) -> Cdb {
    if question.kind == Kind::Trim {
        return Cdb::new(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
    }
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = match question.kind {
        Kind::Read => (0x88, 0),
        Kind::Write => (0x8a, if question.durable { 0x08 } else { 0 }),
        Kind::Flush => {
            return Cdb::new(&{
                cdb[0] = 0x91;
                cdb
            });
        }
        Kind::Zero | Kind::Trim => (0x93, 0),
    };
    cdb[2..10].copy_from_slice(&(question.first as u64).to_be_bytes());
    cdb[10..14].copy_from_slice(&(question.sectors as u32).to_be_bytes());
    Cdb::new(&cdb)
}

/// The parameter list of an UNMAP of one range.
fn unmap(question: &Question, out: &mut Vec<u8>) {
    out.extend_from_slice(&22_u16.to_be_bytes());
    out.extend_from_slice(&16_u16.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(question.first as u64).to_be_bytes());
    out.extend_from_slice(&(question.sectors as u32).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// Appends a PDU, with these digests of header and data.
fn put(request: &Request, data: &[u8], digests: [bool; 2], out: &mut Vec<u8>) {
    let start = out.len();
    request.encode(data.len(), out);
    if digests[0] {
        let digest = digest(&out[start..]);
        out.extend_from_slice(&digest);
    }
    if data.is_empty() {
        return;
    }
    let start = out.len();
    out.extend_from_slice(data);
    out.resize(start + data.len().next_multiple_of(4), 0);
    if digests[1] {
        let digest = digest(&out[start..]);
        out.extend_from_slice(&digest);
    }
}

/// Takes a PDU, if it is whole.
fn take(input: &mut Vec<u8>, digests: [bool; 2]) -> Result<Option<(Response, Vec<u8>)>, String> {
    let Some(header) = input.first_chunk::<BHS_BYTES>() else { return Ok(None) };
    let segments = Segments::of(header);
    let response = Response::decode(header, &[]).map_err(|reason| format!("a response's {reason:?}"))?;
    let data_start = BHS_BYTES + if digests[0] { DIGEST_BYTES } else { 0 };
    let data_end = data_start + segments.data_bytes + segments.padding();
    let has_data_digest = digests[1] && segments.data_bytes > 0;
    let end = data_end + if has_data_digest { DIGEST_BYTES } else { 0 };
    if input.len() < end {
        return Ok(None);
    }
    let pdu: Vec<u8> = input.drain(..end).collect();
    let is_right = |bytes: &[u8], sum: &[u8]| digest(bytes) == sum;
    let header_is_right = !digests[0] || is_right(&pdu[..BHS_BYTES], &pdu[BHS_BYTES..data_start]);
    let data_is_right = !has_data_digest || is_right(&pdu[data_start..data_end], &pdu[data_end..]);
    if !(header_is_right && data_is_right) {
        return Err("a wrong digest".into());
    }
    Ok(Some((response, pdu[data_start..data_start + segments.data_bytes].to_vec())))
}

fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    crc32c::crc32c(bytes).to_le_bytes()
}
