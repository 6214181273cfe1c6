//! Nodes that die, freeze, or are cut off under load: no acknowledged write is lost, the others go on within a bound,
//! and who comes back gets what it lacks, and no more.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::KIB;
use tests::cluster::{Cluster, Load, Plan, SIZE_BYTES, fio};
use tests::scratch::random;
use tests::skip::lacks;

/// By `peer_timeout` and 0.2 s on a machine that has nothing else to do; tests share theirs with others.
const STALL_MAX: Duration = Duration::from_secs(8);
/// Requests that are answered before, during and after a fault.
const SOME: u64 = 300;
/// What is sent at least of a region that has changed.
const REGION: u64 = 64 * KIB;

#[test]
fn a_follower_is_killed_and_comes_back() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 0, 1, 1]).with_initiators(&cluster, &[0, 1]);
    for _ in 0..2 {
        load.await_progress(SOME)?;
        cluster.node_mut(1).kill()?;
        cluster.await_without(0, 1)?;
        load.await_progress(SOME)?;
        let said = cluster.node(0).control_fails(&["demote", "db"])?;
        ensure!(said.contains("nobody") || said.contains("no other"), "{said}");
        cluster.node_mut(1).start()?;
        cluster.await_in_sync()?;
        load.await_progress(SOME)?;
    }
    finish(cluster, load, "a killed follower")
}

#[test]
fn the_leader_is_killed_and_comes_back() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 0, 1, 1]).with_initiators(&cluster, &[0, 1]);
    for leader in [0, 1] {
        let other = 1 - leader;
        load.await_progress(SOME)?;
        cluster.node_mut(leader).kill()?;
        let said = cluster.node(other).control_fails(&["promote", "db"])?;
        ensure!(said.contains("--force"), "{said}");
        cluster.await_control(other, &["promote", "db", "--force"])?;
        load.await_progress(SOME)?;
        cluster.node_mut(leader).start()?;
        cluster.await_in_sync()?;
        ensure!(cluster.leader() == Some(other), "the old leader leads again");
        load.await_progress(SOME)?;
    }
    finish(cluster, load, "a killed leader")
}

#[test]
fn the_leader_is_killed_and_leads_again() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 1]);
    load.await_progress(SOME)?;
    cluster.node_mut(0).kill()?;
    cluster.node_mut(0).start()?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    finish(cluster, load, "a restarted leader")
}

#[test]
fn all_nodes_are_killed_and_come_back() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 0, 1, 1]);
    for order in [[0, 1], [1, 0]] {
        load.await_progress(SOME)?;
        for node in order {
            cluster.node_mut(node).kill()?;
        }
        for node in order {
            cluster.node_mut(node).start()?;
        }
        cluster.await_in_sync()?;
        load.await_progress(SOME)?;
    }
    finish(cluster, load, "a restart of all")
}

#[test]
fn a_follower_freezes_and_thaws() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0, 0]);
    load.await_progress(SOME)?;
    load.take_seen();
    cluster.node(1).freeze()?;
    cluster.await_without(0, 1)?;
    load.await_progress(SOME)?;
    cluster.node(1).thaw()?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    finish(cluster, load, "a frozen follower")
}

#[test]
fn a_cut_link_heals() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0, 0]);
    for (one, other) in [(true, true), (true, false), (false, true)] {
        load.await_progress(SOME)?;
        let network = cluster.network();
        let apply = |change: &dyn Fn(usize, usize) -> Result<()>| -> Result<()> {
            if one {
                change(0, 1)?
            }
            if other {
                change(1, 0)?
            }
            Ok(())
        };
        apply(&|from, to| network.cut(from, to))?;
        cluster.await_without(0, 1)?;
        load.await_progress(SOME)?;
        apply(&|from, to| network.heal(from, to))?;
        cluster.await_in_sync()?;
    }
    finish(cluster, load, "a cut link")
}

#[test]
fn clients_of_the_node_that_is_cut_off_go_on_when_it_is_back() -> Result<()> {
    let Some(cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 1, 1]);
    load.await_progress(SOME)?;
    cluster.cut(0, 1)?;
    cluster.await_without(0, 1)?;
    load.await_progress(SOME)?;
    cluster.heal(0, 1)?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    load.take_seen();
    finish(cluster, load, "after a cut")
}

#[test]
fn only_what_it_lacks_is_sent_to_who_comes_back() -> Result<()> {
    const REGIONS: u64 = 32;
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let mut client = cluster.node(0).attach()?;
    client.write(0, &random(1, 8 << 20))?;
    client.flush()?;
    cluster.await_mirror(0, "has no marks left", |mirror| mirror["active_extents"] == 0)?;
    cluster.node_mut(1).kill()?;
    cluster.await_without(0, 1)?;
    for region in 0..REGIONS {
        client.write(SIZE_BYTES / REGIONS * region + 1000, &random(region, 5000))?;
    }
    let view = cluster.node(0).view_of("b")?;
    let before = cluster.node(0).sent_bytes()?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    let sent = cluster.node(0).sent_bytes()? - before;
    eprintln!("{sent} bytes sent for {REGIONS} regions of {REGION} bytes; {view}");
    ensure!(view["resync_bytes"] == REGIONS * REGION, "{view}");
    let (least, most) = (REGIONS * REGION, REGIONS * REGION * 21 / 20 + 64 * KIB);
    ensure!((least..=most).contains(&sent), "{sent} bytes sent");
    drop(client);
    cluster.stop_and_compare()
}

#[test]
fn fio_verifies_while_a_follower_comes_and_goes() -> Result<()> {
    if lacks(&["fio"]) {
        return Ok(());
    }
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let uri = cluster.node(0).uri();
    let (clients, folder) = (cluster.network().middle().clone(), cluster.scratch().path().to_owned());
    thread::scope(|scope| -> Result<()> {
        let job = ["--rw=randwrite", "--bsrange=512-64k", "--iodepth=16", "--size=16m", "--fsync=64"];
        let fio = scope.spawn(move || clients.run(|| fio(&uri, &job, &folder).ok()));
        while !fio.is_finished() {
            cluster.node_mut(1).kill()?;
            cluster.await_without(0, 1)?;
            cluster.node_mut(1).start()?;
            cluster.await_in_sync()?;
        }
        fio.join().expect("it does not panic").map(drop)
    })?;
    cluster.stop_and_compare()
}

#[test]
fn bytes_of_another_time_are_noticed() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 1]).with_initiators(&cluster, &[0, 1]);
    load.await_progress(SOME)?;
    let earlier = fs::read(cluster.node(0).backing())?;
    load.await_progress(SOME)?;
    let (_, expected) = load.end()?;
    expected.check(&mut cluster.node(0).attach()?)?;
    for node in 0..2 {
        cluster.node_mut(node).stop()?;
        fs::write(cluster.node(node).backing(), &earlier)?;
        cluster.node_mut(node).start()?;
    }
    cluster.recover()?;
    let wrong = expected.check(&mut cluster.node(0).attach()?);
    ensure!(wrong.is_err(), "the checker finds nothing wrong with what was there before");
    Ok(())
}

/// Ends the load, checks every byte through both nodes and on both backings, and tells the longest stall.
fn finish(cluster: Cluster, load: Load, what: &str) -> Result<()> {
    let (seen, expected) = load.end()?;
    eprintln!("{what}: {seen:?}");
    ensure!(seen.errors == 0, "{} requests failed", seen.errors);
    ensure!(seen.longest < STALL_MAX, "a request took {:?}", seen.longest);
    cluster.await_in_sync()?;
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}
