//! After the faults: the volume is served again, whole, and all copies are the same.
//!
//! Its one rule: what is not so within its bound is a failure.

use replication::{ByteRange, Command, Operation};

use crate::payload::SECTOR;
use crate::plan::MS;
use crate::report::Checker;
use crate::words;
use crate::world::{SLOWEST, World};

/// From the last fault until everybody is in sync and everything is answered.
const WHOLE_WITHIN: u64 = 90_000 * MS;
/// From then on until nothing is left to be done.
const IDLE_AFTER: u64 = 4_000 * MS;
const ANSWERED_WITHIN: u64 = 10_000 * MS;
/// A machine that never comes to rest is wrong, however little time it takes.
const STEPS_MAX: u64 = 100_000;
/// The same while clients go on.
const LOADED_STEPS_MAX: u64 = 1_000_000;
/// In one of so many seeds clients go on until everybody is in sync again.
const LOADED_EVERY: u64 = 3;

impl World {
    /// Runs on until it is so, or for so long. Whether it is so.
    pub(crate) fn run_until(&mut self, within: u64, every: u64, is_so: impl Fn(&World) -> bool) -> bool {
        let is_loaded = self.calm && !self.clients.rest;
        let steps_max = if is_loaded { LOADED_STEPS_MAX } else { STEPS_MAX };
        let (end, last_step) = (self.now + within, self.statistics.steps + steps_max);
        let mut look = self.now;
        while self.failure.is_none() && self.now < end {
            if self.now >= look {
                if is_so(self) {
                    return true;
                }
                look = self.now.saturating_add(every);
            }
            if self.statistics.steps > last_step {
                self.fail(Checker::Bounds, "it never comes to rest".to_owned());
            }
            self.turn();
        }
        is_so(self)
    }

    /// The first meeting: somebody is promoted, and everybody joins.
    pub(crate) fn meet(&mut self) {
        for node in 0..self.plan.nodes {
            self.restart(node);
        }
        self.operator_begins();
        if self.plan.early {
            return;
        }
        if !self.run_until(WHOLE_WITHIN, 50 * MS, |world| world.whole().is_some()) {
            self.not_whole();
        }
    }

    fn not_whole(&mut self) {
        let mut text = format!("not whole {} s after the last fault", WHOLE_WITHIN / 1000 / MS);
        for node in self.up() {
            if let Some(replica) = &self.nodes[node].replica {
                let status = replica.status();
                text += &format!(
                    "\n  {}: {:?}, epoch {}, promised {}, in sync {}, {} requests",
                    words::name(node),
                    status.role,
                    status.epoch,
                    status.promised,
                    words::names(status.in_sync),
                    status.requests
                );
                for peer in &status.peers {
                    text += &format!(
                        "\n     {} {:?}, to resync {}, {:?}",
                        words::name(peer.peer.index()),
                        peer.state,
                        peer.resync_bytes,
                        peer.refusal
                    );
                }
            }
        }
        let open = &self.clients.open;
        text += &format!("\n  open requests {open:?}, commands {:?}", self.operator.open);
        self.fail(Checker::Availability, text);
    }

    pub(crate) fn recover(&mut self) {
        self.end_faults();
        let is_loaded = self.seed.is_multiple_of(LOADED_EVERY);
        if is_loaded && !self.run_until(WHOLE_WITHIN, 5 * MS, |world| world.in_sync().is_some()) {
            return self.not_whole();
        }
        self.clients.rest = true;
        // What the last fault or command brought may come to light only now.
        for _ in 0..3 {
            if !self.run_until(WHOLE_WITHIN, 50 * MS, |world| world.whole().is_some()) {
                return self.not_whole();
            }
            if std::mem::take(&mut self.sectors.suspended) {
                let moment = self.next_moment();
                self.sectors.roll_back(moment, true);
            }
            self.run_until(IDLE_AFTER, u64::MAX, |_| false);
            if self.whole().is_some() {
                break;
            }
        }
        if self.failure.is_none() && self.whole().is_none() {
            return self.not_whole();
        }
        self.compare();
        self.read_all();
        if self.dice.one_in(8) {
            self.verify_all();
        }
        self.nothing_left();
        if let Some(text) = self.sectors.judge() {
            self.fail(Checker::Linearizability, text);
        }
    }

    fn compare(&mut self) {
        for node in 1..self.plan.nodes {
            let copies = self.nodes[0].disk.cache.iter().zip(&self.nodes[node].disk.cache);
            let differs = copies.enumerate().find(|(_, (first, other))| first != other);
            if let Some((sector, (first, other))) = differs {
                let name = words::name(node);
                let text = format!("sector {sector} is {first} on a and {other} on {name}, both in sync");
                return self.fail(Checker::Identity, text);
            }
        }
    }

    /// Every spot is read once more, through any node.
    fn read_all(&mut self) {
        for spot in self.plan.spots.clone() {
            for first in [spot, spot + 8] {
                let node = self.dice.index(self.plan.nodes);
                self.ask(node, Operation::Read { range: ByteRange::new(first * SECTOR, 8 * SECTOR) });
            }
        }
        let answered = |world: &World| world.clients.open.is_empty();
        if !self.run_until(ANSWERED_WITHIN, MS, answered) {
            let text = format!("requests {:?} are not answered although all is well", self.clients.open);
            self.fail(Checker::Completion, text);
        }
    }

    fn verify_all(&mut self) {
        let Some(leader) = self.whole() else { return };
        self.command(leader, Command::Verify { repair: false });
        let answered = |world: &World| world.operator.open.is_empty();
        if !self.run_until(WHOLE_WITHIN, MS, answered) {
            self.fail(Checker::Commands, "verify is not answered although all is well".to_owned());
        }
    }

    fn nothing_left(&mut self) {
        // What a disk was asked while it was slow takes its time, also where nobody waits for it any more.
        self.run_until(SLOWEST, MS, |world| world.nodes.iter().all(|node| node.disk.is_idle()));
        self.run_until(500 * MS, u64::MAX, |_| false);
        for node in 0..self.plan.nodes {
            let held: Vec<String> =
                self.nodes[node].held.all().map(|payload| words::values(Some(payload))).collect();
            if !held.is_empty() {
                let (name, count) = (words::name(node), held.len());
                let text = format!("node {name} still holds {count} payloads:{}", held.concat());
                self.fail(Checker::Payload, text);
            }
            if !self.nodes[node].disk.is_idle() && self.nodes[node].disk.trouble.slower == 1 {
                let text = format!("node {} still works on its disk", words::name(node));
                self.fail(Checker::Bounds, text);
            }
        }
    }
}
