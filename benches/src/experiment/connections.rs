//! 16 connections with 2 requests each against one with 32, on ringsan and on the floor.
//!
//! Each connection costs a send and a receive of its own, on both sides: what the floor loses, everybody loses.

use anyhow::{Context, Result};

use super::Laboratory;
use crate::backing::BackingKind;
use crate::load::Load;
use crate::sample::{Client, Sample};
use crate::server::Server;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let one = Load::random_4k(0, 32);
    let many = Load { connections: 16, ..Load::random_4k(0, 2) };
    let backing = laboratory.backing(BackingKind::Memory)?;
    let stage = laboratory.stage(&backing);
    let ringsan = laboratory.ringsan(&backing)?;
    let floor_of = |load| stage.floor(laboratory.protocol, load)?.context("a load of reads has a floor");
    let (floor_one, floor_many) = (floor_of(&one)?, floor_of(&many)?);
    let (mut ours, mut floors) = (Series::default(), Series::default());
    for _ in 0..laboratory.plan.rounds {
        ours.add(laboratory, (&ringsan, &one), (&ringsan, &many))?;
        floors.add(laboratory, (&floor_one, &one), (&floor_many, &many))?;
    }
    ours.print("ringsan");
    floors.print("floor");
    let measure =
        format!("IOPS 16 × 2 / 1 × 32 (the floor: {:.2})", floors.ratio().map_or(0.0, |ratio| ratio.median));
    let goals = [(Kind::Must, Goal::AtLeast(0.9)), (Kind::Aim, Goal::AtLeast(1.0))];
    let judged =
        goals.map(|goal| Verdict::new("16 connections", measure.as_str(), ours.ratio(), goal, NOISE_DEEP));
    Ok(judged.into())
}

#[derive(Default)]
struct Series {
    one: Vec<Sample>,
    many: Vec<Sample>,
}

impl Series {
    fn add(&mut self, laboratory: &Laboratory, one: (&Server, &Load), many: (&Server, &Load)) -> Result<()> {
        let measure = |(server, load)| laboratory.plan.method.measure(server, load, Client::Gather);
        self.one.push(measure(one)?);
        self.many.push(measure(many)?);
        Ok(())
    }

    fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&iops(&self.many), &iops(&self.one))
    }

    fn print(&self, name: &str) {
        let median = |values| Spread::of(values).map_or(0.0, |spread| spread.median);
        let cost = |samples: &[Sample]| {
            median(samples.iter().map(|sample| sample.server_cpu_us).collect::<Vec<_>>())
        };
        println!(
            "  {name:<8} 1 × 32: {:.0} IOPS, {:.2} µs CPU/IO   16 × 2: {:.0} IOPS, {:.2} µs CPU/IO",
            median(iops(&self.one)),
            cost(&self.one),
            median(iops(&self.many)),
            cost(&self.many),
        );
    }
}

fn iops(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.iops).collect()
}
