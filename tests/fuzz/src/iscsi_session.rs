//! An iSCSI session against any initiator, with a mover that answers at any moment.
//!
//! The input is a list of acts: PDUs that are nearly lawful, PDUs that are noise, and what a mover may do.
//! Its one rule: bytes of a burst were placed since the task began, each once, within what was announced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire::iscsi::login::{Agreed, SessionKind};
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::{
    Cdb, CommandRequest, DataOut, LoginRequest, LogoutRequest, Lun, NO_TAG, NopOut, R2t, Request, Response,
    SnackRequest, TaskAttribute, TaskManagementRequest, TextRequest,
};
use wire::iscsi::session::{Effect, Place, SendTargets, Session, SessionSettings, TaskId};

const QUEUE_DEPTH: u32 = 6;
const FIRST_CMD_SN: u32 = u32::MAX - 20;
const FIRST_STAT_SN: u32 = u32::MAX - 2;
const COLLECT_BYTES_MAX: u32 = 2048;

/// Acts until the input or the session ends.
pub fn iscsi_session(data: &[u8]) {
    let Some((&choice, acts)) = data.split_first() else { return };
    let mut world = World::new(choice);
    let mut acts = Acts(acts);
    while !world.has_ended && !acts.0.is_empty() {
        world.act(&mut acts);
    }
    world.settle();
}

/// The input, read byte by byte; zeroes behind its end.
struct Acts<'a>(&'a [u8]);

impl Acts<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Mostly 0, and else a small number around it.
    fn slip(&mut self) -> u32 {
        let byte = self.next();
        if byte < 0xf0 { 0 } else { (byte as i8 as i32 + 8) as u32 }
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.next()) % count
    }
}

struct Targets;

impl SendTargets for Targets {
    fn targets(&self) -> Vec<(String, Vec<String>)> {
        let addresses = vec!["192.0.2.1:3260,1".to_owned(); 30];
        vec![
            ("iqn.2026-11.io.ringsan:a".to_owned(), addresses),
            ("iqn.2026-11.io.ringsan:b".to_owned(), vec![]),
        ]
    }
}

/// What a mover knows of a task that was started.
#[derive(Default)]
struct Served {
    /// Asked for, or come unasked.
    asked: u32,
    input_sn: u32,
    has_failed: bool,
}

struct World {
    session: Session,
    served: BTreeMap<TaskId, Served>,
    /// Which bytes of a task have been placed and not told of.
    placed: BTreeMap<TaskId, BTreeSet<u32>>,
    /// Aborted, to be forgotten.
    forgettable: Vec<TaskId>,
    managed: Vec<u32>,
    /// R2Ts, with the offset and DataSN of the next PDU.
    r2ts: VecDeque<(R2t, u32, u32)>,
    text_tag: u32,
    ping_tag: u32,
    stat_sn: u32,
    max_cmd_sn: u32,
    is_leaving: bool,
    has_ended: bool,
}

impl World {
    fn new(choice: u8) -> World {
        let parameters = Parameters {
            max_recv_data_segment_length: 512,
            own_max_recv_data_segment_length: 1024,
            max_burst_length: 1024,
            first_burst_length: 768,
            initial_r2t: choice & 1 != 0,
            immediate_data: choice & 2 == 0,
            max_outstanding_r2t: u16::from(choice >> 2 & 3) + 1,
            ..Parameters::default()
        };
        let is_discovery = choice & 0x70 == 0x70;
        let target_name = "iqn.2026-11.io.ringsan:a".to_owned();
        let agreed = Agreed {
            session: if is_discovery { SessionKind::Discovery } else { SessionKind::Normal { target_name } },
            initiator_name: "iqn.2026-11.org.example:host".to_owned(),
            initiator_alias: String::new(),
            isid: [0; 6],
            tsih: 0,
            cid: 1,
            parameters,
            negotiated: Vec::new(),
            chap_user: None,
            cmd_sn: FIRST_CMD_SN,
            stat_sn: FIRST_STAT_SN,
        };
        let collect_bytes_max = COLLECT_BYTES_MAX;
        let settings = SessionSettings { queue_depth: QUEUE_DEPTH, is_discovery, collect_bytes_max };
        let session = Session::new(&agreed, settings);
        World {
            max_cmd_sn: session.max_cmd_sn(),
            session,
            served: BTreeMap::new(),
            placed: BTreeMap::new(),
            forgettable: Vec::new(),
            managed: Vec::new(),
            r2ts: VecDeque::new(),
            text_tag: NO_TAG,
            ping_tag: NO_TAG,
            stat_sn: FIRST_STAT_SN,
            is_leaving: false,
            has_ended: false,
        }
    }

    fn act(&mut self, acts: &mut Acts<'_>) {
        let choice = acts.next();
        match choice & 0x0f {
            0..=3 => self.give(command(&self.session, acts), acts, choice),
            4..=7 => {
                let request = self.data_out(acts);
                self.give(request, acts, choice);
            }
            8 => {
                let request = self.other(acts);
                self.give(request, acts, choice);
            }
            9 if choice & 0x70 == 0 => self.give_noise(acts),
            _ => self.move_on(acts),
        }
    }

    fn data_out(&mut self, acts: &mut Acts<'_>) -> (Request, usize) {
        let (pick, bits) = (acts.next(), acts.next());
        let (data_sn_slip, offset_slip) = (acts.slip(), acts.slip());
        let bytes = u32::from(acts.next()) * 8;
        let mut pdu = DataOut { is_final: bits & 1 != 0, ..DataOut::default() };
        if pick & 1 == 0 || self.r2ts.is_empty() {
            (pdu.initiator_task_tag, pdu.target_transfer_tag) = (u32::from(pick >> 1 & 7), NO_TAG);
            (pdu.data_sn, pdu.buffer_offset) = (u32::from(bits >> 1 & 3), u32::from(acts.next()) * 8);
            return (Request::DataOut(pdu), bytes as usize);
        }
        let at = usize::from(pick >> 1) % self.r2ts.len();
        let (r2t, next, data_sn) = &mut self.r2ts[at];
        let left = r2t.buffer_offset + r2t.desired_data_transfer_length - *next;
        let bytes = if bits & 2 == 0 { left.min(1024) } else { bytes };
        (pdu.initiator_task_tag, pdu.target_transfer_tag) = (r2t.initiator_task_tag, r2t.target_transfer_tag);
        pdu.data_sn = data_sn.wrapping_add(data_sn_slip);
        pdu.buffer_offset = next.wrapping_add(offset_slip);
        pdu.is_final |= bits & 2 == 0 && bytes == left;
        (*next, *data_sn) = (*next + bytes.min(left), *data_sn + 1);
        if pdu.is_final && bits & 4 == 0 {
            self.r2ts.remove(at);
        }
        (Request::DataOut(pdu), bytes as usize)
    }

    fn other(&mut self, acts: &mut Acts<'_>) -> (Request, usize) {
        let (kind, bits) = (acts.next(), acts.next());
        let immediate = bits & 1 != 0;
        let cmd_sn = self.session.exp_cmd_sn().wrapping_add(acts.slip()).wrapping_add(u32::from(bits >> 6));
        let tag = u32::from(acts.next() & 0x1f);
        let lun = Lun::from_number(u16::from(bits >> 5 & 1));
        let data_bytes = usize::from(acts.next()) * 4;
        let request = match kind % 8 {
            0..=2 => Request::TaskManagement(TaskManagementRequest {
                immediate,
                function: bits >> 1 & 7,
                lun,
                initiator_task_tag: tag,
                referenced_task_tag: u32::from(acts.next() & 7),
                cmd_sn,
                ref_cmd_sn: cmd_sn.wrapping_sub(1).wrapping_add(acts.slip()),
                ..TaskManagementRequest::default()
            }),
            3 | 4 => Request::Text(TextRequest {
                immediate,
                is_final: bits & 2 != 0,
                continues: bits & 4 != 0,
                lun,
                initiator_task_tag: 0x40,
                target_transfer_tag: if bits & 8 == 0 { NO_TAG } else { self.text_tag },
                cmd_sn,
                exp_stat_sn: 0,
            }),
            5 => {
                let answers = bits & 2 != 0;
                let (initiator_task_tag, target_transfer_tag) =
                    if answers { (NO_TAG, self.ping_tag) } else { (tag, NO_TAG) };
                Request::NopOut(NopOut {
                    immediate,
                    initiator_task_tag,
                    target_transfer_tag,
                    cmd_sn,
                    ..NopOut::default()
                })
            }
            6 if bits & 0x18 == 0 => {
                let (reason, cid) = (bits >> 1 & 3, u16::from(bits & 1));
                let initiator_task_tag = tag;
                Request::Logout(LogoutRequest {
                    immediate,
                    reason,
                    initiator_task_tag,
                    cid,
                    cmd_sn,
                    ..LogoutRequest::default()
                })
            }
            7 if bits & 0x18 == 0 => Request::Login(LoginRequest::default()),
            _ => Request::Snack(SnackRequest::default()),
        };
        (request, data_bytes)
    }

    fn give(&mut self, (request, data_bytes): (Request, usize), acts: &mut Acts<'_>, choice: u8) {
        let mut header = Vec::new();
        request.encode(data_bytes, &mut header);
        let (bhs, ahs) = header.split_first_chunk().expect("a header has 48 bytes");
        self.give_raw(bhs, ahs, data_bytes, acts, choice);
    }

    fn give_noise(&mut self, acts: &mut Acts<'_>) {
        let mut bhs = [0; 48];
        bhs.fill_with(|| acts.next());
        // Data is drained by the mover: of no interest here beyond its length.
        let data_bytes = usize::from(u16::from_be_bytes([bhs[6], bhs[7]]));
        bhs[5] = 0;
        let ahs: Vec<u8> = (0..usize::from(bhs[4]) * 4).map(|_| acts.next()).collect();
        self.give_raw(&bhs, &ahs, data_bytes, acts, 0);
    }

    fn give_raw(&mut self, bhs: &[u8; 48], ahs: &[u8], data_bytes: usize, acts: &mut Acts<'_>, choice: u8) {
        let Ok(place) = self.session.header(bhs, ahs) else {
            assert!(data_bytes > 1024);
            self.has_ended = true;
            return;
        };
        let mut collected = Vec::new();
        match place {
            Place::Collect => collected = text(data_bytes, acts),
            Place::Task { task, offset } => self.place(task, offset, data_bytes),
            Place::Discard => {}
        }
        if choice & 0x80 != 0 {
            self.move_on(acts);
        }
        let mut effects = Vec::new();
        self.session.complete(&collected, &Targets, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn place(&mut self, task: TaskId, offset: u32, data_bytes: usize) {
        let end = u64::from(offset) + data_bytes as u64;
        assert!(
            end <= self.session.task(task).expected_bytes.into(),
            "a place lies within what was announced"
        );
        let placed = self.placed.entry(task).or_default();
        assert!((offset..end as u32).all(|byte| placed.insert(byte)), "a byte is placed once");
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(response, data) => self.send(response, &data),
            Effect::Start(task) => {
                assert!(!self.is_leaving && self.served.insert(task, Served::default()).is_none());
            }
            Effect::Burst { task, start, end } => {
                let served = self.served.get_mut(&task).expect("a burst comes after its start");
                assert!(!served.has_failed);
                served.asked = served.asked.max(end);
                let placed = self.placed.entry(task).or_default();
                assert!((start..end).all(|byte| placed.remove(&byte)), "a burst was placed");
            }
            Effect::DataFailed(task, _) => {
                let served = self.served.get_mut(&task).expect("a failure comes after its start");
                assert!(!std::mem::replace(&mut served.has_failed, true), "a failure is told once");
            }
            Effect::Manage { tag, tasks, .. } => {
                self.managed.push(tag);
                self.aborted(tasks);
            }
            Effect::Logout { tasks, .. } => {
                self.aborted(tasks);
                self.is_leaving = true;
                let response = self.session.logout_done();
                self.send(Response::Logout(response), &[]);
            }
            Effect::Close(_) => self.has_ended = true,
        }
    }

    fn aborted(&mut self, tasks: Vec<TaskId>) {
        for task in tasks {
            assert!(self.session.task(task).is_aborted);
            self.served.remove(&task);
            self.forgettable.push(task);
        }
    }

    /// One thing that a mover may do.
    fn move_on(&mut self, acts: &mut Acts<'_>) {
        let kind = acts.next();
        match kind % 16 {
            0..=9 if !self.served.is_empty() => {
                let task = *self.served.keys().nth(acts.below(self.served.len())).expect("counted");
                self.serve(task, kind % 16, acts);
            }
            10 | 11 if !self.forgettable.is_empty() => {
                let task = self.forgettable.swap_remove(acts.below(self.forgettable.len()));
                self.placed.remove(&task);
                self.session.forget(task);
            }
            12 | 13 if !self.managed.is_empty() => {
                let tag = self.managed.swap_remove(acts.below(self.managed.len()));
                let response = self.session.management_done(tag, 0);
                self.send(Response::TaskManagement(response), &[]);
            }
            14 => {
                let ping = self.session.ping();
                self.ping_tag = ping.target_transfer_tag;
                assert!(ping.stat_sn == self.stat_sn && !self.session.ping_answered());
            }
            15 => {
                let tasks = match acts.next() % 8 {
                    0 => self.session.abort_all(),
                    1 => self.session.abort_lun(Lun::from_number(1)),
                    _ => {
                        let message = self.session.request_logout(3);
                        return self.send(Response::Async(message), &[]);
                    }
                };
                self.aborted(tasks);
            }
            _ => {}
        }
    }

    fn serve(&mut self, task: TaskId, kind: u8, acts: &mut Acts<'_>) {
        let served = self.served.get_mut(&task).expect("it is served");
        let outstanding_max = usize::from(self.session.parameters().max_outstanding_r2t);
        let asked = self.session.task(task);
        let (expected_bytes, reads, writes) = (asked.expected_bytes, asked.read, asked.write);
        let may_ask = writes && !self.session.awaits_unsolicited(task);
        if kind < 6 && may_ask && served.asked < expected_bytes {
            let bytes = (u32::from(acts.next()) * 8 + 8).min(1024).min(expected_bytes - served.asked);
            if self.session.outstanding_r2t(task) == outstanding_max {
                return;
            }
            match self.session.request_data(task, served.asked, bytes) {
                Some(r2t) => {
                    assert_eq!((r2t.r2t_sn, r2t.stat_sn), (served.input_sn, self.stat_sn));
                    (served.asked, served.input_sn) = (served.asked + bytes, served.input_sn + 1);
                    self.r2ts.push_back((r2t, r2t.buffer_offset, 0));
                    self.r2ts.truncate(16);
                }
                None => served.asked = expected_bytes,
            }
        } else if kind < 6 && reads && served.asked < expected_bytes {
            let (bytes, ends) = (expected_bytes.min(512), kind < 3);
            let status = ends.then_some((0, u64::from(acts.next()) * 8));
            let data_in = self.session.data_in(task, 0, bytes, ends, status);
            assert_eq!(data_in.data_sn, served.input_sn);
            served.input_sn += 1;
            if ends {
                self.served.remove(&task);
                self.send(Response::DataIn(data_in), &[0; 512]);
            }
        } else if kind >= 8 {
            self.finish(task, u64::from(acts.next()) * 8);
        }
    }

    fn finish(&mut self, task: TaskId, scsi_bytes: u64) {
        let served = self.served.remove(&task).expect("it is served");
        self.placed.remove(&task);
        let response = self.session.respond(task, 0, scsi_bytes);
        assert_eq!(response.exp_data_sn, served.input_sn);
        self.send(Response::Command(response), &[]);
    }

    /// Everything that is under way ends, and then nothing is left.
    fn settle(&mut self) {
        for task in std::mem::take(&mut self.forgettable) {
            self.session.forget(task);
        }
        for task in self.session.abort_all() {
            self.session.forget(task);
        }
        for tag in std::mem::take(&mut self.managed) {
            let response = self.session.management_done(tag, 0);
            self.send(Response::TaskManagement(response), &[]);
        }
        assert_eq!(self.session.tasks_in_flight(), 0);
        let open = self.session.max_cmd_sn().wrapping_add(1).wrapping_sub(self.session.exp_cmd_sn());
        assert_eq!(open, QUEUE_DEPTH);
    }

    /// What goes out can be read back, and its numbers go up.
    fn send(&mut self, response: Response, data: &[u8]) {
        assert!(data.len() <= 512);
        let mut header = Vec::new();
        response.encode(data.len(), &mut header);
        let bhs = header[..].try_into().expect("a response has no additional header");
        assert_eq!(Response::decode(bhs, &[]).as_ref(), Ok(&response));
        let number = |at: usize| u32::from_be_bytes(bhs[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(number(24), self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        let (exp_cmd_sn, max_cmd_sn) = (number(28), number(32));
        assert!(max_cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 >= 0, "the window never shrinks");
        assert!(max_cmd_sn.wrapping_add(1).wrapping_sub(exp_cmd_sn) <= QUEUE_DEPTH);
        self.max_cmd_sn = max_cmd_sn;
        if let Response::Text(text) = response {
            assert_eq!(text.is_final, text.target_transfer_tag == NO_TAG);
            self.text_tag = text.target_transfer_tag;
        }
    }
}

fn command(session: &Session, acts: &mut Acts<'_>) -> (Request, usize) {
    let (bits, tag, cmd_sn_slip) = (acts.next(), acts.next(), acts.slip());
    let expected_data_transfer_length = u32::from(acts.next()) * 16;
    let wants_data = bits & 8 != 0 && bits & 0x10 != 0;
    let data_bytes = if wants_data { usize::from(acts.next()) * 8 } else { 0 };
    let is_read = bits & 8 == 0 && expected_data_transfer_length > 0;
    let request = CommandRequest {
        immediate: bits & 0xe0 == 0xe0,
        is_final: bits & 2 == 0 || is_read,
        read: is_read || bits & 0xe4 == 0xe4,
        write: bits & 8 != 0,
        attribute: TaskAttribute::Simple,
        lun: Lun::from_number(u16::from(bits & 1)),
        initiator_task_tag: u32::from(tag & 7),
        expected_data_transfer_length,
        cmd_sn: session.exp_cmd_sn().wrapping_add(u32::from(tag >> 6)).wrapping_add(cmd_sn_slip),
        exp_stat_sn: 0,
        cdb: Cdb::new(&[0; 16]),
        read_data_transfer_length: None,
    };
    (Request::Command(request), data_bytes)
}

/// Key=value lists that may make sense.
fn text(data_bytes: usize, acts: &mut Acts<'_>) -> Vec<u8> {
    const PARTS: [&str; 8] = [
        "SendTargets=All\0",
        "SendTargets=\0",
        "SendTargets=iqn.2026-11.io.ringsan:a\0",
        "MaxRecvDataSegmentLength=512\0",
        "X-a=b\0",
        "HeaderDigest=None\0",
        "Send",
        "\0",
    ];
    let mut text = Vec::new();
    while text.len() < data_bytes {
        text.extend_from_slice(PARTS[acts.below(PARTS.len())].as_bytes());
    }
    text.truncate(data_bytes);
    text
}
