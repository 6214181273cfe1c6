//! A session, and the mover that a test plays.

use std::collections::BTreeMap;
use std::ops::Range;

use wire::iscsi::login::{Agreed, SessionKind};
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::code::opcode;
use wire::iscsi::pdu::{
    Cdb, CommandRequest, DataOut, Lun, NO_TAG, NopOut, R2t, Reject, RejectReason, Request, Response,
    TaskAttribute, TaskManagementRequest,
};
use wire::iscsi::session::{Effect, Place, SendTargets, Session, SessionSettings, TaskId, Violation};

pub const FIRST_CMD_SN: u32 = 100;
pub const FIRST_STAT_SN: u32 = 5000;
pub const QUEUE_DEPTH: u32 = 8;
pub const CID: u16 = 3;
pub const TARGET: &str = "iqn.2026-11.io.ringsan:disk0";

/// Small limits, so that short data meets them.
pub fn parameters() -> Parameters {
    Parameters {
        max_recv_data_segment_length: 512,
        own_max_recv_data_segment_length: 1024,
        max_burst_length: 2048,
        first_burst_length: 1536,
        initial_r2t: false,
        immediate_data: true,
        max_outstanding_r2t: 3,
        ..Parameters::default()
    }
}

pub fn agreed(parameters: Parameters) -> Agreed {
    Agreed {
        session: SessionKind::Normal { target_name: TARGET.to_owned() },
        initiator_name: "iqn.2026-11.org.example:host".to_owned(),
        initiator_alias: String::new(),
        isid: [0x80, 0, 0, 0, 0, 1],
        tsih: 0,
        cid: CID,
        parameters,
        negotiated: Vec::new(),
        chap_user: None,
        cmd_sn: FIRST_CMD_SN,
        stat_sn: FIRST_STAT_SN,
    }
}

pub const SETTINGS: SessionSettings =
    SessionSettings { queue_depth: QUEUE_DEPTH, is_discovery: false, collect_bytes_max: 4096 };

/// Two targets, one of them with two addresses.
pub struct Directory;

impl SendTargets for Directory {
    fn targets(&self) -> Vec<(String, Vec<String>)> {
        let addresses = vec!["192.0.2.1:3260,1".to_owned(), "[2001:db8::1]:3260,1".to_owned()];
        let other = ("iqn.2026-11.io.ringsan:disk1".to_owned(), vec!["192.0.2.1:3260,1".to_owned()]);
        vec![(TARGET.to_owned(), addresses), other]
    }
}

/// A session, and where its mover puts data.
pub struct Mover {
    pub session: Session,
    pub memory: BTreeMap<TaskId, Vec<u8>>,
}

impl Mover {
    pub fn new() -> Mover {
        Mover::with(parameters())
    }

    pub fn with(parameters: Parameters) -> Mover {
        Mover { session: Session::new(&agreed(parameters), SETTINGS), memory: BTreeMap::new() }
    }

    pub fn discovery() -> Mover {
        let agreed = Agreed { session: SessionKind::Discovery, ..agreed(parameters()) };
        let settings = SessionSettings { is_discovery: true, ..SETTINGS };
        Mover { session: Session::new(&agreed, settings), memory: BTreeMap::new() }
    }

    /// Gives one PDU to the session, and its data to where the session wants it.
    pub fn give(&mut self, request: Request, data: &[u8]) -> Vec<Effect> {
        self.try_give(request, data).expect("the session goes on")
    }

    pub fn try_give(&mut self, request: Request, data: &[u8]) -> Result<Vec<Effect>, Violation> {
        let (bhs, ahs) = encode(&request, data.len());
        self.give_raw(&bhs, &ahs, data)
    }

    pub fn give_raw(&mut self, bhs: &[u8; 48], ahs: &[u8], data: &[u8]) -> Result<Vec<Effect>, Violation> {
        let collected = match self.session.header(bhs, ahs)? {
            Place::Collect => data,
            Place::Task { task, offset } => {
                let memory = self.memory.entry(task).or_default();
                let end = offset as usize + data.len();
                memory.resize(memory.len().max(end), 0);
                memory[offset as usize..end].copy_from_slice(data);
                &[]
            }
            Place::Discard => &[],
        };
        let mut effects = Vec::new();
        self.session.complete(collected, &Directory, &mut effects);
        Ok(effects)
    }

    /// Gives a command that is to be started, and only that.
    pub fn start(&mut self, command: CommandRequest) -> TaskId {
        match self.give(Request::Command(command), &[])[..] {
            [Effect::Start(task)] => task,
            ref effects => panic!("{effects:?}"),
        }
    }

    pub fn ask(&mut self, task: TaskId, offset: u32, bytes: u32) -> R2t {
        self.session.request_data(task, offset, bytes).expect("its data has not failed")
    }

    pub fn good(&mut self, task: TaskId) -> wire::iscsi::pdu::CommandResponse {
        let bytes = self.session.task(task).expected_bytes;
        self.session.respond(task, 0, bytes.into())
    }
}

pub fn encode(request: &Request, data_bytes: usize) -> ([u8; 48], Vec<u8>) {
    let mut header = Vec::new();
    request.encode(data_bytes, &mut header);
    let (bhs, ahs) = header.split_first_chunk().expect("a header has 48 bytes");
    (*bhs, ahs.to_vec())
}

/// A command without data, on LUN 0. Tests name tasks by their tags.
pub fn command(tag: u32, cmd_sn: u32) -> CommandRequest {
    CommandRequest {
        immediate: false,
        is_final: true,
        read: false,
        write: false,
        attribute: TaskAttribute::Simple,
        lun: Lun::from_number(0),
        initiator_task_tag: tag,
        expected_data_transfer_length: 0,
        cmd_sn,
        exp_stat_sn: 0,
        cdb: Cdb::new(&[0; 6]),
        read_data_transfer_length: None,
    }
}

pub fn write(tag: u32, cmd_sn: u32, bytes: u32) -> CommandRequest {
    CommandRequest { write: true, expected_data_transfer_length: bytes, ..command(tag, cmd_sn) }
}

pub fn read(tag: u32, cmd_sn: u32, bytes: u32) -> CommandRequest {
    CommandRequest { read: true, expected_data_transfer_length: bytes, ..command(tag, cmd_sn) }
}

/// Data that nobody asked for.
pub fn unasked(tag: u32, data_sn: u32, buffer_offset: u32, is_final: bool) -> Request {
    Request::DataOut(DataOut {
        is_final,
        initiator_task_tag: tag,
        target_transfer_tag: NO_TAG,
        data_sn,
        buffer_offset,
        ..DataOut::default()
    })
}

/// Data that an R2T asked for.
pub fn asked(r2t: &R2t, data_sn: u32, buffer_offset: u32, is_final: bool) -> Request {
    Request::DataOut(DataOut {
        is_final,
        lun: r2t.lun,
        initiator_task_tag: r2t.initiator_task_tag,
        target_transfer_tag: r2t.target_transfer_tag,
        data_sn,
        buffer_offset,
        ..DataOut::default()
    })
}

pub fn manage(tag: u32, cmd_sn: u32, function: u8, lun: u16) -> TaskManagementRequest {
    TaskManagementRequest {
        immediate: true,
        function,
        lun: Lun::from_number(lun),
        initiator_task_tag: tag,
        referenced_task_tag: NO_TAG,
        cmd_sn,
        ..TaskManagementRequest::default()
    }
}

pub fn nop(tag: u32, cmd_sn: u32) -> NopOut {
    NopOut { initiator_task_tag: tag, target_transfer_tag: NO_TAG, cmd_sn, ..NopOut::default() }
}

/// Bytes of which no two neighbours are alike, nor any two tasks.
pub fn pattern(seed: u32, bytes: u32) -> Vec<u8> {
    part(seed, 0..bytes)
}

/// Some of them.
pub fn part(seed: u32, range: Range<u32>) -> Vec<u8> {
    range.map(|at| (seed.wrapping_mul(31) ^ at ^ (at >> 8).wrapping_mul(7)) as u8).collect()
}

/// Why the PDU was refused, if that is all that happened.
pub fn rejection(effects: &[Effect]) -> Option<RejectReason> {
    match effects {
        [Effect::Send(Response::Reject(Reject { reason, .. }), bhs)] => {
            assert!(bhs.len() == 48 && bhs[0] & opcode::MASK < 0x20);
            Some(*reason)
        }
        _ => None,
    }
}
