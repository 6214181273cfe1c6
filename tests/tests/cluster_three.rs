//! Three nodes of which a majority must agree: it promotes without force, a minority waits, and who was frozen or cut
//! off while others went on serves nothing that is old.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Load, Plan};

const SOME: u64 = 300;

fn plan() -> Plan {
    let small = |plan: Plan, node| plan.size(node, 16 << 20);
    (0..3).fold(Plan::new(3).volume_line("on_peer_loss = \"suspend\""), small)
}

#[test]
fn a_majority_goes_on_without_force_when_the_leader_dies() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&plan())? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 1, 2]);
    load.await_progress(SOME)?;
    cluster.node_mut(0).kill()?;
    cluster.await_promoted(1)?;
    load.await_progress(SOME)?;
    cluster.node_mut(0).start()?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(1), "the old leader leads again");
    finish(cluster, load, "a majority without its leader")
}

#[test]
fn one_lost_follower_stops_nobody_and_two_stop_writes_until_one_is_back() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&plan())? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0]);
    load.await_progress(SOME)?;
    cluster.node_mut(2).kill()?;
    cluster.await_without(0, 2)?;
    load.await_progress(SOME)?;
    cluster.node_mut(1).kill()?;
    cluster.await_role(0, "suspended")?;
    let said = cluster.node(0).control(&["explain", "db"])?;
    ensure!(said.contains("majority"), "{said}");
    cluster.node_mut(2).start()?;
    cluster.await_role(0, "leader")?;
    load.await_progress(SOME)?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    let (seen, expected) = load.end()?;
    eprintln!("a minority that waits: {seen:?}");
    ensure!(seen.errors == 0 && seen.lost == 0, "a request failed: {seen:?}");
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

#[test]
fn a_leader_that_was_frozen_serves_nothing_old() -> Result<()> {
    let Some(cluster) = Cluster::start(&plan())? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 1, 2]);
    load.await_progress(SOME)?;
    cluster.node(0).freeze()?;
    cluster.await_promoted(1)?;
    load.await_progress(SOME)?;
    cluster.node(0).thaw()?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(1), "the frozen leader leads again");
    load.await_progress(SOME)?;
    finish(cluster, load, "a frozen leader")
}

#[test]
fn a_leader_that_was_cut_off_serves_nothing_old() -> Result<()> {
    let Some(cluster) = Cluster::start(&plan())? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 1, 2]);
    load.await_progress(SOME)?;
    cluster.cut(0, 1)?;
    cluster.cut(0, 2)?;
    cluster.await_role(0, "suspended")?;
    cluster.await_promoted(1)?;
    load.await_progress(SOME)?;
    cluster.heal(0, 1)?;
    cluster.heal(0, 2)?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(1), "the leader that was cut off leads again");
    finish(cluster, load, "a leader that was cut off")
}

/// Ends the load, and checks every byte through all nodes and on all backings.
fn finish(cluster: Cluster, load: Load, what: &str) -> Result<()> {
    let (seen, expected) = load.end()?;
    eprintln!("{what}: {seen:?}");
    ensure!(seen.longest < Duration::from_secs(30), "a request took {:?}", seen.longest);
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}
