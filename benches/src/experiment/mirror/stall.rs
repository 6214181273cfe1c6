//! The longest that a client waits when the other node is killed, or frozen (SIGSTOP), while the client has requests.
//!
//! A frozen node keeps its links and says nothing: only the time tells that it is lost.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::cluster::{Cluster, PEER_TIMEOUT};
use super::{print_places, random_4k};
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::generator::{Generator, Until};
use crate::interrupt;
use crate::statistics::Spread;
use crate::tally::Figures;
use crate::verdict::{Goal, Kind, Verdict};

const LOAD_BEFORE: Duration = Duration::from_millis(500);
/// Longer than the bound, so that what stalls longer is seen.
const LOAD: Duration = Duration::from_secs(4);
/// Beside the time after which a peer counts as lost.
const MARGIN: Duration = Duration::from_millis(200);

/// How the node is lost, and how it comes back.
struct Loss {
    name: &'static str,
    begin: fn(&mut Cluster) -> Result<()>,
    end: fn(&mut Cluster) -> Result<()>,
}

const LOSSES: [Loss; 2] = [
    Loss {
        name: "killed",
        begin: |cluster| {
            cluster.follower.kill();
            Ok(())
        },
        end: |cluster| cluster.follower.start(),
    },
    Loss {
        name: "frozen",
        begin: |cluster| cluster.follower.freeze(),
        end: |cluster| cluster.follower.thaw(),
    },
];

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let plan = laboratory.plan;
    let mut cluster = Cluster::start(laboratory, BackingKind::Memory, plan.size_bytes)?;
    print_places(&plan.method);
    let mut verdicts = Vec::new();
    for loss in LOSSES {
        let mut stalls = Vec::new();
        for _ in 0..plan.rounds {
            interrupt::check()?;
            let figures = lose(&mut cluster, &loss)?;
            ensure!(
                figures.errors == 0,
                "{} requests failed while the other node was {}",
                figures.errors,
                loss.name
            );
            stalls.push(figures.latency.max_us / 1e6);
            (loss.end)(&mut cluster)?;
            cluster.await_in_sync()?;
        }
        println!("  the other node {}: longest stalls {stalls:.3?} s", loss.name);
        let longest = stalls.into_iter().reduce(f64::max);
        let goal = (Kind::Must, Goal::AtMost((PEER_TIMEOUT + MARGIN).as_secs_f64()));
        let case = format!("a peer is {}", loss.name);
        verdicts.push(Verdict::new(&case, "longest stall of a client, s", Spread::of(longest), goal, 0.0));
    }
    Ok(verdicts)
}

/// Half reads, half writes, while it happens.
fn lose(cluster: &mut Cluster, loss: &Loss) -> Result<Figures> {
    let mut generator = Generator::open(&cluster.leader.address, &random_4k(50, 32))?;
    let figures = thread::scope(|scope| {
        let client = scope.spawn(move || generator.run(Until::Elapsed(LOAD)));
        thread::sleep(LOAD_BEFORE);
        (loss.begin)(cluster)?;
        client.join().map_err(|_| anyhow!("the client panicked"))?
    })?;
    cluster.await_alone()?;
    Ok(figures)
}
