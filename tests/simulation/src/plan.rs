//! What a seed makes of a run: its shape, drawn once at the beginning.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replication::OnPeerLoss;

use crate::agenda::{MICROSECOND, MILLISECOND, SECOND};
use crate::client::Habits;
use crate::dice::Dice;
use crate::disk::{Mood, SECTOR_BYTES};
use crate::host::Clock;
use crate::network::Shape;
use crate::node::Shared;

/// The names of nodes.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The shape of a run.
pub struct Plan {
    /// What all nodes have in common.
    pub shared: Rc<Shared>,
    /// Of the network.
    pub shape: Shape,
    /// Of the clients.
    pub habits: Habits,
    /// How each machine's clock goes.
    pub clocks: Vec<Clock>,
    /// How disks are when they are well.
    pub mood: Mood,
    /// For how long things go wrong.
    pub trouble: u64,
    /// Between two faults, at most; 0 for none at all.
    pub fault_pause: u64,
    /// Nothing goes wrong until the volume is whole for the first time.
    pub begins_well: bool,
    /// Operators use force where they would have to wait.
    pub forces: bool,
}

impl Plan {
    /// That of this seed. `nodes`: so many, where somebody has said so.
    pub fn draw(dice: &mut Dice, nodes: Option<usize>) -> Plan {
        let nodes = nodes.unwrap_or(dice.pick(&[2, 2, 2, 2, 2, 2, 3, 3, 3, 5])).min(NAMES.len());
        let sectors = dice.pick(&[64, 256, 1024, 2048]);
        let mood = Mood {
            transfer_max: dice.scale(50 * MICROSECOND, 5 * MILLISECOND),
            flush_max: dice.scale(100 * MICROSECOND, 20 * MILLISECOND),
            failing_reads: 0,
            failing_writes: 0,
            is_full: false,
            is_hung: false,
        };
        Plan {
            shared: Rc::new(shared(dice, nodes, sectors)),
            shape: shape(dice),
            habits: habits(dice, sectors),
            clocks: (0..nodes).map(|_| clock(dice)).collect(),
            mood,
            trouble: dice.scale(4, 30) * SECOND,
            fault_pause: if dice.percent(10) { 0 } else { dice.scale(300 * MILLISECOND, 5 * SECOND) },
            begins_well: dice.percent(80),
            forces: dice.percent(15),
        }
    }
}

fn shared(dice: &mut Dice, nodes: usize, sectors: usize) -> Shared {
    Shared {
        names: NAMES[..nodes].to_vec(),
        size_bytes: (sectors * SECTOR_BYTES) as u64,
        block_bytes: dice.pick(&[512, 512, 4096]),
        on_peer_loss: if dice.percent(60) { OnPeerLoss::Continue } else { OnPeerLoss::Suspend },
        peer_timeout: Duration::from_millis(dice.pick(&[400, 1000, 1000, 2500])),
        key: dice.percent(40).then(|| Arc::from([7; 32].as_slice())),
        tls: dice.percent(20),
        in_memory: in_memory(dice, nodes),
        cores: dice.pick(&[1, 1, 1, 2, 3]),
        arena_bytes: dice.pick(&[1 << 20, 1 << 20, 8 << 20]),
        inflight_bytes_max: dice.pick(&[64 << 10, 1 << 20]),
    }
}

/// Which nodes have their copy in memory.
fn in_memory(dice: &mut Dice, nodes: usize) -> Vec<bool> {
    let some = dice.percent(15);
    (0..nodes).map(|_| some && dice.percent(50)).collect()
}

fn shape(dice: &mut Dice) -> Shape {
    let delay_min = dice.scale(5 * MICROSECOND, 200 * MICROSECOND);
    let delay_max = dice.scale(delay_min, 20 * MILLISECOND);
    let window_bytes = dice.pick(&[8 << 10, 64 << 10, 256 << 10]);
    let odd_sizes = dice.pick(&[0, 5, 50]);
    // A line that carries less than some megabytes a second is a trouble of its own.
    let is_thin = window_bytes as u64 * SECOND / delay_max < 40 << 20;
    Shape { delay_min, delay_max, window_bytes: if is_thin { 256 << 10 } else { window_bytes }, odd_sizes }
}

fn habits(dice: &mut Dice, sectors: usize) -> Habits {
    Habits {
        clients: dice.between(1, 4) as usize,
        depth: dice.scale(1, 8) as usize,
        pause_max: dice.scale(200 * MICROSECOND, 100 * MILLISECOND),
        sectors,
        // Else hundreds of requests of one sector are under way at once.
        longest: dice.pick(&[8, 16, 64]).min(sectors / 4),
        writes: dice.between(20, 80),
        flushes: dice.between(1, 10),
        iscsi: dice.pick(&[0, 0, 0, 50, 100]),
    }
}

fn clock(dice: &mut Dice) -> Clock {
    let drift = if dice.percent(50) { 0 } else { dice.between(0, 60_000) as i64 - 30_000 };
    Clock { start: dice.below(1 << 50), drift }
}
