//! What a node that was away receives: no more than the regions that were written meanwhile.
//!
//! During the outage a quarter of all regions is hit by random writes of 4 KiB, spread over its whole length. Which
//! they were, the load itself can tell afterwards. Bytes are those that the leader's link has sent, frames included.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::cluster::Cluster;
use super::{print_places, random_4k};
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::generator::{Generator, Until};
use crate::interrupt;
use crate::load::{Load, Questions};
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, Verdict};

/// What is sent again in one piece.
const REGION_BYTES: u64 = 64 << 10;
/// 10 s, where samples last one.
const SAMPLES: u32 = 10;
const SLICES: u32 = 100;
const AT_MOST: Goal = Goal::AtMost(1.05);

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let plan = laboratory.plan;
    let mut cluster = Cluster::start(laboratory, BackingKind::Tmpfs, plan.size_bytes)?;
    print_places(&plan.method);
    let length = plan.method.sample * SAMPLES;
    let [killed, frozen] = [true, false].map(|is_killed| miss(&mut cluster, length, is_killed));
    let mut verdicts = Vec::new();
    for (name, seen) in [("killed", killed?), ("frozen", frozen?)] {
        println!(
            "  {name} for {length:?}: {} of {} regions written, {} bytes sent",
            seen.regions,
            plan.size_bytes / REGION_BYTES,
            seen.sent_bytes
        );
        let value = Spread::of([seen.sent_bytes as f64 / (seen.regions * REGION_BYTES) as f64]);
        let case = format!("outage of {length:?}, {name}");
        verdicts.push(Verdict::new(&case, "bytes sent / regions written", value, (Kind::Must, AT_MOST), 0.0));
    }
    Ok(verdicts)
}

struct Seen {
    regions: u64,
    sent_bytes: u64,
}

/// What was written before the outage is durable everywhere: else that, too, might be lacking.
fn miss(cluster: &mut Cluster, length: Duration, is_killed: bool) -> Result<Seen> {
    cluster.await_rest()?;
    if is_killed {
        cluster.follower.kill();
    } else {
        cluster.follower.freeze()?;
    }
    let regions = write_during(cluster, length)?;
    cluster.await_alone()?;
    let before = cluster.leader.sent_bytes_to(&cluster.follower)?;
    if is_killed {
        cluster.follower.start()?;
    } else {
        cluster.follower.thaw()?;
    }
    cluster.await_in_sync()?;
    let sent_bytes = cluster.leader.sent_bytes_to(&cluster.follower)? - before;
    Ok(Seen { regions, sent_bytes })
}

/// Answers how many regions were written.
fn write_during(cluster: &Cluster, length: Duration) -> Result<u64> {
    let load = random_4k(100, 8);
    let mut generator = Generator::open(&cluster.leader.address, &load)?;
    let size_bytes = generator.size_bytes();
    let each = (size_bytes / REGION_BYTES / 4 / u64::from(SLICES)).max(1);
    let (began, mut asked) = (Instant::now(), 0);
    for slice in 1..=SLICES {
        interrupt::check()?;
        let figures = generator.run(Until::Requests(each))?;
        ensure!(figures.errors == 0, "{} writes failed", figures.errors);
        asked += figures.requests;
        generator.idle((length * slice / SLICES).saturating_sub(began.elapsed()))?;
    }
    Ok(regions_of(&load, size_bytes, asked))
}

/// How many different regions the first questions of a load hit.
fn regions_of(load: &Load, size_bytes: u64, asked: u64) -> u64 {
    let mut questions = Questions::new(load, 0, size_bytes);
    let regions: BTreeSet<u64> = (0..asked).map(|_| questions.next().offset_bytes / REGION_BYTES).collect();
    regions.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_is_hit_twice_counts_once() {
        assert_eq!(regions_of(&random_4k(100, 1), REGION_BYTES, 100), 1);
        let some = regions_of(&random_4k(100, 1), 1 << 30, 100);
        assert!((90..=100).contains(&some), "{some} of 100");
    }
}
