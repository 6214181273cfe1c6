//! An initiator that keeps the rules in every order that they allow, and a mover that answers at any moment.
//!
//! Commands come out of order, their data is interleaved, tasks are aborted; whatever is stored must be what was
//! sent, and the numbers on what goes out must be true.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::parameters::Parameters;
use wire::iscsi::pdu::code::function;
use wire::iscsi::pdu::{DataOut, NO_TAG, R2t, Request, Response, TaskManagementRequest};
use wire::iscsi::session::{Effect, TaskId};

use crate::harness::*;

/// One write, as the initiator plans it.
#[derive(Clone, Debug)]
struct Plan {
    bytes: u32,
    immediate_bytes: u32,
    sends_unasked: bool,
    /// How the data of a burst is cut.
    piece_bytes: u32,
    is_immediate: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let bytes = prop_oneof![Just(0_u32), 1..600_u32, 1..9000_u32];
    let piece_bytes = prop_oneof![1 => 1..100_u32, 9 => 100..1025_u32];
    (bytes, 0..1025_u32, any::<bool>(), piece_bytes, prop::bool::weighted(0.1)).prop_map(
        |(bytes, immediate_bytes, sends_unasked, piece_bytes, is_immediate)| {
            let immediate_bytes = immediate_bytes.min(bytes);
            Plan { bytes, immediate_bytes, sends_unasked, piece_bytes, is_immediate }
        },
    )
}

/// A run of Data-Out PDUs under way.
#[derive(Clone, Debug)]
struct Run {
    tag: u32,
    transfer_tag: u32,
    next: u32,
    end: u32,
    data_sn: u32,
}

/// What the initiator knows of a task.
#[derive(Debug)]
struct Sent {
    plan: Plan,
    cmd_sn: u32,
}

/// What the mover knows of a task.
#[derive(Debug)]
struct Served {
    tag: u32,
    bytes: u32,
    /// Bytes told to be here.
    stored: u32,
    /// The first byte that nobody was asked for, once the unasked ones are here.
    next: Option<u32>,
    inputs: u32,
}

struct World {
    mover: Mover,
    /// Commands that are numbered but not sent.
    unsent: Vec<(u32, u32, Plan)>,
    sent: BTreeMap<u32, Sent>,
    runs: Vec<Run>,
    served: BTreeMap<TaskId, Served>,
    managed: Vec<u32>,
    next_tag: u32,
    next_cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    /// The next command to be started, and those that never will.
    exp_cmd_sn: u32,
    skipped: BTreeSet<u32>,
    /// Tags of commands aborted before they were sent.
    ignored: BTreeSet<u32>,
}

impl World {
    fn new(parameters: Parameters) -> World {
        let mover = Mover::with(parameters);
        World {
            max_cmd_sn: mover.session.max_cmd_sn(),
            mover,
            unsent: Vec::new(),
            sent: BTreeMap::new(),
            runs: Vec::new(),
            served: BTreeMap::new(),
            managed: Vec::new(),
            next_tag: 1,
            next_cmd_sn: FIRST_CMD_SN,
            exp_stat_sn: FIRST_STAT_SN,
            exp_cmd_sn: FIRST_CMD_SN,
            skipped: BTreeSet::new(),
            ignored: BTreeSet::new(),
        }
    }

    /// Numbers a command, to be sent at some time: only what the window admits.
    fn prepare(&mut self, plan: Plan) {
        let is_open = self.max_cmd_sn.wrapping_sub(self.next_cmd_sn) as i32 >= 0;
        if !plan.is_immediate && !is_open {
            return;
        }
        let (tag, cmd_sn) = (self.next_tag, self.next_cmd_sn);
        self.next_tag += 1;
        if plan.is_immediate {
            return self.send_command(tag, cmd_sn, plan);
        }
        self.next_cmd_sn += 1;
        self.unsent.push((tag, cmd_sn, plan));
    }

    fn send_command(&mut self, tag: u32, cmd_sn: u32, plan: Plan) {
        let mut request = write(tag, cmd_sn, plan.bytes);
        let Parameters { first_burst_length, immediate_data, initial_r2t, .. } =
            *self.mover.session.parameters();
        let first_burst = first_burst_length.min(plan.bytes);
        let immediate = if immediate_data { plan.immediate_bytes.min(first_burst) } else { 0 };
        request.immediate = plan.is_immediate;
        request.is_final = initial_r2t || !plan.sends_unasked || immediate == first_burst;
        if !request.is_final {
            self.runs.push(Run { tag, transfer_tag: NO_TAG, next: immediate, end: first_burst, data_sn: 0 });
        }
        if !self.ignored.contains(&tag) {
            self.sent.insert(tag, Sent { plan, cmd_sn });
        }
        self.give(Request::Command(request), &pattern(tag, immediate));
    }

    fn send_data(&mut self, at: usize) {
        let run = &mut self.runs[at];
        let Run { tag, transfer_tag, next, end, data_sn } = *run;
        let piece = self.sent.get(&tag).map_or(512, |sent| sent.plan.piece_bytes);
        let piece_end = end.min(next + piece);
        let is_final = piece_end == end;
        (run.next, run.data_sn) = (piece_end, data_sn + 1);
        if is_final {
            self.runs.swap_remove(at);
        }
        let pdu = DataOut {
            is_final,
            initiator_task_tag: tag,
            target_transfer_tag: transfer_tag,
            data_sn,
            buffer_offset: next,
            ..DataOut::default()
        };
        self.give(Request::DataOut(pdu), &part(tag, next..piece_end));
    }

    fn abort(&mut self, tag: u32, cmd_sn: u32) {
        let request = TaskManagementRequest {
            referenced_task_tag: tag,
            ref_cmd_sn: cmd_sn,
            ..manage(self.next_tag, self.next_cmd_sn, function::ABORT_TASK, 0)
        };
        self.next_tag += 1;
        self.give(Request::TaskManagement(request), &[]);
    }

    fn give(&mut self, request: Request, data: &[u8]) {
        for effect in self.mover.give(request, data) {
            match effect {
                Effect::Start(task) => self.started(task),
                Effect::Burst { task, start, end } => self.burst(task, start, end),
                Effect::Manage { tag, tasks, .. } => {
                    self.managed.push(tag);
                    for task in tasks {
                        let tag = self.mover.session.task(task).initiator_task_tag;
                        self.sent.remove(&tag);
                        self.served.remove(&task);
                        self.mover.memory.remove(&task);
                        self.mover.session.forget(task);
                    }
                }
                Effect::Send(Response::TaskManagement(pdu), _) => {
                    self.stamped(pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn started(&mut self, task: TaskId) {
        let session = &self.mover.session;
        let started = session.task(task);
        let (tag, cmd_sn) = (started.initiator_task_tag, started.cmd_sn);
        if !started.immediate {
            let is_next = |at: u32| !self.skipped.contains(&at);
            let expected = (self.exp_cmd_sn..).find(|at| is_next(*at));
            assert_eq!(Some(cmd_sn), expected, "commands start in their order, and none is left out");
            self.exp_cmd_sn = cmd_sn + 1;
        }
        assert_eq!(self.sent[&tag].cmd_sn, cmd_sn);
        let has_unasked = session.awaits_unsolicited(task) || self.mover.memory.contains_key(&task);
        let next = (!has_unasked).then_some(0);
        let served = Served { tag, bytes: started.expected_bytes, stored: 0, next, inputs: 0 };
        assert!(self.served.insert(task, served).is_none());
    }

    fn burst(&mut self, task: TaskId, start: u32, end: u32) {
        let served = self.served.get_mut(&task).expect("a burst comes after its start");
        served.stored += end - start;
        if served.next.is_none() {
            assert_eq!(start, 0);
            served.next = Some(end);
        }
        let stored = self.mover.memory.get(&task).map_or(&[][..], Vec::as_slice);
        let here = &stored[start as usize..end as usize];
        assert!(here == part(served.tag, start..end), "what is stored was sent");
    }

    /// Asks for the next data of a task, or ends it.
    fn serve(&mut self, at: usize) {
        let (&task, served) = self.served.iter_mut().nth(at).expect("the caller counts");
        let session = &mut self.mover.session;
        let Some(next) = served.next else { return };
        let Parameters { max_burst_length, max_outstanding_r2t, .. } = *session.parameters();
        if next < served.bytes {
            if session.outstanding_r2t(task) == usize::from(max_outstanding_r2t) {
                return;
            }
            let bytes = max_burst_length.min(served.bytes - next);
            let r2t = session.request_data(task, next, bytes).expect("the initiator keeps the rules");
            assert_eq!((r2t.r2t_sn, r2t.stat_sn), (served.inputs, self.exp_stat_sn));
            (served.next, served.inputs) = (Some(next + bytes), served.inputs + 1);
            self.runs.push(run_of(&r2t));
        } else if served.stored == served.bytes {
            self.finish(task);
        }
    }

    fn finish(&mut self, task: TaskId) {
        let Served { tag, bytes, inputs, .. } = self.served.remove(&task).expect("it is served");
        let stored = self.mover.memory.remove(&task).unwrap_or_default();
        assert!(stored == pattern(tag, bytes), "all of it was stored");
        let response = self.mover.good(task);
        assert_eq!((response.initiator_task_tag, response.exp_data_sn), (tag, inputs));
        assert!(self.sent.remove(&tag).is_some());
        self.stamped(response.stat_sn, response.exp_cmd_sn, response.max_cmd_sn);
    }

    fn manage(&mut self, at: usize) {
        let tag = self.managed.remove(at);
        let response = self.mover.session.management_done(tag, 0);
        self.stamped(response.stat_sn, response.exp_cmd_sn, response.max_cmd_sn);
    }

    /// What goes out tells numbers that follow each other, and a window that never shrinks nor lies.
    fn stamped(&mut self, stat_sn: u32, exp_cmd_sn: u32, max_cmd_sn: u32) {
        assert_eq!(stat_sn, self.exp_stat_sn);
        self.exp_stat_sn += 1;
        assert!(exp_cmd_sn <= self.next_cmd_sn && max_cmd_sn >= self.max_cmd_sn);
        assert!(max_cmd_sn + 1 - exp_cmd_sn <= QUEUE_DEPTH);
        let is_due = |tag: u32| !self.ignored.contains(&tag);
        let is_received =
            |cmd_sn: u32| self.unsent.iter().all(|(tag, unsent, _)| *unsent != cmd_sn || !is_due(*tag));
        assert!((FIRST_CMD_SN..exp_cmd_sn).all(is_received), "what is acknowledged has come");
        self.max_cmd_sn = max_cmd_sn;
    }

    fn step(&mut self, (choice, index, plan): (u8, prop::sample::Index, Plan)) {
        let pick = |count: usize| (count > 0).then(|| index.index(count));
        match choice {
            0..=2 => self.prepare(plan),
            3..=5 => {
                if let Some(at) = pick(self.unsent.len()) {
                    let (tag, cmd_sn, plan) = self.unsent.swap_remove(at);
                    self.send_command(tag, cmd_sn, plan);
                }
            }
            6..=11 => {
                if let Some(at) = pick(self.runs.len()) {
                    self.send_data(at);
                }
            }
            12..=17 => {
                if let Some(at) = pick(self.served.len()) {
                    self.serve(at);
                }
            }
            18 => {
                // Of a command that has not come: it counts as received, and is ignored when it comes.
                if let Some(at) = pick(self.unsent.len()) {
                    let (tag, cmd_sn, _) = self.unsent[at];
                    self.skipped.insert(cmd_sn);
                    self.ignored.insert(tag);
                    self.abort(tag, cmd_sn);
                }
            }
            19 => {
                if let Some(at) = pick(self.sent.len()) {
                    let (&tag, sent) = self.sent.iter().nth(at).expect("picked");
                    let (cmd_sn, is_numbered) = (sent.cmd_sn, !sent.plan.is_immediate);
                    if is_numbered {
                        // Of no effect where it has been started already.
                        self.skipped.insert(cmd_sn);
                    }
                    self.abort(tag, cmd_sn);
                }
            }
            _ => {
                if let Some(at) = pick(self.managed.len()) {
                    self.manage(at);
                }
            }
        }
    }

    /// Everything that was begun comes to its end.
    fn drain(&mut self) {
        while let Some((tag, cmd_sn, plan)) = self.unsent.pop() {
            self.send_command(tag, cmd_sn, plan);
        }
        for round in 0.. {
            if self.sent.is_empty() && self.runs.is_empty() {
                break;
            }
            assert!(round < 100, "everything ends");
            while !self.runs.is_empty() {
                self.send_data(0);
            }
            (0..self.served.len()).rev().for_each(|at| self.serve(at));
        }
        while !self.managed.is_empty() {
            self.manage(0);
        }
        assert_eq!(self.mover.session.tasks_in_flight(), 0);
        let open = self.mover.session.max_cmd_sn() + 1 - self.mover.session.exp_cmd_sn();
        assert_eq!((open, self.mover.session.exp_cmd_sn()), (QUEUE_DEPTH, self.next_cmd_sn));
    }
}

fn run_of(r2t: &R2t) -> Run {
    Run {
        tag: r2t.initiator_task_tag,
        transfer_tag: r2t.target_transfer_tag,
        next: r2t.buffer_offset,
        end: r2t.buffer_offset + r2t.desired_data_transfer_length,
        data_sn: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_interleaving_stores_what_was_sent(
        steps in vec((0..21_u8, any::<prop::sample::Index>(), plan()), 0..300),
        (initial_r2t, immediate_data) in any::<(bool, bool)>(),
        max_outstanding_r2t in 1..5_u16,
    ) {
        let parameters = Parameters { initial_r2t, immediate_data, max_outstanding_r2t, ..parameters() };
        let mut world = World::new(parameters);
        steps.into_iter().for_each(|step| world.step(step));
        world.drain();
    }
}
