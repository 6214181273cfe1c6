//! A client of the node that does not lead, which forwards: beside a client of the one that does.

use anyhow::Result;

use super::cluster::Cluster;
use super::{hold, judged, print_places, random_4k};
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::statistics::Spread;
use crate::verdict::{Goal, NOISE_DEEP, Verdict};

const OF_DIRECT: [Goal; 2] = [Goal::AtLeast(0.4), Goal::AtLeast(0.6)];

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let plan = laboratory.plan;
    let cluster = Cluster::start(laboratory, BackingKind::Memory, plan.size_bytes)?;
    print_places(&plan.method);
    let mut verdicts = Vec::new();
    for (name, write_percent) in [("read", 0), ("write", 100)] {
        let load = random_4k(write_percent, 32);
        let [direct, forwarded] = hold(
            plan.rounds,
            [
                Some(&|| cluster.measure(laboratory, &cluster.leader, &load)),
                Some(&|| cluster.measure(laboratory, &cluster.follower, &load)),
            ],
        )?;
        direct.print(&format!("{name}, direct"));
        forwarded.print(&format!("{name}, forwarded"));
        let ratio = Spread::of_ratios(&forwarded.iops(), &direct.iops());
        let case = format!("forwarded {name}, depth 32");
        verdicts.extend(judged(&case, "IOPS / direct", ratio, OF_DIRECT, NOISE_DEEP));
    }
    Ok(verdicts)
}
