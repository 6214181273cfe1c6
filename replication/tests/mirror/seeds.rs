//! Any order, any fault, from a seed: what was answered is there, and in the end all copies are the same.

use std::collections::BTreeSet;

use replication::*;

use crate::cluster::{Cluster, MS};

/// A small generator: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.roll().is_multiple_of(count)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// What one block may hold.
#[derive(Clone, Default, Debug)]
struct Cell {
    /// One of these.
    now: BTreeSet<u64>,
    /// Or one of these, which may or may not come about yet.
    maybe: BTreeSet<u64>,
    /// What a loss of power may bring back.
    since_flush: BTreeSet<u64>,
    running: Vec<Running>,
    /// Answered in this batch.
    answered: BTreeSet<u64>,
    /// Power was lost in this batch.
    powerless: bool,
}

#[derive(Clone, Debug)]
struct Running {
    node: usize,
    incarnation: u64,
    request: RequestId,
    /// None: a read.
    value: Option<u64>,
}

struct World {
    cluster: Cluster,
    dice: Dice,
    cells: Vec<Cell>,
    flushes: Vec<(usize, u64, RequestId, Vec<BTreeSet<u64>>)>,
    runs: Vec<u64>,
    value: u64,
    seed: u64,
}

const BLOCKS: u64 = 256 * 4;
/// Blocks with a client each, far enough apart to be of several extents.
const CELLS: u64 = 12;
const STRIDE: u64 = 80;

impl World {
    fn new(seed: u64, nodes: usize, configure: fn(&mut ReplicaConfig)) -> World {
        let cluster = Cluster::in_sync(nodes, BLOCKS, configure);
        let cell = Cell { now: [0].into(), since_flush: [0].into(), ..Cell::default() };
        World {
            cluster,
            dice: Dice::new(seed),
            cells: vec![cell; CELLS as usize],
            flushes: Vec::new(),
            runs: vec![0; nodes],
            value: 0,
            seed,
        }
    }

    fn up(&self) -> Vec<usize> {
        (0..self.cluster.nodes.len()).filter(|&node| self.cluster.nodes[node].replica.is_some()).collect()
    }

    fn some_node(&mut self) -> Option<usize> {
        let up = self.up();
        if up.is_empty() { None } else { Some(up[self.dice.below(up.len() as u64) as usize]) }
    }

    /// A batch of writes at once to one block, or a read.
    fn ask(&mut self) {
        let cell = self.dice.below(CELLS) as usize;
        if !self.cells[cell].running.is_empty() {
            return;
        }
        let writes = if self.dice.one_in(2) { 0 } else { 1 + self.dice.below(2) };
        self.cells[cell].answered.clear();
        for index in 0..writes.max(1) {
            let Some(node) = self.some_node() else { return };
            let block = cell as u64 * STRIDE;
            let (request, value) = if writes == 0 {
                (self.cluster.read(node, block, 1), None)
            } else {
                self.value += 1;
                let value = self.value;
                // Neighbours differ, so that writes overlap without being the same.
                let values = [value, value + 1_000_000 * (index + 1)];
                (self.cluster.write(node, block, &values[..1 + self.dice.below(2) as usize]), Some(value))
            };
            self.cells[cell].running.push(Running { node, incarnation: self.runs[node], request, value });
        }
    }

    fn flush(&mut self) {
        let Some(node) = self.some_node() else { return };
        let before = self.cells.iter().map(|cell| cell.since_flush.clone()).collect();
        let request = self.cluster.submit(node, Operation::Flush, None);
        self.flushes.push((node, self.runs[node], request, before));
    }

    /// Takes in what was answered.
    fn collect(&mut self) {
        for index in 0..self.cells.len() {
            self.collect_cell(index);
        }
        let mut done = Vec::new();
        self.flushes.retain(|(node, run, request, before)| {
            let result = if self.runs[*node] == *run {
                self.cluster.result(*node, *request)
            } else {
                Some(Err(Fault::NoLeader))
            };
            if let Some(Ok(_)) = result {
                done.push(before.clone());
            }
            result.is_none()
        });
        for before in done {
            for (cell, before) in self.cells.iter_mut().zip(before) {
                if before == cell.since_flush && cell.running.is_empty() {
                    cell.since_flush = cell.now.clone();
                }
            }
        }
    }

    fn collect_cell(&mut self, index: usize) {
        let mut running = std::mem::take(&mut self.cells[index].running);
        running.retain(|one| {
            let result = if self.runs[one.node] == one.incarnation {
                self.cluster.result(one.node, one.request)
            } else {
                Some(Err(Fault::Indeterminate))
            };
            let cell = &mut self.cells[index];
            match (result, one.value) {
                (None, _) => return true,
                (Some(Ok(_)), Some(value)) => {
                    cell.since_flush.insert(value);
                    cell.answered.insert(value);
                }
                (Some(Err(_)), Some(value)) => {
                    cell.maybe.insert(value);
                    cell.since_flush.insert(value);
                }
                (Some(Ok(values)), None) => {
                    let value = values[0];
                    let known = cell.now.contains(&value) || cell.maybe.remove(&value);
                    assert!(known, "seed {}: block {index} holds {value}, not {cell:?}", self.seed);
                    cell.now = [value].into();
                }
                (Some(Err(_)), None) => {}
            }
            false
        });
        let cell = &mut self.cells[index];
        if running.is_empty() && !cell.answered.is_empty() {
            cell.now = std::mem::take(&mut cell.answered);
            if std::mem::take(&mut cell.powerless) {
                cell.now.extend(&cell.since_flush);
            }
        }
        cell.running = running;
    }

    fn crash(&mut self, with_power: bool) {
        let Some(node) = self.some_node() else { return };
        self.collect();
        let dice = &mut self.dice;
        if with_power {
            self.cluster.power_off(node, || dice.one_in(2));
        } else {
            self.cluster.kill(node, || dice.one_in(2));
        }
        self.runs[node] += 1;
        if with_power {
            for cell in &mut self.cells {
                let back = cell.since_flush.clone();
                cell.now.extend(back);
                cell.powerless = !cell.running.is_empty();
            }
        }
        self.collect();
    }

    fn fault(&mut self, power: bool) {
        let nodes = self.cluster.nodes.len() as u64;
        match self.dice.below(8) {
            0 => self.crash(power && self.dice.0 & 4 == 0),
            1..=3 => {
                let down: Vec<usize> = (0..nodes as usize).filter(|node| !self.up().contains(node)).collect();
                if let Some(&node) = down.first() {
                    self.cluster.start(node);
                }
            }
            4 => {
                let (a, b) = (self.dice.below(nodes) as usize, self.dice.below(nodes) as usize);
                let is_cut = self.dice.one_in(2);
                if a != b {
                    self.cluster.set_cut(a, b, is_cut);
                }
            }
            5 => {
                let Some(node) = self.some_node() else { return };
                let what =
                    if self.dice.one_in(2) { Command::Demote } else { Command::Promote { force: false } };
                self.cluster.command(node, what);
            }
            6 => {
                let node = self.dice.below(nodes) as usize;
                let frozen = self.dice.one_in(2);
                self.cluster.freeze(node, frozen);
            }
            _ => self.cluster.connect_all(),
        }
    }

    fn run(&mut self, steps: u64, power: bool) {
        for _ in 0..steps {
            match self.dice.below(100) {
                0..=9 => self.ask(),
                10 => self.flush(),
                11 if self.dice.one_in(3) => self.fault(power),
                12..=13 => {
                    self.cluster.now += self.dice.below(150) * MS;
                    self.cluster.ticks();
                }
                _ => {
                    let pick = self.dice.roll();
                    self.cluster.happen(Some(pick));
                }
            }
            self.collect();
        }
    }

    /// The faults stop: the volume is served again, and its copies become the same.
    fn recover(&mut self) {
        let nodes = self.cluster.nodes.len();
        for node in 0..nodes {
            self.cluster.freeze(node, false);
            if self.cluster.nodes[node].replica.is_none() {
                self.cluster.start(node);
            }
        }
        for cut in self.cluster.cut.values_mut() {
            *cut = false;
        }
        self.cluster.connect_all();
        self.cluster.advance(10_000);
        for node in 0..nodes {
            if self.leader().is_none() {
                self.cluster.command(node, Command::Promote { force: false });
                self.cluster.advance(10_000);
            }
        }
        self.cluster.advance(20_000);
        self.collect();
        let leader =
            self.leader().unwrap_or_else(|| panic!("seed {}: nobody leads: {}", self.seed, self.statuses()));
        assert_eq!(
            self.cluster.status(leader).in_sync,
            ReplicaSet::first(nodes),
            "seed {}: {}",
            self.seed,
            self.statuses()
        );
        for cell in 0..CELLS {
            assert!(
                self.cells[cell as usize].running.is_empty(),
                "seed {}: {:?}",
                self.seed,
                self.cells[cell as usize]
            );
            let request = self.cluster.read(leader, cell * STRIDE, 1);
            self.cells[cell as usize].running.push(Running {
                node: leader,
                incarnation: self.runs[leader],
                request,
                value: None,
            });
        }
        self.cluster.advance(1000);
        self.collect();
        for node in 1..nodes {
            let same = self.cluster.nodes[0].disk.cache == self.cluster.nodes[node].disk.cache;
            assert!(same, "seed {}: copies 0 and {node} differ", self.seed);
        }
        assert!(
            self.cluster.is_idle() && self.cluster.holds_nothing(),
            "seed {}: something is left",
            self.seed
        );
    }

    fn leader(&self) -> Option<usize> {
        let leads = |&node: &usize| self.cluster.status(node).role == RoleState::Leads;
        self.up().into_iter().find(leads)
    }

    fn statuses(&self) -> String {
        self.up().into_iter().map(|node| format!("\n{:?}", self.cluster.status(node))).collect()
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("MIRROR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("MIRROR_SEEDS").unwrap_or(60) + 1,
    }
}

fn run(nodes: usize, power: bool, configure: fn(&mut ReplicaConfig)) {
    for seed in seeds() {
        let mut world = World::new(seed, nodes, configure);
        world.run(4000, power);
        world.recover();
    }
}

#[test]
fn two_copies_survive_killed_processes_and_lost_links() {
    run(2, false, |_| {});
}

#[test]
fn two_copies_survive_lost_power() {
    run(2, true, |_| {});
}

#[test]
fn three_copies_survive_killed_processes_and_lost_links() {
    run(3, false, |_| {});
}

#[test]
fn three_copies_survive_lost_power_by_majority() {
    run(3, true, |config| config.on_peer_loss = OnPeerLoss::Suspend);
}

#[test]
fn three_copies_survive_lost_power_under_a_coordinator() {
    run(3, true, |config| config.coordination = Coordination::External);
}
