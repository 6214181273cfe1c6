//! A node: its machine while its process runs, its disk always.
//!
//! Its one rule: what a process knew ends with it; only the disk and the clock go on.

use replication::{Coordination, Incarnation, NodeId, OnPeerLoss, Replica, ReplicaConfig, ReplicaId, Time};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::happen::Happening;
use crate::options::{Arrangement, Options};
use crate::payload::{Held, SECTOR};
use crate::plan::{Plan, REGION_SECTORS};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) replica: Option<Replica>,
    /// How often its process has started.
    pub(crate) run: u32,
    pub(crate) disk: Disk,
    pub(crate) held: Held,
    pub(crate) clock: Clock,
    /// When the machine wants to be woken.
    pub(crate) wake: Option<Time>,
    /// The world's time of the next tick in the bag.
    pub(crate) tick_at: u64,
    pub(crate) frozen: bool,
    /// What comes while it is frozen.
    pub(crate) deferred: Vec<Happening>,
    /// Its disk still holds what the last run wrote there.
    pub(crate) cache_kept: bool,
    /// The world's time since which what it has not flushed may be gone.
    pub(crate) forgot_at: Option<u64>,
    /// It does not reach the coordinator.
    pub(crate) cut_off: bool,
    /// Its disk is new, and all zeros.
    pub(crate) blank: bool,
}

impl Node {
    pub(crate) fn new(sectors: u64, clock: Clock) -> Node {
        Node {
            replica: None,
            run: 0,
            disk: Disk::new(sectors),
            held: Held::default(),
            clock,
            wake: None,
            tick_at: u64::MAX,
            frozen: false,
            deferred: Vec::new(),
            cache_kept: true,
            forgot_at: None,
            cut_off: false,
            blank: true,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// Starts its process.
    pub(crate) fn open(&mut self, node: usize, world: u64, plan: &Plan, options: &Options) {
        self.run += 1;
        let config = self.configure(node, plan, options);
        let stored = self.disk.stored.clone();
        let opened = Replica::open(config, stored, self.clock.local(world));
        self.replica = Some(opened.expect("what a replica has stored can be opened"));
        self.wake = None;
        self.tick_at = u64::MAX;
        self.cache_kept = true;
        self.blank = false;
    }

    fn configure(&self, node: usize, plan: &Plan, options: &Options) -> ReplicaConfig {
        let names = (0..plan.nodes).map(|node| crate::words::name(node).to_owned()).collect();
        let own = ReplicaId(node as u8);
        let mut config = ReplicaConfig::new(own, names, NodeId([node as u8 + 1; 16]), plan.sectors * SECTOR);
        config.geometry.region_bytes = REGION_SECTORS * SECTOR;
        config.incarnation = Incarnation(u64::from(self.run) * 100 + node as u64);
        config.blank = self.blank;
        config.cache_kept = self.cache_kept;
        config.limits = plan.limits;
        config.timing = plan.timing;
        config.sabotage = options.sabotage;
        (config.coordination, config.on_peer_loss) = match plan.arrangement {
            Arrangement::Continue => (Coordination::Static, OnPeerLoss::Continue),
            Arrangement::Suspend => (Coordination::Static, OnPeerLoss::Suspend),
            Arrangement::External => (Coordination::External, OnPeerLoss::Continue),
        };
        config
    }
}
