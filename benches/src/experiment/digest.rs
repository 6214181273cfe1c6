//! Digests of data (CRC32C) on, against off: what they take from ringsan, and from the floor.
//!
//! The client computes or checks what a target does, too, but for reads, where it only checks a few; what it loses
//! by that, the floor loses, and the floor's own digests were made up beforehand.

use anyhow::{Context, Result};

use super::Laboratory;
use crate::backing::BackingKind;
use crate::interrupt;
use crate::load::{DigestKind, Load};
use crate::sample::{Client, Sample};
use crate::server::Server;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

const SHARE: f64 = 0.8;
const SHARE_AIM: f64 = 0.9;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let backing = laboratory.backing(BackingKind::Memory)?;
    let ringsan = laboratory.ringsan(&backing)?;
    let mut verdicts = Vec::new();
    for (name, write_percent) in [("reads", 0), ("writes", 100)] {
        let off = Load::random_4k(write_percent, 32);
        let on = Load { digests: DigestKind::Data, ..off.clone() };
        let stage = laboratory.stage(&backing);
        let floor = |load| stage.floor(laboratory.protocol, load)?.context("the load has a floor");
        let floors = (floor(&off)?, floor(&on)?);
        let (mut ours, mut floor) = (Series::default(), Series::default());
        for _ in 0..laboratory.plan.rounds {
            interrupt::check()?;
            ours.add(laboratory, (&ringsan, &off), (&ringsan, &on))?;
            floor.add(laboratory, (&floors.0, &off), (&floors.1, &on))?;
        }
        ours.print("ringsan", name);
        floor.print("floor", name);
        verdicts.extend(judge(name, &ours, &floor));
    }
    Ok(verdicts)
}

fn judge(name: &str, ours: &Series, floor: &Series) -> [Verdict; 2] {
    let floor = floor.ratio().map_or(0.0, |ratio| ratio.median);
    let measure = format!("IOPS on / off (the floor: {floor:.2})");
    let case = format!("data digest, {name}");
    let goals = [(Kind::Must, Goal::AtLeast(SHARE)), (Kind::Aim, Goal::AtLeast(SHARE_AIM))];
    goals.map(|goal| Verdict::new(&case, measure.as_str(), ours.ratio(), goal, NOISE_DEEP))
}

/// Requests a second, round by round.
#[derive(Default)]
struct Series {
    off: Vec<Sample>,
    on: Vec<Sample>,
}

impl Series {
    fn add(&mut self, laboratory: &Laboratory, off: (&Server, &Load), on: (&Server, &Load)) -> Result<()> {
        let measure = |(server, load)| laboratory.plan.method.measure(server, load, Client::Gather);
        self.off.push(measure(off)?);
        self.on.push(measure(on)?);
        Ok(())
    }

    fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&iops(&self.on), &iops(&self.off))
    }

    fn print(&self, name: &str, direction: &str) {
        let median = |samples| Spread::of(iops(samples)).map_or(0.0, |spread| spread.median);
        println!(
            "  {name:<8} {direction:<6} off: {:.0} IOPS   on: {:.0} IOPS",
            median(&self.off),
            median(&self.on)
        );
    }
}

fn iops(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.iops).collect()
}
