//! Two nodes that hold one volume: a client of either is served, and what it writes is on both.

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Plan};
use tests::scratch::random;

#[test]
fn what_is_written_on_one_node_is_on_both() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let data = random(1, 1 << 20);
    let mut client = cluster.node(0).attach()?;
    client.write(4096, &data)?;
    client.flush()?;
    ensure!(cluster.node(1).attach()?.read(4096, 1 << 20)? == data, "b serves other bytes");
    cluster.stop_and_compare()
}
