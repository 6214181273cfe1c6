//! Clients on any node: overlapping writes, zeros, trims, flushes and reads, some at once.
//!
//! Its one rule: a request whose node has died is never answered, and may have been carried out.

use replication::{ByteRange, Change, Event, Fault, Operation, ReadAtOnce, RequestId};

use crate::disk::{Work, fault_of, sectors};
use crate::happen::Happening;
use crate::node::Node;
use crate::options::Arrangement;
use crate::payload::{Payload, SECTOR, SECTORS_MAX};
use crate::plan::MS;
use crate::report::Checker;
use crate::world::World;

/// After the faults a client pauses at least so long.
const LATE_PAUSE: u64 = 4 * MS;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) node: u8,
    pub(crate) run: u32,
    pub(crate) operation: Operation,
    /// The moment, and the world's time, of its beginning.
    pub(crate) began: u64,
    pub(crate) since: u64,
    open: bool,
    /// Its client waits for the answer.
    awaited: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    requests: Vec<Request>,
    /// Those that are not answered.
    pub(crate) open: Vec<u32>,
    /// They ask nothing more.
    pub(crate) rest: bool,
}

impl Clients {
    pub(crate) fn get(&self, request: u32) -> Request {
        self.requests[request as usize]
    }
}

impl World {
    /// Lets the clients begin.
    pub(crate) fn clients_begin(&mut self) {
        for _ in 0..self.plan.depth {
            self.next_request();
        }
    }

    fn next_request(&mut self) {
        let pause = if self.calm { LATE_PAUSE } else { 0 };
        let at = self.now + pause + self.dice.below(self.plan.think) + 1;
        self.bag.put(at, Happening::Client);
    }

    /// A client makes a request, of any node that runs.
    pub(crate) fn client(&mut self) {
        if self.clients.rest {
            return;
        }
        if self.clients.open.len() as u64 >= self.plan.depth * 8 {
            return self.next_request();
        }
        let Some(node) = self.some_up() else {
            let at = self.now + self.dice.below(64 * MS);
            return self.bag.put(at, Happening::Client);
        };
        let operation = self.choose();
        self.ask(node, operation);
    }

    fn choose(&mut self) -> Operation {
        let dice = &mut self.dice;
        let first = dice.pick(&self.plan.spots) + dice.below(6);
        let count = dice.pick(&[1, 1, 1, 2, 2, 4, SECTORS_MAX as u64]);
        let range = ByteRange::new(first * SECTOR, count * SECTOR);
        if dice.percent(self.plan.reads_percent) {
            return Operation::Read { range };
        }
        match dice.below(20) {
            0..2 => Operation::Flush,
            2 => Operation::Write { range, change: Change::Zero { deallocate: false }, durable: false },
            3 => Operation::Write { range, change: Change::Zero { deallocate: true }, durable: false },
            4 => Operation::Write { range, change: Change::Data, durable: true },
            _ => Operation::Write { range, change: Change::Data, durable: false },
        }
    }

    /// Makes a request of a node.
    pub(crate) fn ask(&mut self, node: usize, operation: Operation) {
        self.statistics.requests += 1;
        let began = self.next_moment();
        let request = self.clients.requests.len() as u32;
        let run = self.nodes[node].run;
        let since = self.now;
        self.clients.requests.push(Request {
            node: node as u8,
            run,
            operation,
            began,
            since,
            open: true,
            awaited: true,
        });
        self.clients.open.push(request);
        if let Operation::Write { range, change, .. } = operation {
            self.sectors.write_begins(value_of(request), sectors(range), began, change != Change::Data);
        }
        let at = self.now + self.plan.patience;
        self.bag.put(at, Happening::Impatient { request });
        if self.nodes[node].frozen {
            self.nodes[node].deferred.push(Happening::Submit { request });
        } else {
            self.submit(request);
        }
    }

    pub(crate) fn submit(&mut self, request: u32) {
        let Request { node, operation, open, .. } = self.clients.get(request);
        if !open {
            // The node that it waited for has thawed only to be killed.
            return;
        }
        let node = usize::from(node);
        let data = match operation {
            Operation::Write { range, change: Change::Data, .. } => {
                let payload = Payload::all(value_of(request), range.bytes / SECTOR);
                Some(self.nodes[node].held.hold(payload))
            }
            _ => None,
        };
        let request = RequestId(u64::from(request));
        if !self.reads_at_once(node, request, operation) {
            self.step(node, Event::Submit { request, operation, data });
        }
    }

    /// As a node does it: reads at once where the machine says that it may, and asks again afterwards.
    fn reads_at_once(&mut self, node: usize, request: RequestId, operation: Operation) -> bool {
        let Operation::Read { range } = operation else { return false };
        let replica = self.nodes[node].replica.as_ref();
        // Some as if they had met a write.
        let Some(read) =
            replica.and_then(|replica| replica.reads_at_once(range)).filter(|_| !request.0.is_multiple_of(3))
        else {
            return false;
        };
        self.begin_work(node, Work::ReadAtOnce { request, read, range });
        true
    }

    /// What the machine is to be told when such a read has failed, or may not be answered.
    pub(crate) fn read_at_once_ends(
        &mut self,
        node: usize,
        request: RequestId,
        read: ReadAtOnce,
        range: ByteRange,
    ) -> Option<Event> {
        let state = &mut self.nodes[node];
        let now = state.clock.local(self.now);
        let work = Work::ReadAtOnce { request, read, range };
        let fault = fault_of(&work, &state.disk.trouble, state.disk.flush_failed, &mut self.dice);
        let replica = state.replica.as_mut().filter(|_| fault.is_none());
        if !replica.is_some_and(|replica| replica.may_answer(read, now)) {
            return Some(Event::Submit { request, operation: Operation::Read { range }, data: None });
        }
        let payload = state.disk.read(range);
        self.completed(node, request, Ok(Some(payload)));
        None
    }

    /// A node has answered a request.
    pub(crate) fn completed(
        &mut self,
        node: usize,
        request: RequestId,
        result: Result<Option<Payload>, Fault>,
    ) {
        let index = request.0 as u32;
        let Some(known) = self.clients.requests.get_mut(request.0 as usize) else {
            return self.fail(Checker::Completion, format!("request {request} was never made"));
        };
        if !known.open || usize::from(known.node) != node || known.run != self.nodes[node].run {
            return self.fail(Checker::Completion, format!("request {request} is answered twice"));
        }
        known.open = false;
        let known = *known;
        self.clients.open.retain(|&open| open != index);
        let moment = self.next_moment();
        if let Ok(payload) = result {
            self.statistics.succeeded += 1;
            self.succeeded(index, &known, payload, moment);
        }
        if known.awaited {
            self.next_request();
        }
    }

    pub(crate) fn impatient(&mut self, request: u32) {
        let known = &mut self.clients.requests[request as usize];
        if known.open && std::mem::take(&mut known.awaited) {
            self.next_request();
        }
    }

    fn succeeded(&mut self, index: u32, request: &Request, payload: Option<Payload>, moment: u64) {
        match (request.operation, payload) {
            (Operation::Write { range, durable, .. }, _) => {
                self.sectors.write_ends(value_of(index), sectors(range), moment, durable);
            }
            (Operation::Flush, _) => self.sectors.flush_ends(request.began),
            (Operation::Read { range }, Some(payload)) if payload.values().len() == sectors(range).len() => {
                for (at, &value) in sectors(range).zip(payload.values()) {
                    let wrong = self.sectors.read_ends(at, value, request.began, moment);
                    if let Some(text) = wrong {
                        self.fail(Checker::Linearizability, format!("request {index}: {text}"));
                    }
                }
            }
            (Operation::Read { .. }, _) => {
                self.fail(
                    Checker::Completion,
                    format!("request {index}: a read is answered without its bytes"),
                );
            }
        }
    }

    /// Whether a request waits for longer than it may, where nothing excuses that.
    pub(crate) fn check_stalls(&mut self) {
        let excused = |node: &Node| node.frozen || node.disk.trouble.slower > 1;
        if self.plan.arrangement != Arrangement::Continue || self.nodes.iter().any(excused) {
            self.excused_until = self.now;
            return;
        }
        let timing = self.plan.timing;
        let bound = timing.leader_wait + 4 * timing.peer_timeout + 2 * timing.flush_timeout + 4_000 * MS;
        let late = self
            .clients
            .open
            .iter()
            .copied()
            .find(|&request| self.now - self.clients.get(request).since.max(self.excused_until) > bound);
        if let Some(request) = late {
            let text = format!("request {request} has waited for more than {} ms", bound / MS);
            self.fail(Checker::Completion, text);
        }
    }

    /// A node has died: its clients get no answer, and turn to another.
    pub(crate) fn abandon(&mut self, node: usize) {
        let open = std::mem::take(&mut self.clients.open);
        for request in open {
            let known = &mut self.clients.requests[request as usize];
            if usize::from(known.node) == node {
                known.open = false;
                if known.awaited {
                    self.next_request();
                }
            } else {
                self.clients.open.push(request);
            }
        }
    }
}

/// What a write puts into each of its sectors.
fn value_of(request: u32) -> u64 {
    u64::from(request) + 1
}
