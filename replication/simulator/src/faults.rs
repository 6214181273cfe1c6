//! What goes wrong: crashes, lost power, cut and blocked links, frozen nodes, bad disks, odd clocks.
//!
//! Its one rule: every fault that lasts has an end in the bag, and calm ends them all.

use replication::{Command, ReplicaId};

use crate::clock::{Clock, RATE_OFF_MAX};
use crate::disk::Trouble;
use crate::happen::Happening;
use crate::options::Arrangement;
use crate::payload::Held;
use crate::plan::{FaultKind, MS};
use crate::world::World;

impl World {
    /// Faults begin.
    pub(crate) fn faults_begin(&mut self) {
        self.next_fault();
    }

    fn next_fault(&mut self) {
        let at = self.now + self.dice.below(self.plan.fault_gap * 2) + 1;
        self.bag.put(at, Happening::Fault);
    }

    /// How long something lasts: much shorter than the machines' time limits, about as long, or longer.
    fn lasting(&mut self) -> u64 {
        self.dice.scale(MS / 4, 4096 * MS)
    }

    pub(crate) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let kind = self.dice.pick(&self.plan.faults);
        self.statistics.faults += 1;
        self.make(kind);
        self.next_fault();
    }

    fn make(&mut self, kind: FaultKind) {
        let node = self.dice.index(self.plan.nodes);
        match kind {
            FaultKind::Kill => self.crash_for_a_while(node, false),
            FaultKind::PowerLoss => self.crash_for_a_while(node, true),
            FaultKind::AllPowerLoss => {
                for node in 0..self.plan.nodes {
                    self.crash_for_a_while(node, true);
                }
            }
            FaultKind::Cut => {
                let peer = self.other(node);
                self.cut(node, peer);
            }
            FaultKind::BlockOneWay => {
                let peer = self.other(node);
                let lasting = self.lasting();
                self.block(node, peer, lasting);
            }
            FaultKind::BlockBothWays => {
                let peer = self.other(node);
                let lasting = self.lasting();
                self.block(node, peer, lasting);
                self.block(peer, node, lasting);
            }
            FaultKind::Isolate => {
                let node = self.leader_or(node);
                self.isolate(node);
            }
            FaultKind::Usurp => self.usurp(),
            FaultKind::CutOff => {
                let node = self.leader_or(node);
                let lasting = self.lasting();
                self.cut_off(node, lasting);
            }
            FaultKind::Freeze => self.freeze(node),
            FaultKind::SlowDisk
            | FaultKind::FailingDisk
            | FaultKind::FullDisk
            | FaultKind::FailingMetadata => self.trouble(node, kind),
            FaultKind::ClockRate => {
                let rate = self.dice.between(1000 - RATE_OFF_MAX, 1000 + RATE_OFF_MAX);
                self.nodes[node].clock.set_rate(self.now, rate);
                self.nodes[node].tick_at = u64::MAX;
                self.schedule_tick(node);
            }
            FaultKind::ClockLeap => self.clock_leaps(node),
            FaultKind::CoordinatorAway => {
                self.register.away = true;
                let at = self.now + self.lasting();
                self.bag.put(at, Happening::CoordinatorBack);
            }
            FaultKind::NewDisk | FaultKind::Discard if !self.may_lose(node) => {}
            FaultKind::NewDisk => {
                self.crash_for_a_while(node, true);
                self.new_disk(node);
            }
            FaultKind::Discard => self.command(node, Command::Discard),
            FaultKind::Force => {
                self.rules.forced = true;
                self.sectors.suspended = true;
                let leader = self.leader_or(node);
                if self.dice.one_in(3) {
                    self.isolate(leader);
                } else if leader != node {
                    let lasting = self.lasting();
                    self.block(node, leader, lasting);
                    self.block(leader, node, lasting);
                }
                self.command(node, Command::Promote { force: true });
            }
            FaultKind::Promote | FaultKind::Demote | FaultKind::Verify | FaultKind::Repair => {
                self.interfere(node, kind);
            }
        }
    }

    /// From a millisecond to a minute.
    fn clock_leaps(&mut self, node: usize) {
        let by = self.dice.scale(MS, 60_000 * MS);
        if self.options.timeline {
            self.say(Some(node), format!("✖ its clock leaps by {} ms", by / MS));
        }
        self.nodes[node].clock.leap(by);
        self.nodes[node].tick_at = u64::MAX;
        self.schedule_tick(node);
    }

    /// Half of the time, whoever leads by the latest record in force: that is where it hurts.
    fn leader_or(&mut self, node: usize) -> usize {
        let leader = self.rules.leader().map_or(node, ReplicaId::index);
        if self.dice.one_in(2) { leader } else { node }
    }

    /// The leader loses sight of the coordinator and of another, or of all; that other is to lead.
    fn usurp(&mut self) {
        let Some(leader) = self.rules.leader().map(ReplicaId::index) else { return };
        let peer = self.other(leader);
        let lasting = self.plan.timing.lease * self.dice.between(2, 6);
        if self.plan.arrangement == Arrangement::External && self.dice.one_in(2) {
            self.block(leader, peer, lasting);
            self.block(peer, leader, lasting);
        } else {
            self.isolate_for(leader, lasting);
        }
        self.cut_off(leader, lasting);
        let mut at = self.now + self.plan.timing.lease * self.dice.between(2, 12) / 4;
        if self.plan.faults.contains(&FaultKind::ClockLeap) && self.dice.one_in(2) {
            // It hears at once that the link is gone, so that only its grant keeps it from leading.
            self.clock_leaps(peer);
            let session = self.network.live(leader, peer);
            self.bag.put(self.now + 1, Happening::Silent { from: leader as u8, to: peer as u8, session });
            at = self.now + 2 + self.dice.below(self.plan.timing.lease / 4);
        }
        self.bag.put(at, Happening::Promote { node: peer as u8 });
    }

    fn isolate(&mut self, node: usize) {
        let lasting = self.lasting();
        if self.dice.one_in(2) {
            self.cut_off(node, lasting);
        }
        self.isolate_for(node, lasting);
    }

    fn isolate_for(&mut self, node: usize, lasting: u64) {
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            self.block(node, peer, lasting);
            self.block(peer, node, lasting);
        }
    }

    fn cut_off(&mut self, node: usize, lasting: u64) {
        if self.plan.arrangement != Arrangement::External {
            return;
        }
        if self.options.timeline {
            self.say(Some(node), format!("✖ does not reach the coordinator for {} ms", lasting / MS));
        }
        self.nodes[node].cut_off = true;
        self.bag.put(self.now + lasting, Happening::Reach { node: node as u8 });
    }

    pub(crate) fn reach(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].cut_off) {
            self.bag.put(self.now + 1, Happening::Tell { node: node as u8 });
        }
    }

    /// Whether another replica surely holds all that this one does.
    fn may_lose(&self, node: usize) -> bool {
        if self.operator.open.iter().any(|&(_, _, what)| what == Command::Discard) {
            return false;
        }
        let others = self.rules.in_sync().minus(self.rules.blank).without(ReplicaId(node as u8));
        !others.is_empty()
    }

    fn new_disk(&mut self, node: usize) {
        if self.options.timeline {
            self.say(Some(node), "has a new disk".to_owned());
        }
        self.rules.discarded(node);
        let state = &mut self.nodes[node];
        state.disk.replace(self.plan.sectors);
        state.blank = true;
    }

    fn other(&mut self, node: usize) -> usize {
        (node + 1 + self.dice.index(self.plan.nodes - 1)) % self.plan.nodes
    }

    fn crash_for_a_while(&mut self, node: usize, power: bool) {
        let lasting = self.lasting();
        self.crash(node, power, lasting);
    }

    /// A node's process ends, with or without its machine's power, and starts again after a while.
    pub(crate) fn crash(&mut self, node: usize, power: bool, lasting: u64) {
        if !self.nodes[node].is_up() {
            return;
        }
        if self.options.timeline {
            let how = if power { "loses power" } else { "is killed" };
            self.say(Some(node), format!("✖ {how} for {} ms", lasting / MS));
        }
        self.bag.put(self.now + lasting, Happening::Restart { node: node as u8 });
        self.moment += 1;
        let World { dice, nodes, now, .. } = self;
        let state = &mut nodes[node];
        state.replica = None;
        state.held = Held::default();
        state.deferred.clear();
        state.frozen = false;
        state.wake = None;
        state.disk.abandon(dice);
        if power || state.disk.flush_failed {
            state.disk.lose_power(dice);
            state.cache_kept = false;
            state.forgot_at = Some(*now);
            let rate = dice.between(1000 - RATE_OFF_MAX, 1000 + RATE_OFF_MAX);
            state.clock = Clock::new(*now, dice.below(1 << 30), rate);
        }
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            if self.network.live(node, peer) != 0 {
                // Without power nobody says good-bye.
                let late = if power { self.dice.scale(MS, 4096 * MS) } else { 0 };
                self.end_link(node, peer, late);
            }
        }
        self.network.forget(node);
        self.abandon(node);
        if self.operator.abandon(node) {
            self.rules.discarded(node);
        }
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        if self.options.timeline {
            self.say(Some(node), "starts".to_owned());
        }
        self.nodes[node].open(node, self.now, &self.plan, &self.options);
        self.step(node, replication::Event::Tick);
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            self.try_to_connect(node, peer);
        }
        self.bag.put(self.now + 1, Happening::Tell { node: node as u8 });
    }

    fn cut(&mut self, node: usize, peer: usize) {
        let session = self.network.live(node, peer);
        if session == 0 {
            return;
        }
        if self.options.timeline {
            self.say(Some(node), format!("✖ link {session} to {} is cut", crate::words::name(peer)));
        }
        // Each end hears of it in its own time.
        self.end_link(node, peer, 0);
        let at = self.now + self.dice.scale(MS / 16, 512 * MS);
        self.bag.put(at, Happening::Lost { node: node as u8, peer: peer as u8, session });
    }

    fn block(&mut self, from: usize, to: usize, lasting: u64) {
        if self.options.timeline {
            let text = format!("✖ nothing gets to {} for {} ms", crate::words::name(to), lasting / MS);
            self.say(Some(from), text);
        }
        self.network.direction(from, to).blocked = true;
        let session = self.network.live(from, to);
        if session != 0 {
            let at = self.now + self.plan.timing.peer_timeout * self.dice.between(4, 12) / 4;
            self.bag.put(at, Happening::Silent { from: from as u8, to: to as u8, session });
        }
        self.bag.put(self.now + lasting, Happening::Unblock { from: from as u8, to: to as u8 });
    }

    pub(crate) fn silent(&mut self, from: usize, to: usize, session: u32) {
        let is_up = self.nodes[to].is_up() && !self.nodes[to].frozen;
        if self.network.is_blocked(from, to) && self.network.believed(to, from) == session && is_up {
            if self.network.live(from, to) == session {
                self.end_link(to, from, 0);
            }
            self.bag.put(self.now, Happening::Lost { node: to as u8, peer: from as u8, session });
        }
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        if std::mem::take(&mut self.network.direction(from, to).blocked) {
            if self.options.timeline {
                self.say(Some(from), format!("gets through to {} again", crate::words::name(to)));
            }
            self.schedule_delivery(from, to);
        }
    }

    fn freeze(&mut self, node: usize) {
        if self.nodes[node].frozen || !self.nodes[node].is_up() {
            return;
        }
        let lasting = self.lasting();
        if self.options.timeline {
            self.say(Some(node), format!("✖ freezes for {} ms", lasting / MS));
        }
        self.nodes[node].frozen = true;
        self.bag.put(self.now + lasting, Happening::Thaw { node: node as u8 });
    }

    pub(crate) fn thaw(&mut self, node: usize) {
        if !std::mem::take(&mut self.nodes[node].frozen) {
            return;
        }
        if self.options.timeline {
            self.say(Some(node), "thaws".to_owned());
        }
        for what in std::mem::take(&mut self.nodes[node].deferred) {
            match what {
                Happening::Tick { .. } => {
                    self.nodes[node].tick_at = u64::MAX;
                    self.schedule_tick(node);
                }
                what => self.bag.put(self.now, what),
            }
        }
        for peer in 0..self.plan.nodes {
            self.schedule_delivery(peer, node);
        }
    }

    fn trouble(&mut self, node: usize, kind: FaultKind) {
        let lasting = self.lasting();
        if self.options.timeline {
            self.say(Some(node), format!("✖ {kind:?} for {} ms", lasting / MS));
        }
        let dice = &mut self.dice;
        let trouble = &mut self.nodes[node].disk.trouble;
        match kind {
            FaultKind::SlowDisk => trouble.slower = dice.scale(4, 4096),
            FaultKind::FullDisk => trouble.full = true,
            FaultKind::FailingMetadata => trouble.metadata = dice.pick(&[5, 50]),
            _ => {
                let chances = [0, 0, 5, 50];
                trouble.reads = dice.pick(&chances);
                trouble.writes = dice.pick(&chances);
                trouble.flushes = dice.pick(&chances);
            }
        }
        self.bag.put(self.now + lasting, Happening::DiskWell { node: node as u8 });
    }

    pub(crate) fn disk_well(&mut self, node: usize) {
        self.nodes[node].disk.trouble = Trouble { slower: 1, ..Trouble::default() };
    }

    /// The faults stop.
    pub(crate) fn end_faults(&mut self) {
        self.calm = true;
        // What takes longer than the machines wait keeps throwing peers out, rightly.
        self.plan.link.tail_percent = 0;
        self.plan.disk.tail_percent = 0;
        if self.options.timeline {
            self.say(None, "the faults stop".to_owned());
        }
        for node in 0..self.plan.nodes {
            self.thaw(node);
            self.disk_well(node);
            self.reach(node);
            if self.nodes[node].disk.flush_failed {
                self.crash(node, false, MS);
            } else {
                self.restart(node);
            }
            for peer in 0..self.plan.nodes {
                self.unblock(node, peer);
            }
        }
        self.coordinator_back();
    }
}
