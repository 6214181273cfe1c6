//! 32 requests of 4 KiB at once, mirrored: beside one node alone, and beside QEMU's quorum.

use anyhow::Result;

use super::cluster::Cluster;
use super::quorum::Quorum;
use super::{Series, hold, judged, print_places, random_4k};
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::sample::{Client, Sample};
use crate::statistics::Spread;
use crate::verdict::{Goal, NOISE_DEEP, Verdict};

const OF_UNMIRRORED: [Goal; 2] = [Goal::AtLeast(0.35), Goal::AtLeast(0.5)];
const OF_QUORUM: [Goal; 2] = [Goal::AtLeast(3.0), Goal::AtLeast(5.0)];
const READS_OF_UNMIRRORED: [Goal; 2] = [Goal::AtLeast(0.95), Goal::AtLeast(1.0)];

struct Writes {
    unmirrored: Series,
    mirrored: Series,
    on_tmpfs: Series,
    quorum: Series,
}

struct Reads {
    unmirrored: Series,
    mirrored: Series,
}

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let plan = laboratory.plan;
    let backing = laboratory.unmade();
    let memory = Cluster::start(laboratory, BackingKind::Memory, backing.size_bytes)?;
    let tmpfs = Cluster::start(laboratory, BackingKind::Tmpfs, backing.size_bytes)?;
    let alone = laboratory.ringsan(&backing)?;
    let quorum = Quorum::start(laboratory, backing.size_bytes);
    let quorum = quorum.inspect_err(|error| println!("  SKIP quorum: {error:#}")).ok();
    print_places(&plan.method);
    let (write, read) = (random_4k(100, 32), random_4k(0, 32));
    let on_quorum = quorum.as_ref().map(|quorum| || quorum.measure(&plan.method, &write));
    let [unmirrored, mirrored, on_tmpfs, quorum] = hold(
        plan.rounds,
        [
            Some(&|| plan.method.measure(&alone, &write, Client::Gather)),
            Some(&|| memory.measure(laboratory, &memory.leader, &write)),
            Some(&|| tmpfs.measure(laboratory, &tmpfs.leader, &write)),
            on_quorum.as_ref().map(|take| take as &dyn Fn() -> Result<Sample>),
        ],
    )?;
    let [leader, other] = memory.cost_us(laboratory, &write)?;
    println!("  a mirrored write costs the leader {leader:.2} µs of CPU, the other node {other:.2} µs");
    let writes = Writes { unmirrored, mirrored, on_tmpfs, quorum };
    let [unmirrored, mirrored] = hold(
        plan.rounds,
        [
            Some(&|| plan.method.measure(&alone, &read, Client::Gather)),
            Some(&|| memory.measure(laboratory, &memory.leader, &read)),
        ],
    )?;
    let reads = Reads { unmirrored, mirrored };
    Ok(writes.judged().into_iter().chain(reads.judged()).collect())
}

impl Writes {
    fn judged(&self) -> Vec<Verdict> {
        self.unmirrored.print("write, unmirrored, memory");
        self.mirrored.print("write, mirrored, memory");
        self.on_tmpfs.print("write, mirrored, tmpfs");
        self.quorum.print("write, quorum, tmpfs");
        let of_quorum = |series: &Series| Spread::of_ratios(&series.iops(), &self.quorum.iops());
        if let Some(ratio) = of_quorum(&self.on_tmpfs) {
            println!("  mirrored on tmpfs, as the quorum is: {:.2} times the quorum", ratio.median);
        }
        let ratio = Spread::of_ratios(&self.mirrored.iops(), &self.unmirrored.iops());
        let case = "mirrored write, depth 32";
        let unmirrored = judged(case, "IOPS / unmirrored", ratio, OF_UNMIRRORED, NOISE_DEEP);
        let quorum = judged(case, "IOPS / qemu's quorum", of_quorum(&self.mirrored), OF_QUORUM, NOISE_DEEP);
        unmirrored.into_iter().chain(quorum).collect()
    }
}

impl Reads {
    fn judged(&self) -> [Verdict; 2] {
        self.unmirrored.print("read, unmirrored, memory");
        self.mirrored.print("read, mirrored, memory");
        let ratio = Spread::of_ratios(&self.mirrored.iops(), &self.unmirrored.iops());
        judged("mirrored read, depth 32", "IOPS / unmirrored", ratio, READS_OF_UNMIRRORED, NOISE_DEEP)
    }
}
