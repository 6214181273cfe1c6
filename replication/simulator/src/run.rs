//! One seed, from the first meeting of the replicas to the comparison of their copies.
//!
//! Its one rule: it returns; nothing that a seed chooses makes it run for ever.

use crate::options::Options;
use crate::plan::{MS, Plan};
use crate::report::Report;
use crate::world::World;

/// Faults last so long at most, in the world's time.
const FAULTS_LAST: u64 = 120_000 * MS;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Report {
    let mut world = World::new(seed, options);
    let plan = describe(&world.plan);
    if options.timeline {
        world.say(None, plan.clone());
    }
    world.meet();
    world.clients_begin();
    world.faults_begin();
    let (last, end) = (world.statistics.steps + world.plan.events, world.now + FAULTS_LAST);
    let goes_on = |world: &World| {
        let (statistics, plan) = (&world.statistics, &world.plan);
        statistics.steps < last && statistics.faults < plan.faults_max && world.now < end
    };
    while world.failure.is_none() && goes_on(&world) {
        world.turn();
    }
    if world.failure.is_none() {
        world.recover();
    }
    world.statistics.nanoseconds = world.now;
    Report { seed, plan, statistics: world.statistics, failure: world.failure, timeline: world.timeline }
}

fn describe(plan: &Plan) -> String {
    format!(
        "{} nodes, {}, {} sectors, depth {}, faults {:?} every {} ms, link {} µs, disk {} µs, peer timeout {} ms; \
         {} spots, {} extents marked, {} requests, {} bytes a peer",
        plan.nodes,
        plan.arrangement,
        plan.sectors,
        plan.depth,
        plan.faults,
        plan.fault_gap / MS,
        plan.link.base / 1000,
        plan.disk.base / 1000,
        plan.timing.peer_timeout / MS,
        plan.spots.len(),
        plan.limits.active_extents,
        plan.limits.requests_max,
        plan.limits.peer_bytes_max
    )
}
