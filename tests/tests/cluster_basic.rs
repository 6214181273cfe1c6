//! Two nodes that hold one volume: a client of either is served, by NBD and iSCSI, what it writes is on both, and an
//! operator's commands do what they say.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Node, Plan};
use tests::scratch::random;
use tests::skip::lacks;

#[test]
fn what_is_written_on_one_node_is_on_both() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    ensure!(cluster.leader() == Some(0), "the first replica begins a new volume");
    let data = random(1, 1 << 20);
    let mut client = cluster.node(0).attach()?;
    client.write(4096, &data)?;
    client.flush()?;
    ensure!(cluster.node(1).attach()?.read(4096, 1 << 20)? == data, "b serves other bytes");
    cluster.stop_and_compare()
}

#[test]
fn a_client_of_a_node_that_does_not_lead_is_served() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let (mut near, mut far) = (cluster.node(0).attach()?, cluster.node(1).attach()?);
    ensure!(near.size_bytes == far.size_bytes && near.flags == far.flags, "two nodes show two volumes");
    for round in 0..50 {
        let (place, data) = (round * 40_000, random(round, 30_000));
        far.write(place, &data)?;
        ensure!(near.read(place, 30_000)? == data, "round {round}: the leader reads something else");
        near.write(place + 500, &data)?;
        ensure!(far.read(place + 500, 30_000)? == data, "round {round}: the other reads something else");
    }
    far.flush()?;
    cluster.stop_and_compare()
}

#[test]
fn iscsi_is_served_on_either_node() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let mut near = cluster.node(0).log_in("iqn.2026-11.test:near")?;
    let mut far = cluster.node(1).log_in("iqn.2026-11.test:far")?;
    far.write(8, &[7; 8192])?;
    ensure!(near.read(8, 16)? == [7; 8192], "the leader reads something else");
    near.write(16, &[8; 4096])?;
    ensure!(far.read(8, 16)? == [[7; 4096], [8; 4096]].concat(), "the other reads something else");
    let block = cluster.node(1).attach()?.read(4096, 8192)?;
    ensure!(block == [[7; 4096], [8; 4096]].concat(), "NBD reads something else than iSCSI");
    near.logout()?;
    far.logout()?;
    cluster.stop_and_compare()
}

#[test]
fn fio_verifies_through_the_node_that_does_not_lead() -> Result<()> {
    if lacks(&["fio"]) {
        return Ok(());
    }
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let job = ["--rw=randwrite", "--bsrange=512-64k", "--iodepth=16", "--size=16m", "--fsync=64"];
    cluster.fio(1, &job)?;
    cluster.stop_and_compare()
}

#[test]
fn the_lead_moves_when_an_operator_says_so() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let (a, b) = (cluster.node(0), cluster.node(1));
    let data = random(1, 1 << 20);
    let mut client = a.attach()?;
    client.write(0, &data)?;

    let said = b.control_fails(&["promote", "db"])?;
    ensure!(said.contains("a leads") && said.contains("demote"), "{said}");
    ensure!(a.control(&["demote", "db"])?.contains("a no longer leads"), "demote says otherwise");
    cluster.await_control(1, &["promote", "db"])?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(1), "b does not lead");

    ensure!(client.read(0, 1 << 20)? == data, "a client of a reads something else after the move");
    client.write(1 << 20, &data)?;
    ensure!(b.attach()?.read(0, 2 << 20)? == [&data[..], &data].concat(), "b serves something else");
    for node in [a, b] {
        let status = node.control(&["status", "db"])?;
        ensure!(status.contains("in sync") && status.contains("leader"), "{status}");
        let explained = node.control(&["explain", "db"])?;
        ensure!(explained.contains("in sync"), "{explained}");
    }
    cluster.stop_and_compare()
}

#[test]
fn clients_are_told_the_same_of_a_volume_by_all_nodes_whoever_leads() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    cluster.node(0).attach()?.write(0, &random(1, 1 << 20))?;
    let told = cluster.node(0).labels()?;
    ensure!(told.contains("x-ringsan:volume:") && told.contains("x-ringsan:incarnation:"), "{told}");
    for leader in [0, 1, 0] {
        cluster.lead_by(leader)?;
        for node in 0..2 {
            let now = cluster.node(node).labels()?;
            ensure!(now == told, "with the lead on {leader}, node {node} tells {now}, and a told {told}");
        }
        let follower = 1 - leader;
        cluster.node_mut(follower).stop()?;
        cluster.node_mut(follower).start()?;
        let now = cluster.node(follower).labels()?;
        ensure!(now == told, "after its restart, node {follower} tells {now}, and a told {told}");
        cluster.await_in_sync()?;
    }
    cluster.stop_and_compare()
}

#[test]
fn a_volume_made_at_run_time_is_mirrored_and_outlives_restarts() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let create = ["volume", "create", "more", "--size", "8M", "--replica", "a", "--replica", "b"];
    for node in cluster.nodes() {
        node.control(&create)?;
    }
    let in_sync = |cluster: &Cluster| {
        cluster.until("the new volume in sync", || {
            let all =
                |node: &Node| Ok(node.mirror_of("more")?["in_sync"].as_array().map_or(0, Vec::len) == 2);
            let each: Result<Vec<bool>> = cluster.nodes().iter().map(all).collect();
            Ok(each?.iter().all(|is| *is))
        })
    };
    in_sync(&cluster)?;
    let data = random(1, 1 << 20);
    cluster.node(1).attach_to("more")?.write(4096, &data)?;
    for node in 0..2 {
        cluster.node_mut(node).stop()?;
    }
    for node in 0..2 {
        cluster.node_mut(node).start()?;
    }
    in_sync(&cluster)?;
    for node in cluster.nodes() {
        ensure!(node.attach_to("more")?.read(4096, 1 << 20)? == data, "{} serves other bytes", node.name());
        node.control(&["volume", "rm", "more"])?;
    }
    cluster.stop_and_compare()
}

#[test]
fn a_forced_promotion_of_a_copy_in_sync_loses_nothing() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let data = random(1, 1 << 20);
    cluster.node(0).attach()?.write(0, &data)?;
    cluster.node(1).control(&["promote", "db", "--force"])?;
    cluster.await_in_sync()?;
    ensure!(cluster.leader() == Some(1), "b does not lead");
    ensure!(cluster.node(0).attach()?.read(0, 1 << 20)? == data, "a serves something else");
    cluster.stop_and_compare()
}

#[test]
fn a_byte_changed_under_a_replica_is_found_and_mended() -> Result<()> {
    let plan = Plan::new(2).size(0, 8 << 20).size(1, 8 << 20);
    let Some(cluster) = Cluster::start(&plan)? else { return Ok(()) };
    let mut client = cluster.node(0).attach()?;
    client.write(0, &random(1, 4 << 20))?;
    client.flush()?;
    let verify = |words: &[&str]| cluster.node(0).control(&[&["verify", "db"], words].concat());
    ensure!(verify(&[])?.contains("no differences"), "replicas differ from the start");

    let under = File::options().write(true).open(cluster.node(1).backing())?;
    under.write_all_at(b"rot", 1_234_567)?;
    under.sync_all()?;
    let said = cluster.node(0).control_fails(&["verify", "db"])?;
    ensure!(said.contains("b: ") && said.contains("--repair"), "{said}");
    let explained = cluster.node(0).control(&["explain", "db"])?;
    ensure!(explained.contains("differences"), "{explained}");
    let said = verify(&["--repair"])?;
    ensure!(said.contains("mended"), "{said}");
    ensure!(verify(&[])?.contains("no differences"), "the repair has left a difference");
    cluster.stop_and_compare()
}

#[test]
fn zeroes_and_trims_reach_both() -> Result<()> {
    const CMD_TRIM: u16 = 4;
    const CMD_WRITE_ZEROES: u16 = 6;
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let data = random(1, 4 << 20);
    let (mut near, mut far) = (cluster.node(0).attach()?, cluster.node(1).attach()?);
    near.write(0, &data)?;
    for (client, command, place) in [(&mut near, CMD_TRIM, 0), (&mut far, CMD_WRITE_ZEROES, 1 << 20)] {
        client.request(command, 0, place, place + 100, 1_000_000)?;
        ensure!(client.reply()? == (0, place), "command {command} at {place} failed");
    }
    far.request(CMD_TRIM, 0, 5, (2 << 20) + 100, 1_000_000)?;
    ensure!(far.reply()? == (0, 5), "a trim through the node that does not lead failed");
    let seen = near.read(0, 4 << 20)?;
    for place in [0, 1 << 20, 2 << 20] {
        ensure!(seen[place + 100..place + 1_000_100].iter().all(|byte| *byte == 0), "not zero at {place}");
        ensure!(seen[place..place + 100] == data[place..place + 100], "too much is zero before {place}");
        ensure!(
            seen[place + 1_000_100..][..40_000] == data[place + 1_000_100..][..40_000],
            "zero after {place}"
        );
    }
    ensure!(far.read(0, 4 << 20)? == seen, "the other reads something else");
    cluster.stop_and_compare()
}
