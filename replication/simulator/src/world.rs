//! Everything there is: nodes, network, coordinator, clients, operator; and the loop that takes what happens next.
//!
//! Its one rule: only `step` gives an event to a machine, and only `carry` does what it asks.

use replication::{ByteRange, Command, Event, LocalResult, Message, ReplicaId, Session};

use crate::check::{Rules, Sectors};
use crate::client::Clients;
use crate::clock::{Clock, RATE_OFF_MAX};
use crate::dice::Dice;
use crate::disk::Work;
use crate::happen::{Bag, Happening};
use crate::network::{NODES_MAX, Network};
use crate::node::Node;
use crate::operator::Operator;
use crate::options::Options;
use crate::plan::{MS, Plan};
use crate::record::Register;
use crate::report::{Checker, Failure, Statistics};
use crate::words;

/// No disk takes longer.
pub(crate) const SLOWEST: u64 = 5_000 * MS;

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    /// The world's time, which no node knows.
    pub(crate) now: u64,
    /// Counts what clients see, so that each such thing has a time of its own.
    pub(crate) moment: u64,
    pub(crate) bag: Bag,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    /// Pairs that try to link.
    pub(crate) connecting: Vec<bool>,
    pub(crate) register: Register,
    pub(crate) clients: Clients,
    pub(crate) operator: Operator,
    pub(crate) sectors: Sectors,
    pub(crate) rules: Rules,
    pub(crate) statistics: Statistics,
    pub(crate) failure: Option<Failure>,
    pub(crate) timeline: Vec<String>,
    /// Faults are made no more, and clients ask no more.
    pub(crate) calm: bool,
    /// Until then requests may have waited for something that no machine can help.
    pub(crate) excused_until: u64,
    pub(crate) effects: Vec<replication::Effect>,
    /// What is being asked for right now by one who has no right to.
    old: Option<ByteRange>,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> World {
        let mut dice = Dice::new(seed);
        let plan = Plan::choose(&mut dice, options);
        let mut nodes = Vec::new();
        for _ in 0..plan.nodes {
            let rate = dice.between(1000 - RATE_OFF_MAX, 1000 + RATE_OFF_MAX);
            nodes.push(Node::new(plan.sectors, Clock::new(0, dice.below(1 << 40), rate)));
        }
        World {
            seed,
            options: options.clone(),
            now: 0,
            moment: 1,
            bag: Bag::default(),
            nodes,
            network: Network::new(),
            connecting: vec![false; NODES_MAX * NODES_MAX],
            register: Register::default(),
            clients: Clients::default(),
            operator: Operator::default(),
            sectors: Sectors::new(plan.sectors),
            rules: Rules::new(plan.sectors),
            statistics: Statistics::default(),
            failure: None,
            timeline: Vec::new(),
            calm: false,
            excused_until: 0,
            effects: Vec::new(),
            old: None,
            dice,
            plan,
        }
    }

    pub(crate) fn fail(&mut self, checker: Checker, text: String) {
        if self.failure.is_none() {
            if self.options.timeline {
                self.say(None, format!("WRONG ({checker}): {text}"));
            }
            self.failure = Some(Failure { checker, text });
        }
    }

    pub(crate) fn fail_if(&mut self, wrong: Option<(Checker, String)>) {
        if let Some((checker, text)) = wrong {
            self.fail(checker, text);
        }
    }

    /// A line for the timeline. Call it only if there is one.
    #[cold]
    pub(crate) fn say(&mut self, node: Option<usize>, text: String) {
        let who = node.map_or("", words::name);
        let line = format!("{:>12.6} {:>5} {who:>2} {text}", self.now as f64 / 1e9, self.moment);
        if self.options.print {
            eprintln!("{line}");
        }
        self.timeline.push(line);
    }

    pub(crate) fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_up())
    }

    pub(crate) fn some_up(&mut self) -> Option<usize> {
        let count = self.up().count();
        if count == 0 {
            return None;
        }
        let pick = self.dice.index(count);
        self.up().nth(pick)
    }

    /// Lets the next thing happen.
    pub(crate) fn turn(&mut self) {
        let Some((at, what)) = self.bag.take() else {
            return self.fail(Checker::Availability, "nothing is left to happen".to_owned());
        };
        self.now = self.now.max(at);
        self.happen(what);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Tick { node, run } => self.tick(usize::from(node), run),
            Happening::Disk { node, run, slot } => self.disk(what, usize::from(node), run, slot),
            Happening::Deliver { from, to } => self.deliver(usize::from(from), usize::from(to)),
            Happening::Up { node, peer, session } => self.link_up(what, usize::from(node), peer, session),
            Happening::Lost { node, peer, session } => self.link_lost(what, usize::from(node), peer, session),
            Happening::Silent { from, to, session } => {
                self.silent(usize::from(from), usize::from(to), session)
            }
            Happening::Connect { a, b } => self.connect(usize::from(a), usize::from(b)),
            Happening::Client => self.client(),
            Happening::Impatient { request } => self.impatient(request),
            Happening::Submit { request } => self.submit(request),
            Happening::Propose { proposal } => self.proposal_arrives(proposal),
            Happening::Decide { proposal } => self.proposal_answered(what, proposal),
            Happening::Tell { node } => self.tell(what, usize::from(node)),
            Happening::Fault => self.fault(),
            Happening::Restart { node } => self.restart(usize::from(node)),
            Happening::Thaw { node } => self.thaw(usize::from(node)),
            Happening::Unblock { from, to } => self.unblock(usize::from(from), usize::from(to)),
            Happening::DiskWell { node } => self.disk_well(usize::from(node)),
            Happening::Reach { node } => self.reach(usize::from(node)),
            Happening::CoordinatorBack => self.coordinator_back(),
            Happening::Promote { node } if !self.calm => {
                self.command(usize::from(node), Command::Promote { force: false });
            }
            Happening::Promote { .. } => {}
            Happening::Operator => self.operator_looks(),
        }
    }

    /// Whether a node is frozen: then it comes to it later.
    fn defers(&mut self, node: usize, what: Happening) -> bool {
        let frozen = self.nodes[node].frozen;
        if frozen {
            self.nodes[node].deferred.push(what);
        }
        frozen
    }

    /// Gives an event to a machine, and does what it asks.
    pub(crate) fn step(&mut self, node: usize, event: Event) {
        let now = self.nodes[node].clock.local(self.now);
        if self.options.timeline {
            self.say(Some(node), format!("◀ {}", words::event(&event)));
        }
        let mut effects = std::mem::take(&mut self.effects);
        let Some(replica) = &mut self.nodes[node].replica else {
            self.effects = effects;
            return;
        };
        self.statistics.steps += 1;
        replica.step(event, now, &mut effects);
        for effect in effects.drain(..) {
            self.carry(node, effect);
        }
        self.effects = effects;
    }

    fn tick(&mut self, node: usize, run: u32) {
        let state = &mut self.nodes[node];
        if state.run != run || state.tick_at != self.now {
            return;
        }
        if self.defers(node, Happening::Tick { node: node as u8, run }) {
            return;
        }
        let state = &mut self.nodes[node];
        state.tick_at = u64::MAX;
        let Some(wake) = state.wake else { return };
        if state.clock.local(self.now) < wake {
            self.schedule_tick(node);
            return;
        }
        state.wake = None;
        self.step(node, Event::Tick);
    }

    /// Puts a tick into the bag for when the machine wants it, unless an earlier one is there.
    pub(crate) fn schedule_tick(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(wake) = state.wake else { return };
        let at = state.clock.world(wake).max(self.now + 1);
        if at < state.tick_at {
            state.tick_at = at;
            let run = state.run;
            self.bag.put(at, Happening::Tick { node: node as u8, run });
        }
    }

    fn disk(&mut self, what: Happening, node: usize, run: u32, slot: u32) {
        if self.nodes[node].run != run || !self.nodes[node].is_up() || self.defers(node, what) {
            return;
        }
        let work = self.nodes[node].disk.end(slot);
        let event = match work {
            Work::ReadAtOnce { request, read, range } => self.read_at_once_ends(node, request, read, range),
            work => Some(self.work_ends(node, work)),
        };
        if let Some(event) = event {
            self.step(node, event);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let (now, frozen) = (self.now, self.nodes[to].frozen);
        let direction = self.network.direction(from, to);
        direction.scheduled = false;
        let Some(first) = direction.parcels.front() else { return };
        if direction.blocked || frozen {
            return;
        }
        if first.at > now {
            return self.schedule_delivery(from, to);
        }
        let parcel = direction.parcels.pop_front().expect("it has a first one");
        self.schedule_delivery(from, to);
        if self.network.believed(to, from) != parcel.session {
            return;
        }
        let data = parcel.payload.map(|payload| self.nodes[to].held.hold(payload));
        let (peer, session) = (ReplicaId(from as u8), Session(u64::from(parcel.session)));
        self.old = match parcel.message {
            Message::Write { epoch, range, .. } | Message::Resync { epoch, range, .. } => {
                Rules::is_old(from, epoch, &self.nodes[to].disk.stored).then_some(range)
            }
            _ => None,
        };
        self.statistics.outdated += u64::from(self.old.is_some());
        self.step(to, Event::Received { peer, session, message: parcel.message, data });
        self.old = None;
    }

    /// Puts the arrival of a direction's first parcel into the bag, unless it is there or in vain.
    pub(crate) fn schedule_delivery(&mut self, from: usize, to: usize) {
        let (now, frozen) = (self.now, self.nodes[to].frozen);
        let direction = self.network.direction(from, to);
        if direction.scheduled || direction.blocked || frozen {
            return;
        }
        let Some(first) = direction.parcels.front() else { return };
        direction.scheduled = true;
        let at = first.at.max(now);
        self.bag.put(at, Happening::Deliver { from: from as u8, to: to as u8 });
    }

    fn link_up(&mut self, what: Happening, node: usize, peer: u8, session: u32) {
        let is_live = self.network.live(node, usize::from(peer)) == session;
        if !is_live || !self.nodes[node].is_up() || self.defers(node, what) {
            return;
        }
        self.network.believe(node, usize::from(peer), session);
        self.step(node, Event::PeerUp { peer: ReplicaId(peer), session: Session(u64::from(session)) });
    }

    fn link_lost(&mut self, what: Happening, node: usize, peer: u8, session: u32) {
        if self.network.believed(node, usize::from(peer)) != session || self.defers(node, what) {
            return;
        }
        self.network.believe(node, usize::from(peer), 0);
        self.rules.unlinked(node, usize::from(peer));
        self.step(node, Event::PeerLost { peer: ReplicaId(peer), session: Session(u64::from(session)) });
    }

    /// Two nodes try to link.
    fn connect(&mut self, a: usize, b: usize) {
        self.connecting[a * NODES_MAX + b] = false;
        if self.network.live(a, b) != 0 {
            return;
        }
        let can = |node: &Node| node.is_up() && !node.frozen;
        let blocked = self.network.is_blocked(a, b) || self.network.is_blocked(b, a);
        if blocked || !can(&self.nodes[a]) || !can(&self.nodes[b]) {
            return self.try_to_connect(a, b);
        }
        let session = self.network.begin(a, b, self.now);
        for (node, peer) in [(a, b), (b, a)] {
            let latency = self.plan.link.roll(&mut self.dice);
            let direction = self.network.direction(peer, node);
            direction.last = direction.last.max(self.now + latency);
            let at = direction.last;
            // What was on its way over an earlier link may wake the receiver at that very moment.
            direction.last = at + 1;
            self.bag.put(at, Happening::Up { node: node as u8, peer: peer as u8, session });
        }
    }

    /// They will try in a while.
    pub(crate) fn try_to_connect(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        if !std::mem::replace(&mut self.connecting[a * NODES_MAX + b], true) {
            let at = self.now + self.dice.between(5 * MS, 200 * MS);
            self.bag.put(at, Happening::Connect { a: a as u8, b: b as u8 });
        }
    }

    fn work_ends(&mut self, node: usize, work: Work) -> Event {
        let World { dice, nodes, .. } = self;
        let Node { disk, held, .. } = &mut nodes[node];
        let trouble = disk.trouble;
        let fault = crate::disk::fault_of(&work, &trouble, disk.flush_failed, dice);
        let (op, result) = match (work, fault) {
            (Work::Metadata { op, record }, None) => {
                let wrong = Rules::stored(node, &disk.stored, &record);
                disk.stored.apply(&record);
                self.fail_if(wrong);
                return Event::MetadataDone { op, result: Ok(()) };
            }
            (Work::Metadata { op, record }, Some(fault)) => {
                if dice.one_in(2) {
                    disk.stored.apply(&record);
                }
                return Event::MetadataDone { op, result: Err(fault) };
            }
            (Work::Write { op, range, payload, .. }, Some(fault)) => {
                disk.write_torn(range, payload.as_ref(), dice);
                (op, Err(fault))
            }
            (Work::Flush { op, .. }, Some(fault)) => {
                disk.flush_failed = true;
                (op, Err(fault))
            }
            (Work::Read { op, .. } | Work::Checksum { op, .. }, Some(fault)) => (op, Err(fault)),
            (Work::Read { op, range }, None) => (op, Ok(LocalResult::Data(held.hold(disk.read(range))))),
            (Work::Write { op, range, payload, durable }, None) => {
                disk.write(range, payload.as_ref(), durable);
                (op, Ok(LocalResult::Done))
            }
            (Work::Flush { op, upto }, None) => {
                disk.flush(upto);
                (op, Ok(LocalResult::Done))
            }
            (Work::ReadAtOnce { .. }, _) => unreachable!("it ends elsewhere"),
            (Work::Checksum { op, range }, None) => (op, Ok(LocalResult::Checksum(disk.checksum(range)))),
        };
        Event::LocalDone { op, result }
    }

    /// Whether a range lies within the volume and is short enough for a payload.
    pub(crate) fn begin_work(&mut self, node: usize, work: Work) {
        let latency = self.plan.disk.roll(&mut self.dice);
        let state = &mut self.nodes[node];
        let at = self.now + (latency * state.disk.trouble.slower).min(SLOWEST);
        let (run, slot) = (state.run, state.disk.begin(work));
        self.bag.put(at, Happening::Disk { node: node as u8, run, slot });
    }

    pub(crate) fn local_write(&mut self, node: usize, range: ByteRange) {
        if self.old == Some(range) {
            let text =
                format!("node {node} obeys an epoch older than its promise, of one who does not lead it");
            self.fail(Checker::Promises, text);
        }
        let wrong = Rules::changes(node, node as u8, range, &self.nodes[node].disk.stored);
        self.fail_if(wrong);
        self.rules.writes(node, range);
    }
}
