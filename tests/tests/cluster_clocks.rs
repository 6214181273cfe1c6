//! Clocks that differ, and clocks that jump: nothing that is old is read, nothing acknowledged is lost, and a node whose
//! clock has jumped says so.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Clock, Cluster, Load, Plan};
use tests::skip::{lacks, skip};

const SOME: u64 = 300;
const DAYS: u32 = 3;
/// In seconds.
const UPTIME: &str = "864000";

#[test]
fn nodes_whose_clocks_differ_by_days() -> Result<()> {
    let Some(mut cluster) = Cluster::lay(&Plan::new(2))? else { return Ok(()) };
    if lacks(&["unshare"]) || !Clock::wall_off(cluster.node_mut(1), -10) {
        return Ok(());
    }
    if !Path::new("/proc/self/ns/time").exists() && skip("this kernel has no time namespaces") {
        return Ok(());
    }
    let ahead = ["unshare", "--time", "--monotonic", UPTIME, "--boottime", UPTIME, "--"];
    cluster.node_mut(1).change(|launch| launch.under(&ahead));
    for node in 0..2 {
        cluster.node_mut(node).start()?;
    }
    cluster.await_in_sync()?;
    let load = Load::start_faithful(&cluster, &[0, 1]).with_initiators(&cluster, &[0, 1]);
    load.await_progress(SOME)?;
    for leader in [1, 0] {
        cluster.lead_by(leader)?;
        load.await_progress(SOME)?;
    }
    let (seen, expected) = load.end()?;
    ensure!(seen.errors == 0, "a request failed: {seen:?}");
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

#[test]
fn a_clock_that_jumps_on_a_leader_or_a_follower() -> Result<()> {
    jumps(&Plan::new(2))
}

#[test]
fn a_clock_that_jumps_where_a_majority_decides() -> Result<()> {
    let small = |plan: Plan, node| plan.size(node, 16 << 20);
    jumps(&(0..3).fold(Plan::new(3).volume_line("on_peer_loss = \"suspend\""), small))
}

/// The clocks of one after the other jump, under load.
fn jumps(plan: &Plan) -> Result<()> {
    let Some(mut cluster) = Cluster::lay(plan)? else { return Ok(()) };
    let nodes: Vec<usize> = (0..cluster.nodes().len()).collect();
    let mut clocks = Vec::new();
    for node in &nodes {
        let Some(clock) = Clock::of(cluster.node_mut(*node))? else { return Ok(()) };
        clocks.push(clock);
        cluster.node_mut(*node).start()?;
    }
    cluster.await_in_sync()?;
    let load = Load::start_faithful(&cluster, &nodes).with_initiators(&cluster, &nodes);
    for (node, clock) in clocks.iter().enumerate() {
        load.await_progress(SOME)?;
        clock.jump(DAYS)?;
        let target = cluster.node(node).target()?;
        target.await_log(&["its clock has jumped"]).context("what the node says")?;
        cluster.await_in_sync()?;
    }
    load.await_progress(SOME)?;
    ensure!(cluster.leader() == Some(0), "somebody else leads");
    let (seen, expected) = load.end()?;
    eprintln!("clocks that jump: {seen:?}");
    ensure!(seen.errors == 0, "a request failed: {seen:?}");
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}
