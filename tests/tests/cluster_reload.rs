//! A changed configuration of a mirrored volume, brought into force while it is used.

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Load, Plan};

const SUSPEND: &str = "on_peer_loss = \"suspend\"";
const SOME: u64 = 100;

#[test]
fn writes_that_wait_for_a_lost_peer_go_on_when_the_configuration_says_so() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2).volume_line(SUSPEND))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0]);
    load.await_progress(SOME)?;
    cluster.node_mut(1).kill()?;
    cluster.await_role(0, "suspended")?;
    let said = reload(&mut cluster, 0, &Plan::new(2))?;
    ensure!(said.contains("on_peer_loss = \"continue\"") && said.contains("other nodes"), "{said}");
    cluster.await_without(0, 1)?;
    load.await_progress(SOME)?;
    // and back again
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    for node in 0..2 {
        reload(&mut cluster, node, &Plan::new(2).volume_line(SUSPEND))?;
    }
    load.await_progress(SOME)?;
    cluster.node_mut(1).kill()?;
    cluster.await_role(0, "suspended")?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    let (seen, expected) = load.end()?;
    ensure!(seen.errors == 0 && seen.lost == 0, "a request failed: {seen:?}");
    expected.check(&mut cluster.node(1).attach()?)?;
    cluster.stop_and_compare()
}

#[test]
fn a_silent_peer_is_left_out_by_the_new_time() -> Result<()> {
    let patient = |plan: Plan| plan.volume_line("peer_timeout = \"60s\"");
    let Some(mut cluster) = Cluster::start(&patient(Plan::new(2)))? else { return Ok(()) };
    let mut client = cluster.node(0).attach()?;
    for node in 0..2 {
        let said = reload(&mut cluster, node, &Plan::new(2))?;
        ensure!(said.contains("peer_timeout = \"1s\""), "{said}");
    }
    cluster.node(1).freeze()?;
    client.write(0, &[7; 4096])?;
    cluster.await_without(0, 1)?;
    cluster.node(1).thaw()?;
    cluster.await_in_sync()?;
    // a peer that is less patient than the leader is asked in time
    let said = reload(&mut cluster, 0, &patient(Plan::new(2)))?;
    ensure!(said.contains("peer_timeout = \"1m\"") || said.contains("peer_timeout = \"60s\""), "{said}");
    client.write(4096, &[8; 4096])?;
    cluster.await_in_sync()?;
    cluster.stop_and_compare()
}

#[test]
fn of_three_nodes_each_must_be_restarted_before_another_rule_of_loss_holds() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(3).volume_line(SUSPEND))? else { return Ok(()) };
    let said = reload(&mut cluster, 0, &Plan::new(3))?;
    ensure!(said.contains("`on_peer_loss` of volume `db`") && said.contains("next start"), "{said}");
    cluster.stop_and_compare()
}

/// What `ringsan reload` says of the configuration that the node has by this plan.
fn reload(cluster: &mut Cluster, node: usize, plan: &Plan) -> Result<String> {
    let tables = plan.tables(node, cluster);
    cluster.node_mut(node).reconfigure(&tables)
}
