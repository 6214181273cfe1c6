//! What goes wrong, when the seed says so, and how it ends.
//!
//! Its one rule: whatever has begun can be ended, at its own time or all at once.

use crate::agenda::{Event, HostId, MILLISECOND, SECOND};
use crate::dice::Dice;
use crate::disk::Mood;
use crate::run::Run;
use crate::timeline;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets from one machine to another.
    Cut(HostId, HostId),
    /// Nothing gets through in either direction.
    CutBoth(HostId, HostId),
    /// One connection is reset.
    Reset(HostId, HostId),
    /// A process is killed.
    Kill(HostId),
    /// A machine loses power.
    PowerLoss(HostId),
    /// All machines do.
    Blackout,
    /// A node is stopped in good order.
    Stop(HostId),
    /// A process gets no time.
    Freeze(HostId),
    /// A disk takes its time.
    SlowDisk(HostId),
    /// A disk fails now and then.
    BadDisk(HostId),
    /// A disk takes nothing more.
    FullDisk(HostId),
    /// A disk never answers.
    HungDisk(HostId),
}

impl Fault {
    /// One that could happen to so many nodes and the clients' machine behind them.
    pub fn draw(dice: &mut Dice, nodes: usize) -> Fault {
        let a = dice.index(nodes);
        let b = (a + 1 + dice.index(nodes)) % (nodes + 1);
        match dice.below(24) {
            0..3 => Fault::Cut(a, b),
            3..6 => Fault::CutBoth(a, b),
            6..9 => Fault::Reset(a, b),
            9..12 => Fault::Kill(a),
            12..14 => Fault::PowerLoss(a),
            14 => Fault::Blackout,
            15..17 => Fault::Stop(a),
            17..19 => Fault::Freeze(a),
            19 => Fault::SlowDisk(a),
            20 => Fault::BadDisk(a),
            21 => Fault::FullDisk(a),
            _ => Fault::HungDisk(a),
        }
    }

    /// How long it lasts.
    pub fn duration(dice: &mut Dice) -> u64 {
        dice.scale(20 * MILLISECOND, 8 * SECOND)
    }
}

/// What a timer of a plan means.
pub const NEXT_FAULT: u64 = 0;
/// Operators look around.
pub const LOOK: u64 = 1;
/// From here on: the end of a fault.
pub const END_OF_FAULT: u64 = 16;

impl Run {
    /// Something goes wrong, and will go wrong again.
    pub fn next_fault(&mut self) -> Result<(), String> {
        let nodes = self.nodes.len();
        let (fault, lasts, pause) = {
            let dice = &mut self.dice;
            (
                Fault::draw(dice, nodes),
                Fault::duration(dice),
                dice.scale(50 * MILLISECOND, self.plan.fault_pause),
            )
        };
        timeline::line(|| format!("FAULT {fault:?} for {:.3} s", lasts as f64 / 1e9));
        self.begin(fault)?;
        self.faults.push(Some(fault));
        let number = END_OF_FAULT + self.faults.len() as u64 - 1;
        let mut world = self.world.borrow_mut();
        world.agenda.after(lasts, Event::Plan(number));
        world.agenda.after(pause, Event::Plan(NEXT_FAULT));
        Ok(())
    }

    /// A fault has lasted long enough.
    pub fn end_of_fault(&mut self, number: usize) -> Result<(), String> {
        let Some(fault) = self.faults[number].take() else { return Ok(()) };
        timeline::line(|| format!("END OF FAULT {fault:?}"));
        self.mend(fault)
    }

    /// All faults end.
    pub fn end_all_faults(&mut self) -> Result<(), String> {
        for number in 0..self.faults.len() {
            self.end_of_fault(number)?;
        }
        Ok(())
    }

    fn begin(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Cut(a, b) => self.set_cut(a, b, true),
            Fault::CutBoth(a, b) => {
                self.set_cut(a, b, true);
                self.set_cut(b, a, true);
            }
            Fault::Reset(a, b) => {
                let mut world = self.world.borrow_mut();
                let world = &mut *world;
                world.network.reset_one(&mut world.agenda, a, b);
                world.settle();
            }
            Fault::Kill(host) => {
                self.note_end(host);
                self.nodes[host].end()?;
            }
            Fault::PowerLoss(host) => self.lose_power(host)?,
            Fault::Blackout => {
                for host in 0..self.nodes.len() {
                    self.lose_power(host)?;
                }
            }
            Fault::Stop(host) => {
                if self.nodes[host].is_up() && !self.nodes[host].is_stopping() {
                    self.stop(host);
                }
            }
            Fault::Freeze(host) => self.world.borrow_mut().hosts[host].is_frozen = true,
            Fault::SlowDisk(host) => self.disk(host, |mood| {
                mood.transfer_max = 400 * MILLISECOND;
                mood.flush_max = 2 * SECOND;
            }),
            Fault::BadDisk(host) => {
                let (reads, writes) = (self.dice.pick(&[0, 500]), self.dice.pick(&[0, 20, 500]));
                self.disk(host, |mood| (mood.failing_reads, mood.failing_writes) = (reads, writes));
            }
            Fault::FullDisk(host) => self.disk(host, |mood| mood.is_full = true),
            Fault::HungDisk(host) => self.disk(host, |mood| mood.is_hung = true),
        }
        Ok(())
    }

    fn mend(&mut self, fault: Fault) -> Result<(), String> {
        let well = self.plan.mood;
        match fault {
            Fault::Cut(a, b) => self.set_cut(a, b, false),
            Fault::CutBoth(a, b) => {
                self.set_cut(a, b, false);
                self.set_cut(b, a, false);
            }
            Fault::Reset(..) => {}
            Fault::Kill(host) | Fault::PowerLoss(host) => self.bring_up(host)?,
            Fault::Blackout => {
                for host in 0..self.nodes.len() {
                    self.bring_up(host)?;
                }
            }
            Fault::Stop(host) => self.bring_up(host)?,
            Fault::Freeze(host) => {
                let mut world = self.world.borrow_mut();
                world.hosts[host].is_frozen = false;
                world.wake(host);
            }
            Fault::SlowDisk(host) | Fault::BadDisk(host) | Fault::FullDisk(host) => {
                let is_hung = self.world.borrow().hosts[host].mood.is_hung;
                self.disk(host, |mood| *mood = Mood { is_hung, ..well });
            }
            Fault::HungDisk(host) => self.world.borrow_mut().unhang(host),
        }
        Ok(())
    }

    fn set_cut(&mut self, from: HostId, to: HostId, is_cut: bool) {
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        world.network.set_cut(&mut world.agenda, from, to, is_cut);
        world.settle();
    }

    fn disk(&mut self, host: HostId, change: impl FnOnce(&mut Mood)) {
        change(&mut self.world.borrow_mut().hosts[host].mood);
    }

    fn lose_power(&mut self, host: HostId) -> Result<(), String> {
        if !self.world.borrow().hosts[host].is_on {
            return Ok(());
        }
        let now = self.now();
        self.perils.push(now);
        self.stopping.retain(|(stopping, _)| *stopping != host);
        self.nodes[host].lose_power()
    }

    /// A copy in memory ends with its process.
    pub fn note_end(&mut self, host: HostId) {
        if self.nodes[host].is_in_memory() {
            self.perils.push(self.now());
        }
    }

    /// Power, and a running process.
    pub fn bring_up(&mut self, host: HostId) -> Result<(), String> {
        if !self.world.borrow().hosts[host].is_on {
            self.nodes[host].power_back();
        }
        if self.nodes[host].is_up() {
            return Ok(());
        }
        timeline::line(|| format!("node {host} starts"));
        self.nodes[host].start()
    }
}
