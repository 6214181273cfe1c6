//! Faults of all kinds, one after the other and two at once, from a seeded schedule, under load; then every byte and
//! every replica is checked.
//!
//! RINGSAN_SCHEDULE_SECONDS says how long each (10), RINGSAN_SCHEDULE_SEED which schedule (the time of day; it is
//! printed).

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tests::cluster::{Cluster, Load, Plan};
use tests::scratch::Random;

const SOME: u64 = 50;

/// What any cluster survives.
const FAULTS: [Fault; 13] = [
    Fault::KillFollower,
    Fault::KillLeader,
    Fault::KillAll,
    Fault::FreezeFollower,
    Fault::Cut,
    Fault::CutOneWay,
    Fault::MoveLead,
    Fault::KillInHandover,
    Fault::RestartFollower,
    Fault::RestartLeader,
    Fault::KillInResync,
    Fault::KillLeaderInResync,
    Fault::KillLeaderAndPromote,
];

#[test]
fn two_nodes_survive_a_seeded_schedule_of_faults() -> Result<()> {
    survive(&Plan::new(2), &FAULTS)
}

#[test]
fn three_nodes_of_which_a_majority_decides_survive_one() -> Result<()> {
    let plan = (0..3).fold(Plan::new(3), |plan, node| plan.size(node, 16 << 20));
    let faults = [&FAULTS[..], &[Fault::FreezeLeaderAndPromote]].concat();
    survive(&plan.volume_line("on_peer_loss = \"suspend\""), &faults)
}

fn survive(plan: &Plan, faults: &[Fault]) -> Result<()> {
    let (seconds, seed) =
        (setting("RINGSAN_SCHEDULE_SECONDS", 10)?, setting("RINGSAN_SCHEDULE_SEED", now())?);
    eprintln!("RINGSAN_SCHEDULE_SEED={seed} RINGSAN_SCHEDULE_SECONDS={seconds}");
    let Some(mut cluster) = Cluster::start(plan)? else { return Ok(()) };
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    let load = Load::start_faithful(&cluster, &[&all[..], &all].concat()).with_initiators(&cluster, &all);
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    while Instant::now() < end {
        let fault = faults[random.below(faults.len() as u64) as usize];
        let what = format!("seed {seed}, fault {count}: {fault:?}");
        eprintln!("{what}");
        let struck = fault.strike(&mut cluster, &load, &mut random).and_then(|()| cluster.recover());
        struck.with_context(|| what)?;
        count += 1;
    }
    load.await_progress(SOME)?;
    let (seen, expected) = load.end()?;
    eprintln!("{count} faults: {seen:?}");
    cluster.recover()?;
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

/// What befalls a cluster whose replicas are in sync.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillFollower,
    KillLeader,
    KillAll,
    FreezeFollower,
    FreezeLeaderAndPromote,
    Cut,
    CutOneWay,
    MoveLead,
    KillInHandover,
    RestartFollower,
    RestartLeader,
    KillInResync,
    KillLeaderInResync,
    KillLeaderAndPromote,
}

impl Fault {
    fn strike(self, cluster: &mut Cluster, load: &Load, random: &mut Random) -> Result<()> {
        load.await_progress(SOME)?;
        let count = cluster.nodes().len();
        let leader = cluster.leader().context("who is in sync has a leader")?;
        let follower = (leader + 1 + random.below(count as u64 - 1) as usize) % count;
        let coin = random.below(2) == 0;
        match self {
            Fault::KillFollower => {
                lose(cluster, load, leader, follower)?;
                cluster.node_mut(follower).start()
            }
            Fault::KillLeader => {
                cluster.node_mut(leader).kill()?;
                cluster.node_mut(leader).start()
            }
            Fault::KillAll => {
                let first = random.below(count as u64) as usize;
                let order: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
                order.iter().try_for_each(|node| cluster.node_mut(*node).kill())?;
                order.iter().rev().try_for_each(|node| cluster.node_mut(*node).start())
            }
            Fault::FreezeFollower => {
                cluster.node(follower).freeze()?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.node(follower).thaw()
            }
            Fault::FreezeLeaderAndPromote => {
                cluster.node(leader).freeze()?;
                cluster.await_promoted(follower)?;
                cluster.node(leader).thaw()
            }
            Fault::Cut => {
                cluster.cut(leader, follower)?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.heal(leader, follower)
            }
            Fault::CutOneWay => {
                let (from, to) = if coin { (leader, follower) } else { (follower, leader) };
                cluster.network().cut(from, to)?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.network().heal(from, to)
            }
            Fault::MoveLead => cluster.lead_by(follower),
            Fault::KillInHandover => {
                cluster.node(leader).control(&["demote", "db"])?;
                let promoted = coin && cluster.node(follower).control_tried(&["promote", "db"])?.0;
                let killed = if promoted { follower } else { leader };
                cluster.node_mut(killed).kill()?;
                cluster.node_mut(killed).start()
            }
            Fault::RestartFollower => {
                cluster.node_mut(follower).stop()?;
                cluster.node_mut(follower).start()
            }
            Fault::RestartLeader => {
                cluster.node_mut(leader).stop()?;
                cluster.node_mut(leader).start()
            }
            Fault::KillInResync => {
                lose(cluster, load, leader, follower)?;
                cluster.node_mut(follower).start()?;
                cluster.node_mut(follower).kill()?;
                cluster.node_mut(follower).start()
            }
            Fault::KillLeaderInResync => {
                lose(cluster, load, leader, follower)?;
                cluster.node_mut(follower).start()?;
                cluster.node_mut(leader).kill()?;
                cluster.node_mut(leader).start()
            }
            Fault::KillLeaderAndPromote => {
                cluster.node_mut(leader).kill()?;
                // two nodes have no majority without the one that is gone
                let words: &[&str] =
                    if count == 2 { &["promote", "db", "--force"] } else { &["promote", "db"] };
                cluster.await_control(follower, words)?;
                load.await_progress(SOME)?;
                cluster.node_mut(leader).start()
            }
        }
    }
}

/// Kills a follower, and has writes go on without it.
fn lose(cluster: &mut Cluster, load: &Load, leader: usize, follower: usize) -> Result<()> {
    cluster.node_mut(follower).kill()?;
    cluster.await_without(leader, follower)?;
    load.await_progress(SOME)
}

fn setting(name: &str, default: u64) -> Result<u64> {
    let value = std::env::var(name).ok();
    value.map_or(Ok(default), |value| value.parse().with_context(|| format!("{name}={value} is no number")))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs()
}
