//! Faults of all kinds, one after the other and two at once, from a seeded schedule, under load; then every byte and
//! every replica is checked.
//!
//! RINGSAN_SCHEDULE_SECONDS says how long (20), RINGSAN_SCHEDULE_SEED which schedule (the time of day; it is printed).

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tests::cluster::{Cluster, Load, Plan};
use tests::scratch::Random;

const SOME: u64 = 50;

#[test]
fn two_nodes_survive_a_seeded_schedule_of_faults() -> Result<()> {
    let (seconds, seed) =
        (setting("RINGSAN_SCHEDULE_SECONDS", 20)?, setting("RINGSAN_SCHEDULE_SEED", now())?);
    eprintln!("RINGSAN_SCHEDULE_SEED={seed} RINGSAN_SCHEDULE_SECONDS={seconds}");
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0, 1, 1]);
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut faults = 0;
    while Instant::now() < end {
        let fault = Fault::ALL[random.below(Fault::ALL.len() as u64) as usize];
        let what = format!("seed {seed}, fault {faults}: {fault:?}");
        eprintln!("{what}");
        fault.strike(&mut cluster, &load, random.below(2) as usize).context(what)?;
        faults += 1;
    }
    let (seen, expected) = load.end()?;
    eprintln!("{faults} faults: {seen:?}");
    cluster.await_in_sync()?;
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

/// What befalls a cluster whose replicas are in sync, and ends with replicas in sync.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillFollower,
    KillLeader,
    KillBoth,
    FreezeFollower,
    Cut,
    CutOneWay,
    MoveLead,
    RestartFollower,
    KillInResync,
    KillLeaderAndPromote,
}

impl Fault {
    const ALL: [Fault; 10] = [
        Fault::KillFollower,
        Fault::KillLeader,
        Fault::KillBoth,
        Fault::FreezeFollower,
        Fault::Cut,
        Fault::CutOneWay,
        Fault::MoveLead,
        Fault::RestartFollower,
        Fault::KillInResync,
        Fault::KillLeaderAndPromote,
    ];

    fn strike(self, cluster: &mut Cluster, load: &Load, coin: usize) -> Result<()> {
        cluster.await_in_sync()?;
        load.await_progress(SOME)?;
        let leader = cluster.leader().context("who is in sync has a leader")?;
        let follower = 1 - leader;
        match self {
            Fault::KillFollower => {
                cluster.node_mut(follower).kill()?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.node_mut(follower).start()
            }
            Fault::KillLeader => {
                cluster.node_mut(leader).kill()?;
                cluster.node_mut(leader).start()
            }
            Fault::KillBoth => {
                let order = [coin, 1 - coin];
                order.iter().try_for_each(|node| cluster.node_mut(*node).kill())?;
                order.iter().rev().try_for_each(|node| cluster.node_mut(*node).start())
            }
            Fault::FreezeFollower => {
                cluster.node(follower).freeze()?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.node(follower).thaw()
            }
            Fault::Cut => {
                cluster.cut(0, 1)?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.heal(0, 1)
            }
            Fault::CutOneWay => {
                cluster.network().cut(coin, 1 - coin)?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.network().heal(coin, 1 - coin)
            }
            Fault::MoveLead => cluster.lead_by(follower),
            Fault::RestartFollower => {
                cluster.node_mut(follower).stop()?;
                cluster.node_mut(follower).start()
            }
            Fault::KillInResync => {
                cluster.node_mut(follower).kill()?;
                cluster.await_without(leader, follower)?;
                load.await_progress(SOME)?;
                cluster.node_mut(follower).start()?;
                cluster.node_mut(follower).kill()?;
                cluster.node_mut(follower).start()
            }
            Fault::KillLeaderAndPromote => {
                cluster.node_mut(leader).kill()?;
                cluster.await_control(follower, &["promote", "db", "--force"])?;
                load.await_progress(SOME)?;
                cluster.node_mut(leader).start()
            }
        }
    }
}

fn setting(name: &str, default: u64) -> Result<u64> {
    let value = std::env::var(name).ok();
    value.map_or(Ok(default), |value| value.parse().with_context(|| format!("{name}={value} is no number")))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs()
}
