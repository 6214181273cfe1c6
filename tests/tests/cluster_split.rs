//! Promotions by force on both sides of a cut: nothing is merged or overwritten, both sides say so, and an operator
//! names the copy that yields.

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, Plan};
use tests::scratch::random;

#[test]
fn the_copy_that_was_promoted_by_force_yields() -> Result<()> {
    split_and_discard(1)
}

#[test]
fn the_copy_that_was_left_behind_yields() -> Result<()> {
    split_and_discard(0)
}

#[test]
fn a_promotion_is_refused_while_the_leader_cannot_be_asked() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    cluster.cut(0, 1)?;
    cluster.await_without(0, 1)?;
    cluster.await_role(1, "consistent")?;
    let said = cluster.node(1).control_fails(&["promote", "db"])?;
    ensure!(said.contains("a may have gone on") && said.contains("--force"), "{said}");
    let said = cluster.node(1).control_fails(&["verify", "db"])?;
    ensure!(said.contains("lead"), "{said}");
    cluster.heal(0, 1)?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(0), "the lead has moved");
    cluster.stop_and_compare()
}

/// Writes on both sides of a cut, joins them, and has one copy yield.
fn split_and_discard(yields: usize) -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let common = random(1, 1 << 20);
    cluster.node(0).attach()?.write(0, &common)?;
    cluster.cut(0, 1)?;
    cluster.await_without(0, 1)?;
    cluster.await_control(1, &["promote", "db", "--force"])?;
    let own = [random(2, 1 << 20), random(3, 1 << 20)];
    for (node, own) in cluster.nodes().iter().zip(&own) {
        let mut client = node.attach()?;
        client.write(512 << 10, own)?;
        client.flush()?;
    }

    cluster.heal(0, 1)?;
    for (node, other) in [(0, "b: "), (1, "a: ")] {
        cluster.await_explained(node, &[other, "split brain", "discard"])?;
        let said = cluster.node(node).control(&["explain", "db"])?;
        ensure!(
            said.contains("Our history: a led epoch") && said.contains("Its history: a led epoch"),
            "no histories: {said}"
        );
        let status = cluster.node(node).control(&["status", "db"])?;
        ensure!(status.to_lowercase().contains("split brain"), "{status}");
        ensure!(cluster.node(node).attach()?.read(512 << 10, 1 << 20)? == own[node], "overwritten");
    }

    let names = ["a", "b"];
    let copy = format!("db@{}", names[yields]);
    let said = cluster.node(1 - yields).control_fails(&["discard", &copy])?;
    ensure!(said.contains(names[yields]), "{said}");
    let mut client = cluster.node(yields).attach()?;
    cluster.node(yields).control(&["discard", &copy])?;
    client.ended().context("a client of the copy that yields")?;
    cluster.await_in_sync()?;
    let kept = 1 - yields;
    ensure!(cluster.leader() == Some(kept), "the copy that was kept does not lead");
    for node in cluster.nodes() {
        let mut client = node.attach()?;
        ensure!(client.read(0, 512 << 10)? == common[..512 << 10], "what both had has changed");
        ensure!(client.read(512 << 10, 1 << 20)? == own[kept], "{} has other bytes", node.name());
    }
    cluster.stop_and_compare()
}
