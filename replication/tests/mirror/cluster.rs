//! A few replicas in one loop: disks with a volatile cache, links that keep order, a clock that stands still until told.
//!
//! Everything that is under way lies in a bag. By hand it is taken first come first served, by a seed in any order
//! that the real world may choose. A block is 512 bytes and holds one number.
//! Its one rule: what a machine has not asked for does not happen.

use std::collections::{BTreeMap, VecDeque};

use replication::*;

pub const BLOCK: u64 = 512;
pub const REGION: u64 = 4 * BLOCK;
pub const MS: u64 = 1_000_000;
/// Of what is on its way over a slow line, something comes this often.
const PART: u64 = 50 * MS;

/// As configured by default.
pub fn plain(_: &mut ReplicaConfig) {}

/// A majority of the replicas decides.
pub fn by_majority(config: &mut ReplicaConfig) {
    config.on_peer_loss = OnPeerLoss::Suspend;
}

/// The replicas of a volume with two.
pub fn both() -> ReplicaSet {
    ReplicaSet::first(2)
}

/// Local I/O under way.
#[derive(Clone, Debug)]
enum Work {
    Read(ByteRange),
    Write {
        range: ByteRange,
        values: Vec<u64>,
        durable: bool,
    },
    /// The cache as it was when the flush was asked for.
    Flush,
    Checksum(ByteRange),
    Metadata(MetadataRecord),
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What reads return.
    pub cache: Vec<u64>,
    /// What survives a loss of power.
    pub durable: Vec<u64>,
    pub stored: Stored,
    /// Writes fail with this.
    pub fault: Option<DiskFault>,
    /// Reads fail.
    pub bad_read: bool,
    /// Nothing that is asked for ends.
    pub stuck: bool,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub replica: Option<Replica>,
    pub disk: Disk,
    work: BTreeMap<OpId, Work>,
    data: BTreeMap<DataId, Vec<u64>>,
    wake: Option<Time>,
    incarnation: u64,
    is_new: bool,
    next_data: u64,
    next_request: u64,
    pub answers: BTreeMap<CommandId, Result<(), Refusal>>,
    pub completions: BTreeMap<RequestId, Result<Vec<u64>, Fault>>,
    pub notices: Vec<Notice>,
    frozen: bool,
    /// By so much its clock has jumped.
    pub ahead: u64,
}

type Parcel = (Session, Message, Option<Vec<u64>>);

#[derive(Clone)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub now: u64,
    /// By sender and receiver.
    links: BTreeMap<(u8, u8), VecDeque<Parcel>>,
    sessions: BTreeMap<(u8, u8), Session>,
    /// Links that are down, either way.
    pub cut: BTreeMap<(u8, u8), bool>,
    /// What each direction carries, in bytes a second.
    pub line_rate: Option<u64>,
    /// When the first parcel of a slow direction is through.
    through: BTreeMap<(u8, u8), u64>,
    next_session: u64,
    next_command: u64,
    pub configure: fn(&mut ReplicaConfig),
    pub resynced_bytes: u64,
    pub record: Option<Record>,
    /// The coordinator takes nothing, and does not say so.
    pub coordinator_away: bool,
    blocks: u64,
    /// A node loses power when so many of its disk's operations have ended, before it hears of the last.
    pub cut_power: Option<(usize, u64)>,
    /// What was under way on a disk that lost power was carried out.
    pub lands: bool,
}

impl Cluster {
    pub fn new(count: usize, blocks: u64, configure: fn(&mut ReplicaConfig)) -> Cluster {
        let node = |_| Node {
            replica: None,
            disk: Disk {
                cache: vec![0; blocks as usize],
                durable: vec![0; blocks as usize],
                ..Disk::default()
            },
            work: BTreeMap::new(),
            data: BTreeMap::new(),
            wake: None,
            incarnation: 0,
            is_new: true,
            next_data: 0,
            next_request: 0,
            answers: BTreeMap::new(),
            completions: BTreeMap::new(),
            notices: Vec::new(),
            frozen: false,
            ahead: 0,
        };
        let mut cluster = Cluster {
            nodes: (0..count).map(node).collect(),
            now: 0,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            cut: BTreeMap::new(),
            line_rate: None,
            through: BTreeMap::new(),
            next_session: 0,
            next_command: 0,
            configure,
            resynced_bytes: 0,
            record: None,
            coordinator_away: false,
            blocks,
            cut_power: None,
            lands: false,
        };
        for node in 0..count {
            cluster.start(node);
        }
        cluster
    }

    /// A cluster whose first replica leads, with all others in sync.
    pub fn in_sync(count: usize, blocks: u64, configure: fn(&mut ReplicaConfig)) -> Cluster {
        let mut cluster = Cluster::new(count, blocks, configure);
        if cluster.record.is_none() && count > 0 {
            cluster.advance(3000);
        }
        if !cluster.nodes[0].replica.as_ref().is_some_and(Replica::leads) {
            let command = cluster.command(0, Command::Promote { force: false });
            cluster.advance(5000);
            assert_eq!(cluster.nodes[0].answers[&command], Ok(()));
        }
        let all = ReplicaSet::first(count);
        assert_eq!(cluster.status(0).in_sync, all, "{:#?}", cluster.status(0));
        cluster
    }

    pub fn start(&mut self, node: usize) {
        let names = (0..self.nodes.len()).map(|node| format!("n{node}")).collect();
        let own = ReplicaId(node as u8);
        let mut config = ReplicaConfig::new(own, names, NodeId([node as u8; 16]), self.blocks * BLOCK);
        config.geometry.region_bytes = REGION;
        config.limits.resync_bytes = 2 * REGION;
        config.limits.active_extents = 4;
        let clock = self.clock(node);
        let state = &mut self.nodes[node];
        state.incarnation += 1;
        config.incarnation = Incarnation(state.incarnation * 100 + node as u64);
        config.blank = std::mem::take(&mut state.is_new);
        (self.configure)(&mut config);
        let replica = Replica::open(config, state.disk.stored.clone(), clock).expect("it was stored by us");
        state.replica = Some(replica);
        state.wake = None;
        self.event(node, Event::Tick);
        if let Some(record) = self.record {
            self.event(node, Event::RecordChanged(record));
        }
        for peer in 0..self.nodes.len() {
            self.connect(node, peer);
        }
    }

    /// No node's clock says what another's does.
    fn clock(&self, node: usize) -> Time {
        Time(self.now + node as u64 * 1_000_000_007 + self.nodes[node].ahead)
    }

    /// Links two nodes, if both run and nothing is in the way.
    pub fn connect(&mut self, a: usize, b: usize) {
        let key = (a.min(b) as u8, a.max(b) as u8);
        let both_run = self.nodes[a].replica.is_some() && self.nodes[b].replica.is_some();
        let is_cut = self.cut.get(&key).copied().unwrap_or(false);
        if a == b || !both_run || is_cut || self.sessions.contains_key(&key) {
            return;
        }
        self.next_session += 1;
        let session = Session(self.next_session);
        self.sessions.insert(key, session);
        self.log(format!("link {key:?} up, {session:?}"));
        self.event(a, Event::PeerUp { peer: ReplicaId(b as u8), session });
        self.event(b, Event::PeerUp { peer: ReplicaId(a as u8), session });
    }

    pub fn connect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.connect(a, b);
            }
        }
    }

    /// Ends a link; both ends learn of it.
    pub fn disconnect(&mut self, a: usize, b: usize) {
        let key = (a.min(b) as u8, a.max(b) as u8);
        let Some(session) = self.sessions.remove(&key) else { return };
        self.log(format!("link {key:?} down, {session:?}"));
        self.drop_parcels(a as u8, b as u8);
        self.event(a, Event::PeerLost { peer: ReplicaId(b as u8), session });
        self.event(b, Event::PeerLost { peer: ReplicaId(a as u8), session });
    }

    fn drop_parcels(&mut self, a: u8, b: u8) {
        for key in [(a, b), (b, a)] {
            self.links.remove(&key);
            self.through.remove(&key);
        }
    }

    /// How many links there have been.
    pub fn sessions(&self) -> u64 {
        self.next_session
    }

    pub fn set_cut(&mut self, a: usize, b: usize, is_cut: bool) {
        self.cut.insert((a.min(b) as u8, a.max(b) as u8), is_cut);
        if is_cut {
            self.disconnect(a, b);
        } else {
            self.connect(a, b);
        }
    }

    /// Ends a node's process. What its disk was asked for happens or not, as `lands` says of each.
    pub fn kill(&mut self, node: usize, mut lands: impl FnMut() -> bool) {
        if self.nodes[node].replica.take().is_none() {
            return;
        }
        self.log(format!("node {node} killed"));
        for peer in 0..self.nodes.len() {
            self.disconnect(node, peer);
        }
        let state = &mut self.nodes[node];
        state.data.clear();
        state.wake = None;
        state.frozen = false;
        for (_, work) in std::mem::take(&mut state.work) {
            match work {
                Work::Write { range, values, .. } => {
                    for (index, value) in values.into_iter().enumerate() {
                        if lands() {
                            state.disk.cache[(range.start / BLOCK) as usize + index] = value;
                        }
                    }
                }
                Work::Metadata(record) if lands() => state.disk.stored.apply(&record),
                _ => {}
            }
        }
    }

    /// Takes a node's power: what it had not flushed survives or not, as `lands` says of each block.
    pub fn power_off(&mut self, node: usize, mut lands: impl FnMut() -> bool) {
        self.kill(node, &mut lands);
        let disk = &mut self.nodes[node].disk;
        for (cached, durable) in disk.cache.iter_mut().zip(&mut disk.durable) {
            if cached != durable && lands() {
                *durable = *cached;
            }
            *cached = *durable;
        }
    }

    /// Gives a node a new and empty disk. What it has promised it remembers.
    pub fn replace_disk(&mut self, node: usize) {
        self.kill(node, || false);
        let disk = &mut self.nodes[node].disk;
        disk.cache.fill(0);
        disk.durable.fill(0);
        disk.stored.activity.clear();
        disk.stored.bitmaps.clear();
        if let Some(superblock) = &mut disk.stored.superblock {
            (superblock.volume, superblock.record, superblock.in_force) = (None, None, false);
            (superblock.history, superblock.full) = (History::default(), ReplicaSet::EMPTY);
            (superblock.joined, superblock.era, superblock.mixed) = (ReplicaSet::EMPTY, 0, false);
        }
        self.nodes[node].is_new = true;
    }

    pub fn freeze(&mut self, node: usize, frozen: bool) {
        self.nodes[node].frozen = frozen;
    }

    pub fn command(&mut self, node: usize, what: Command) -> CommandId {
        self.next_command += 1;
        let command = CommandId(self.next_command);
        self.event(node, Event::Command { command, what });
        command
    }

    pub fn submit(&mut self, node: usize, operation: Operation, values: Option<Vec<u64>>) -> RequestId {
        let state = &mut self.nodes[node];
        state.next_request += 1;
        let request = RequestId(state.next_request);
        if state.replica.is_none() {
            return request;
        }
        let data = values.map(|values| state.hold(values));
        self.event(node, Event::Submit { request, operation, data });
        request
    }

    pub fn write(&mut self, node: usize, block: u64, values: &[u64]) -> RequestId {
        let range = ByteRange::new(block * BLOCK, values.len() as u64 * BLOCK);
        let operation = Operation::Write { range, change: Change::Data, durable: false };
        self.submit(node, operation, Some(values.to_vec()))
    }

    pub fn read(&mut self, node: usize, block: u64, blocks: u64) -> RequestId {
        self.submit(node, Operation::Read { range: ByteRange::new(block * BLOCK, blocks * BLOCK) }, None)
    }

    pub fn status(&self, node: usize) -> Status {
        self.nodes[node].replica.as_ref().expect("it runs").status()
    }

    pub fn result(&self, node: usize, request: RequestId) -> Option<Result<Vec<u64>, Fault>> {
        self.nodes[node].completions.get(&request).cloned()
    }

    #[expect(clippy::disallowed_macros, reason = "a test, and only when it is asked for")]
    fn log(&mut self, line: String) {
        if std::env::var_os("MIRROR_TRACE").is_some() {
            eprintln!("{:>9.3} {line}", self.now as f64 / MS as f64);
        }
    }

    /// A part of a message comes over a link.
    pub fn hear(&mut self, from: u8, to: u8) {
        if let Some(&session) = self.sessions.get(&(from.min(to), from.max(to))) {
            self.event(usize::from(to), Event::Heard { peer: ReplicaId(from), session });
        }
    }

    /// Gives an event to a node, and does what it asks.
    pub fn event(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        self.log(format!("n{node} ◀ {event:?}"));
        let mut effects = Vec::new();
        let Some(replica) = &mut self.nodes[node].replica else { return };
        replica.step(event, now, &mut effects);
        let mut follow_up = Vec::new();
        for effect in effects {
            self.log(format!("n{node}   ▶ {effect:?}"));
            self.carry_out(node, effect, &mut follow_up);
        }
        for (node, event) in follow_up {
            self.event(node, event);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect, follow_up: &mut Vec<(usize, Event)>) {
        let state = &mut self.nodes[node];
        match effect {
            Effect::ReadLocal { op, range, .. } => drop(state.work.insert(op, Work::Read(range))),
            Effect::WriteLocal { op, range, change, data, durable } => {
                let values = match change {
                    Change::Data => state.data[&data.expect("data has a payload")].clone(),
                    Change::Zero { .. } => vec![0; (range.bytes / BLOCK) as usize],
                };
                assert_eq!(values.len() as u64 * BLOCK, range.bytes);
                let overlaps = state.work.values().any(|work| match work {
                    Work::Write { range: other, .. } => other.overlaps(range),
                    _ => false,
                });
                assert!(
                    !overlaps || cfg!(feature = "sabotage"),
                    "two local writes to the same bytes at once"
                );
                state.work.insert(op, Work::Write { range, values, durable });
            }
            Effect::FlushLocal { op } => drop(state.work.insert(op, Work::Flush)),
            Effect::ChecksumLocal { op, range } => drop(state.work.insert(op, Work::Checksum(range))),
            Effect::WriteMetadata { op, record } => drop(state.work.insert(op, Work::Metadata(record))),
            Effect::Send { to, session, message, data } => {
                let key = (node as u8, to.0);
                if self.sessions.get(&(key.0.min(key.1), key.0.max(key.1))) != Some(&session) {
                    return;
                }
                let values = data.map(|data| self.nodes[node].data[&data].clone());
                if let Message::Resync { range, .. } = &message {
                    self.resynced_bytes += range.bytes;
                }
                let queue = self.links.entry(key).or_default();
                let yields = |parcel: &&Parcel| parcel.1.place() == Place::Yields;
                // The first is on its way.
                let passed = match message.place() {
                    Place::Ahead => queue.iter().skip(1).rev().take_while(yields).count(),
                    _ => 0,
                };
                queue.insert(queue.len() - passed, (session, message, values));
                self.begin_parcel(key);
            }
            Effect::Release { data } => drop(state.data.remove(&data).expect("released once")),
            Effect::Complete { request, result } => {
                let result = result
                    .map(|data| data.map_or(Vec::new(), |data| state.data.remove(&data).expect("held")));
                assert!(state.completions.insert(request, result).is_none(), "completed once");
            }
            Effect::Propose { expected, record } => {
                let latest = self.record.map_or(Epoch(0), |record| record.epoch);
                let decision = if self.coordinator_away {
                    Decision::Unavailable
                } else if latest == expected {
                    self.record = Some(record);
                    Decision::Accepted
                } else {
                    Decision::Superseded(self.record.expect("somebody was first"))
                };
                follow_up.push((node, Event::Decided { epoch: record.epoch, decision }));
            }
            Effect::Disconnect { peer, session, .. } => {
                let key = (peer.0.min(node as u8), peer.0.max(node as u8));
                if self.sessions.get(&key) == Some(&session) {
                    self.sessions.remove(&key);
                    self.drop_parcels(node as u8, peer.0);
                    let own = ReplicaId(node as u8);
                    follow_up.push((peer.index(), Event::PeerLost { peer: own, session }));
                }
            }
            Effect::WakeAt(at) => state.wake = Some(at),
            Effect::Notice(notice) => state.notices.push(notice),
            Effect::Answer { command, result } => {
                assert!(state.answers.insert(command, result).is_none(), "answered once");
            }
        }
    }

    /// What may happen next, in a fixed order.
    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if !node.frozen && !node.disk.stuck {
                choices.extend(node.work.keys().map(|&op| Choice::Work(index, op)));
            }
        }
        for (&(from, to), parcels) in &self.links {
            let is_through = self.through.get(&(from, to)).is_none_or(|&at| at <= self.now);
            if !parcels.is_empty() && is_through && !self.nodes[usize::from(to)].frozen {
                choices.push(Choice::Deliver(from, to));
            }
        }
        choices
    }

    /// Lets one thing happen: the first, or the one that the number picks. Whether there was any.
    pub fn happen(&mut self, pick: Option<u64>) -> bool {
        let choices = self.choices();
        if choices.is_empty() {
            return false;
        }
        match choices[pick.map_or(0, |pick| (pick % choices.len() as u64) as usize)] {
            Choice::Work(node, op) => self.work(node, op),
            Choice::Deliver(from, to) => self.deliver(from, to),
        }
        true
    }

    fn deliver(&mut self, from: u8, to: u8) {
        let queue = self.links.get_mut(&(from, to)).expect("there is one");
        let (session, message, values) = queue.pop_front().expect("there is one");
        self.through.remove(&(from, to));
        self.begin_parcel((from, to));
        let data = values.map(|values| self.nodes[usize::from(to)].hold(values));
        self.event(usize::from(to), Event::Received { peer: ReplicaId(from), session, message, data });
    }

    /// The first parcel of a slow direction, if it is not on its way yet, goes.
    fn begin_parcel(&mut self, key: (u8, u8)) {
        let Some(rate) = self.line_rate else { return };
        if let Some((_, _, values)) = self.links.get(&key).and_then(VecDeque::front) {
            let bytes = 64 + values.as_ref().map_or(0, |values| values.len() as u64 * BLOCK);
            self.through.entry(key).or_insert(self.now + bytes * 1000 * MS / rate);
        }
    }

    fn work(&mut self, node: usize, op: OpId) {
        let state = &mut self.nodes[node];
        let work = state.work.remove(&op).expect("it was chosen");
        let fault = state.disk.fault;
        let blocks = |range: ByteRange| (range.start / BLOCK) as usize..(range.end() / BLOCK) as usize;
        let event = match work {
            Work::Metadata(record) => {
                state.disk.stored.apply(&record);
                Event::MetadataDone { op, result: Ok(()) }
            }
            Work::Write { .. } | Work::Flush if fault.is_some() => {
                Event::LocalDone { op, result: Err(fault.expect("it is some")) }
            }
            Work::Write { range, values, durable } => {
                state.disk.cache[blocks(range)].copy_from_slice(&values);
                if durable {
                    state.disk.durable[blocks(range)].copy_from_slice(&values);
                }
                Event::LocalDone { op, result: Ok(LocalResult::Done) }
            }
            Work::Flush => {
                state.disk.durable.clone_from(&state.disk.cache);
                Event::LocalDone { op, result: Ok(LocalResult::Done) }
            }
            Work::Read(_) if state.disk.bad_read => Event::LocalDone { op, result: Err(DiskFault::Io) },
            Work::Read(range) => {
                let values = state.disk.cache[blocks(range)].to_vec();
                let data = state.hold(values);
                Event::LocalDone { op, result: Ok(LocalResult::Data(data)) }
            }
            Work::Checksum(range) => {
                let sum = state.disk.cache[blocks(range)]
                    .iter()
                    .fold(7u64, |sum, value| sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(*value));
                Event::LocalDone { op, result: Ok(LocalResult::Checksum(sum)) }
            }
        };
        if self.loses_power(node) {
            let lands = self.lands;
            return self.power_off(node, || lands);
        }
        self.event(node, event);
    }

    fn loses_power(&mut self, of: usize) -> bool {
        let Some((node, left)) = self.cut_power.filter(|&(node, _)| node == of) else { return false };
        self.cut_power = (left > 0).then(|| (node, left - 1));
        left == 0
    }

    /// All that the machines and their world are in, in a line.
    pub fn fingerprint(&self) -> String {
        format!("{:?} {:?} {:?}", self.nodes, self.links, self.sessions)
    }

    /// How many things may happen next.
    pub fn choice_count(&self) -> usize {
        self.choices().len()
    }

    /// Lets the one of this number happen.
    pub fn choose(&mut self, number: usize) {
        self.happen(Some(number as u64));
    }

    /// Everything under way happens, until nothing is.
    pub fn quiesce(&mut self) {
        for _ in 0..1_000_000 {
            if !self.happen(None) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets time pass, with everything that is due in it.
    pub fn advance(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds * MS;
        self.quiesce();
        while self.now < end {
            let next = self.next_wake().unwrap_or(end).min(end).max(self.now + 1);
            self.now = next;
            self.ticks();
            self.connect_all();
            self.quiesce();
        }
    }

    pub fn next_wake(&self) -> Option<u64> {
        let wakes = self.nodes.iter().enumerate().filter(|(_, node)| !node.frozen);
        let wake =
            |(index, node): (usize, &Node)| Some(node.wake?.0.saturating_sub(self.clock(index).0 - self.now));
        wakes.filter_map(wake).chain(self.next_part()).min()
    }

    /// When a parcel that is on its way is through, or a part of it.
    fn next_part(&self) -> Option<u64> {
        let through = self.through.values().copied().filter(|&at| at > self.now);
        through.map(|at| at.min(self.now + PART)).min()
    }

    /// Ticks for those whose time has come.
    pub fn ticks(&mut self) {
        let on_their_way: Vec<(u8, u8)> = self.through.keys().copied().collect();
        for (from, to) in on_their_way {
            self.hear(from, to);
        }
        for node in 0..self.nodes.len() {
            let clock = self.clock(node);
            let state = &mut self.nodes[node];
            if !state.frozen && state.wake.is_some_and(|wake| wake <= clock) {
                state.wake = None;
                self.event(node, Event::Tick);
            }
        }
    }

    /// Whether no payload is held any more.
    pub fn holds_nothing(&self) -> bool {
        self.nodes.iter().all(|node| node.data.is_empty())
    }

    pub fn is_idle(&self) -> bool {
        self.choices().is_empty()
    }
}

impl Node {
    fn hold(&mut self, values: Vec<u64>) -> DataId {
        self.next_data += 1;
        self.data.insert(DataId(self.next_data), values);
        DataId(self.next_data)
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Work(usize, OpId),
    Deliver(u8, u8),
}
