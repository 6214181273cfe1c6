//! One write of 4 KiB at a time: how much longer it takes when another node has to have it too.

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::{hold, judged, print_places, random_4k};
use crate::backing::{Backing, BackingKind};
use crate::experiment::Laboratory;
use crate::sample::Client;
use crate::server::Server;
use crate::statistics::Spread;
use crate::verdict::{Goal, NOISE_SHALLOW, Verdict};

/// In round trips of the floor.
const ADDED: [Goal; 2] = [Goal::AtMost(2.0), Goal::AtMost(1.3)];

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let (plan, load) = (laboratory.plan, random_4k(100, 1));
    let backing = laboratory.unmade();
    let mirrored = Cluster::start(laboratory, BackingKind::Memory, backing.size_bytes)?;
    let alone = laboratory.ringsan(&backing)?;
    let floor = floor_of(laboratory, &backing)?;
    print_places(&plan.method);
    let [floors, alones, mirroreds] = hold(
        plan.rounds,
        [
            Some(&|| plan.method.measure(&floor, &load, Client::Gather)),
            Some(&|| plan.method.measure(&alone, &load, Client::Gather)),
            Some(&|| mirrored.measure(laboratory, &mirrored.leader, &load)),
        ],
    )?;
    floors.print("floor");
    alones.print("unmirrored");
    mirroreds.print("mirrored");
    let added: Vec<f64> =
        mirroreds.p50_us().iter().zip(alones.p50_us()).map(|(with, without)| with - without).collect();
    let value = Spread::of_ratios(&added, &floors.p50_us());
    Ok(judged(
        "mirrored write, depth 1",
        "(p50 - unmirrored p50) / floor's round trip",
        value,
        ADDED,
        NOISE_SHALLOW,
    )
    .into())
}

fn floor_of(laboratory: &Laboratory, backing: &Backing) -> Result<Server> {
    let floor = laboratory.stage(backing).floor(laboratory.protocol, &random_4k(100, 1))?;
    floor.context("a load of writes has a floor")
}
