//! A second volume busy on another core: what the first loses to sharing a process with it.
//!
//! With two cores the neighbour shares one with the clients, so the machine itself takes its part. What it takes
//! is measured in the same round: the same two volumes and loads, but in two processes of one core each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::Laboratory;
use crate::address::{Address, Name};
use crate::backing::{Backing, BackingKind};
use crate::generator::{Generator, Until};
use crate::interrupt;
use crate::load::{Load, Waiting};
use crate::peers::serve_ringsan;
use crate::server::{Server, volume_at};
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};

const SLICE: Duration = Duration::from_millis(20);

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let backing = laboratory.backing(BackingKind::Memory)?;
    let together = Pair::in_one_process(laboratory, &backing)?;
    let apart = Pair::in_two_processes(laboratory, &backing)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..laboratory.plan.rounds {
        interrupt::check()?;
        with.push(together.first_beside_second(laboratory)?);
        without.push(apart.first_beside_second(laboratory)?);
    }
    let median = |values: &[f64]| Spread::of(values.iter().copied()).map_or(0.0, |spread| spread.median);
    println!("  one process: {:.0} IOPS, two processes: {:.0} IOPS", median(&with), median(&without));
    let goal = (Kind::Must, Goal::AtLeast(1.0));
    let measure = "IOPS of the first, one process / two";
    Ok(vec![Verdict::new(
        "busy second volume",
        measure,
        Spread::of_ratios(&with, &without),
        goal,
        NOISE_DEEP,
    )])
}

/// Two volumes, each on a core of its own.
struct Pair {
    first: Address,
    second: Address,
    _servers: Vec<Server>,
}

impl Pair {
    fn in_one_process(laboratory: &Laboratory, backing: &Backing) -> Result<Pair> {
        let method = laboratory.plan.method;
        let cpus = [method.server_cpu, method.client_cpu];
        let server = start(laboratory, "ringsan-pair", &[("disk", backing), ("second", backing)], &cpus)?;
        let first = server.address.clone();
        let second = Address { name: Name::Export("second".into()), ..first.clone() };
        Ok(Pair { first, second, _servers: vec![server] })
    }

    fn in_two_processes(laboratory: &Laboratory, backing: &Backing) -> Result<Pair> {
        let method = laboratory.plan.method;
        let volumes = [("disk", backing)];
        let first = start(laboratory, "ringsan-first", &volumes, &[method.server_cpu])?;
        let second = start(laboratory, "ringsan-second", &volumes, &[method.client_cpu])?;
        let addresses = (first.address.clone(), second.address.clone());
        Ok(Pair { first: addresses.0, second: addresses.1, _servers: vec![first, second] })
    }

    /// Requests a second of the first volume while the second is busy.
    fn first_beside_second(&self, laboratory: &Laboratory) -> Result<f64> {
        let load = Load { waiting: Waiting::Sleep, ..Load::random_4k(0, 32) };
        let mut neighbour = Generator::open(&self.second, &load)?;
        let mut generator = Generator::open(&self.first, &load)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    neighbour.run(Until::Elapsed(SLICE))?;
                }
                Ok(())
            });
            generator.run(Until::Elapsed(laboratory.plan.method.warm_up))?;
            let figures = generator.run(Until::Elapsed(laboratory.plan.method.sample));
            stop.store(true, Ordering::Relaxed);
            busy.join().map_err(|_| anyhow!("the neighbour's load panicked"))??;
            Ok(figures?.iops())
        })
    }
}

fn start(
    laboratory: &Laboratory,
    name: &str,
    volumes: &[(&str, &Backing)],
    cpus: &[usize],
) -> Result<Server> {
    let stage = laboratory.stage(volumes[0].1);
    let place = stage.place()?;
    let launch = serve_ringsan(volumes, &place, laboratory.protocol, cpus)?;
    let log = laboratory.scratch.join(format!("{name}.log"));
    Server::start(name, launch, volume_at(laboratory.protocol, place.portal), cpus, &log)
}
