//! What a seed chooses before anything happens: how large, how fast, how hostile.
//!
//! Each seed takes only some kinds of faults: one kind alone, over and over, finds what a mixture drowns.
//! Its one rule: everything that a run takes as given stands here.

use replication::{Limits, Timing};

use crate::dice::Dice;
use crate::options::{Arrangement, Options};

pub(crate) const MS: u64 = 1_000_000;

/// A region is 4 sectors, so an extent 256.
pub(crate) const REGION_SECTORS: u64 = 4;
pub(crate) const EXTENT_SECTORS: u64 = 64 * REGION_SECTORS;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum FaultKind {
    Kill,
    PowerLoss,
    AllPowerLoss,
    Cut,
    BlockOneWay,
    BlockBothWays,
    Isolate,
    Freeze,
    SlowDisk,
    FailingDisk,
    FullDisk,
    FailingMetadata,
    ClockRate,
    CoordinatorAway,
    /// One node cannot reach the coordinator.
    CutOff,
    /// Another is promoted while the leader is out of sight.
    Usurp,
    Promote,
    Demote,
    Verify,
    Repair,
    /// A new disk in place of the old one, all zeros: as when the backing is memory.
    NewDisk,
    Discard,
    /// A node's clock leaps forward, as after a pause of its machine.
    ClockLeap,
    /// A promotion by force. Only where the plan says so: it may lose anything.
    Force,
}

pub(crate) const FAULT_KINDS: [FaultKind; 24] = [
    FaultKind::Kill,
    FaultKind::PowerLoss,
    FaultKind::AllPowerLoss,
    FaultKind::Cut,
    FaultKind::BlockOneWay,
    FaultKind::BlockBothWays,
    FaultKind::Isolate,
    FaultKind::Freeze,
    FaultKind::SlowDisk,
    FaultKind::FailingDisk,
    FaultKind::FullDisk,
    FaultKind::FailingMetadata,
    FaultKind::ClockRate,
    FaultKind::CoordinatorAway,
    FaultKind::CutOff,
    FaultKind::Usurp,
    FaultKind::Promote,
    FaultKind::Demote,
    FaultKind::Verify,
    FaultKind::Repair,
    FaultKind::NewDisk,
    FaultKind::Discard,
    FaultKind::Force,
    FaultKind::ClockLeap,
];

impl FaultKind {
    pub(crate) fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) arrangement: Arrangement,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) sectors: u64,
    /// Where clients write: the first sector of each spot.
    pub(crate) spots: Vec<u64>,
    /// Requests at once.
    pub(crate) depth: u64,
    /// A client thinks up to so long.
    pub(crate) think: u64,
    pub(crate) reads_percent: u64,
    /// After so long a client turns to something else. Its request may still be answered.
    pub(crate) patience: u64,
    pub(crate) link: Latency,
    pub(crate) disk: Latency,
    pub(crate) faults: Vec<FaultKind>,
    /// Between two faults, on average.
    pub(crate) fault_gap: u64,
    /// Events, and faults; then they stop, whatever comes first.
    pub(crate) events: u64,
    pub(crate) faults_max: u64,
    /// Faults begin before the replicas have first met.
    pub(crate) early: bool,
}

/// How long something takes: mostly short, sometimes long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) base: u64,
    pub(crate) tail: u64,
    pub(crate) tail_percent: u64,
}

impl Latency {
    #[inline]
    pub(crate) fn roll(&self, dice: &mut Dice) -> u64 {
        if dice.percent(self.tail_percent) {
            self.base + dice.below(self.tail)
        } else {
            self.base / 2 + dice.below(self.base)
        }
    }

    fn choose(dice: &mut Dice, base_max: u64) -> Latency {
        Latency {
            base: dice.scale(5_000, base_max),
            tail: dice.scale(MS, 64 * MS),
            tail_percent: dice.pick(&[0, 1, 5, 20]),
        }
    }
}

impl Plan {
    pub(crate) fn choose(dice: &mut Dice, options: &Options) -> Plan {
        let nodes = options.nodes.unwrap_or_else(|| dice.pick(&[2, 2, 3, 3, 5]));
        let arrangement = options.arrangement.unwrap_or_else(|| dice.pick(&Arrangement::ALL));
        let extents = dice.pick(&[1, 3, 8]);
        let sectors = extents * EXTENT_SECTORS;
        let spots = (0..dice.pick(&[1, 3, 8, 24])).map(|_| dice.below(sectors - 16)).collect();
        let mut faults: Vec<FaultKind> = Vec::new();
        for kind in FAULT_KINDS {
            let chosen = match kind {
                FaultKind::Force => dice.percent(10),
                // It came last, and is chosen aside: the rest of a seed stays what it was.
                FaultKind::ClockLeap => dice.clone().percent(40),
                _ => dice.percent(40),
            };
            if chosen && !(options.without.iter().any(|name| *name == kind.name())) {
                faults.push(kind);
            }
        }
        if faults.is_empty() {
            faults.push(FaultKind::Kill);
        }
        Plan {
            nodes,
            arrangement,
            timing: timing(dice),
            limits: limits(dice),
            sectors,
            spots,
            depth: dice.pick(&[2, 4, 8, 24]),
            think: dice.scale(50_000, 32 * MS),
            reads_percent: dice.pick(&[20, 40, 60]),
            patience: dice.scale(16 * MS, 1024 * MS),
            link: Latency::choose(dice, 2 * MS),
            disk: Latency::choose(dice, 2 * MS),
            faults,
            fault_gap: dice.scale(8 * MS, 2048 * MS),
            events: dice.pick(&[1500, 3000, 6000]),
            faults_max: dice.pick(&[3, 12, 50, 200]),
            early: dice.percent(10),
        }
    }
}

fn timing(dice: &mut Dice) -> Timing {
    let mut timing = Timing::default();
    if dice.percent(50) {
        let divisor = dice.pick(&[2, 5, 10]);
        timing.peer_timeout /= divisor;
        timing.flush_timeout /= divisor;
        timing.lease /= divisor;
        timing.lease_margin /= divisor;
        timing.ping /= divisor;
        timing.leader_wait /= divisor;
        timing.idle_flush /= divisor;
    }
    timing
}

fn limits(dice: &mut Dice) -> Limits {
    let region_bytes = REGION_SECTORS * crate::payload::SECTOR;
    Limits {
        requests_max: dice.pick(&[8, 4096, 4096]),
        peer_bytes_max: dice.pick(&[4096, 64 << 10]),
        active_extents: dice.pick(&[1, 2, 4, 16]),
        resync_bytes: dice.pick(&[1, 2]) * region_bytes,
        resync_window: dice.pick(&[1, 4, 16]) * 2 * region_bytes,
        resync_min_rate: dice.pick(&[10, 1000]) * region_bytes,
    }
}
