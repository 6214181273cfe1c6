//! Disks of nodes that fail, fill up, or lose what was not flushed with their power.

use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, Disk, Load, Plan, VOLUME, lacks_disks};
use tests::device::Mount;
use tests::ledger::Ledger;
use tests::scratch::random;
use tests::skip::lacks_root_and;
use tests::{MIB, Scratch, Tool};

const SOME: u64 = 300;
/// Small, as all of it is sent when it begins on disks that were there before.
const SIZE_BYTES: u64 = 8 * MIB;

#[test]
fn a_follower_whose_disk_fails_is_left_out_until_it_works() -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let disk = Disk::failing(scratch.path(), SIZE_BYTES, "EIO")?;
    let Some(mut cluster) = Cluster::start(&plan().backing(1, disk.path().to_owned()))? else {
        return Ok(());
    };
    let load = Load::start_faithful(&cluster, &[0, 0, 1]);
    load.await_progress(SOME)?;
    disk.set_failing(true)?;
    cluster.await_without(0, 1)?;
    load.await_progress(SOME)?;
    let explained = cluster.node(1).control(&["explain", "db"])?;
    ensure!(explained.contains("disk"), "{explained}");
    disk.set_failing(false)?;
    cluster.node_mut(1).stop()?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    let (seen, expected) = load.end()?;
    ensure!(seen.errors == 0, "clients have seen {} errors of a disk that is not the leader's", seen.errors);
    expected.check(&mut cluster.node(1).attach()?)?;
    cluster.stop_and_compare()
}

#[test]
fn a_follower_whose_disk_is_full_is_left_out_until_there_is_room() -> Result<()> {
    if lacks_root_and(&[]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let small = Mount::tmpfs(&scratch.join("small"), 16 * MIB)?;
    let Some(mut cluster) = Cluster::start(&Plan::new(2).backing(1, small.path().join("db.img")))? else {
        return Ok(());
    };
    let mut client = cluster.node(0).attach()?;
    for number in 0..24 {
        client.write(number * MIB, &random(number, MIB as usize)).context("on the node that has room")?;
    }
    client.flush()?;
    cluster.await_without(0, 1)?;
    Tool::new("mount").args(["-o", "remount,size=128M"]).arg(small.path()).ok()?;
    cluster.node_mut(1).stop()?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    ensure!(cluster.node(1).attach()?.read(20 * MIB, MIB as u32)? == random(20, MIB as usize), "other bytes");
    drop(client);
    cluster.stop_and_compare()
}

#[test]
fn a_follower_whose_disk_hangs_is_left_out() -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let disk = Disk::cached(scratch.path(), SIZE_BYTES)?;
    let Some(cluster) = Cluster::start(&plan().backing(1, disk.path().to_owned()))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 0]);
    load.await_progress(SOME)?;
    disk.set_hanging(true)?;
    let left_out = cluster.await_without(0, 1).and_then(|()| load.await_progress(SOME));
    disk.set_hanging(false)?;
    left_out?;
    cluster.await_in_sync()?;
    let (seen, expected) = load.end()?;
    eprintln!("a follower's hanging disk: {seen:?}");
    ensure!(seen.errors == 0, "clients have seen {} errors of a disk that is not the leader's", seen.errors);
    expected.check(&mut cluster.node(1).attach()?)?;
    cluster.stop_and_compare()
}

#[test]
fn a_leader_whose_disk_hangs_can_be_replaced() -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let disk = Disk::cached(scratch.path(), SIZE_BYTES)?;
    let Some(cluster) = Cluster::start(&plan().backing(0, disk.path().to_owned()))? else { return Ok(()) };
    let load = Load::start_faithful(&cluster, &[0, 1]);
    load.await_progress(SOME)?;
    disk.set_hanging(true)?;
    let replaced = cluster
        .await_control(1, &["promote", "db", "--force"])
        .and_then(|()| cluster.await_role(1, "leader"))
        .and_then(|()| load.await_progress(SOME));
    disk.set_hanging(false)?;
    replaced?;
    cluster.await_in_sync()?;
    let (seen, expected) = load.end()?;
    eprintln!("a leader's hanging disk: {seen:?}");
    expected.check(&mut cluster.node(0).attach()?)?;
    cluster.stop_and_compare()
}

#[test]
fn a_replica_in_memory_is_filled_again_when_its_node_has_restarted() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&plan().backing(1, "memory".into()))? else { return Ok(()) };
    let data = random(1, 1 << 20);
    cluster.node(0).attach()?.write(0, &data)?;
    for leader in [0, 1] {
        cluster.lead_by(leader)?;
        cluster.node_mut(1).kill()?;
        cluster.node_mut(1).start()?;
        if leader == 1 {
            // who led has forgotten all, and cannot be asked what it did alone
            cluster.await_control(0, &["promote", "db", "--force"])?;
        }
        cluster.await_in_sync()?;
        for node in cluster.nodes() {
            ensure!(node.attach()?.read(0, 1 << 20)? == data, "{} has other bytes", node.name());
        }
    }
    cluster.node(0).control(&["verify", "db"]).map(drop)
}

#[test]
fn a_leader_whose_disk_fails_gives_way() -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let disk = Disk::failing(scratch.path(), SIZE_BYTES, "EIO")?;
    let Some(mut cluster) = Cluster::start(&plan().backing(0, disk.path().to_owned()))? else {
        return Ok(());
    };
    let load = Load::start_hot(&cluster, &[0, 0, 1]);
    load.await_progress(SOME)?;
    disk.set_failing(true)?;
    cluster.await_role(0, "failed")?;
    cluster.await_promoted(1)?;
    load.await_progress(SOME)?;
    disk.set_failing(false)?;
    cluster.node_mut(0).stop()?;
    cluster.node_mut(0).start()?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    let (seen, expected) = load.end()?;
    eprintln!("a leader's failing disk: {seen:?}");
    expected.check(&mut cluster.node(0).attach()?)?;
    cluster.stop_and_compare()
}

#[test]
fn a_follower_loses_its_power() -> Result<()> {
    power_losses(&[&[1], &[1]])
}

#[test]
fn the_leader_loses_its_power() -> Result<()> {
    power_losses(&[&[0], &[0]])
}

#[test]
fn all_lose_their_power() -> Result<()> {
    power_losses(&[&[0, 1], &[1, 0]])
}

#[test]
fn one_node_without_power_loses_nothing_that_was_acknowledged() -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let Some((mut disks, mut cluster)) = on_cached_disks(&scratch)? else { return Ok(()) };
    let load = Load::start(&cluster, &[0, 0, 1]);
    load.await_progress(SOME)?;
    cut_power(&mut cluster, &mut disks, 1)?;
    cluster.await_without(0, 1)?;
    load.await_progress(SOME)?;
    power_on(&mut cluster, &mut disks, 1)?;
    cluster.await_in_sync()?;
    load.await_progress(SOME)?;
    cut_power(&mut cluster, &mut disks, 0)?;
    cluster.await_control(1, &["promote", "db", "--force"])?;
    load.await_progress(SOME)?;
    power_on(&mut cluster, &mut disks, 0)?;
    cluster.await_in_sync()?;
    let (seen, expected) = load.end()?;
    eprintln!("power lost on one node: {seen:?}");
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

fn plan() -> Plan {
    Plan::new(2).size(0, SIZE_BYTES).size(1, SIZE_BYTES)
}

/// Cuts the power of these nodes while they are written to and flushed; what was flushed is there in the end.
fn power_losses(rounds: &[&[usize]]) -> Result<()> {
    if lacks_disks() {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let Some((mut disks, mut cluster)) = on_cached_disks(&scratch)? else { return Ok(()) };
    let mut ledgers: Vec<Ledger> = (0..2).map(|writer| Ledger::new(writer * 512, 512, writer)).collect();
    for (round, nodes) in rounds.iter().enumerate() {
        power_loss(&mut cluster, &mut disks, &mut ledgers, nodes)
            .with_context(|| format!("round {round}"))?;
    }
    cluster.stop_and_compare()
}

fn power_loss(
    cluster: &mut Cluster,
    disks: &mut [Disk],
    ledgers: &mut [Ledger],
    nodes: &[usize],
) -> Result<()> {
    const FLUSHES: usize = 20;
    cluster.lead_by(0)?;
    let address = cluster.node(0).address();
    let clients = cluster.network().middle().clone();
    let (flushed, seen) = mpsc::channel();
    thread::scope(|scope| {
        for ledger in ledgers.iter_mut() {
            let (flushed, clients) = (flushed.clone(), &clients);
            scope.spawn(move || clients.run(|| ledger.write_until_lost(address, VOLUME, &flushed)));
        }
        drop(flushed);
        let count = seen.iter().take(FLUSHES).count();
        ensure!(count == FLUSHES, "the writers stopped after {count} flushes");
        for node in nodes {
            cut_power(cluster, disks, *node)?;
        }
        if !nodes.contains(&0) {
            // the writers go on, on the leader
            let count = seen.iter().take(FLUSHES).count();
            ensure!(count == FLUSHES, "the writers stopped after {count} flushes without the other node");
        }
        for node in nodes {
            power_on(cluster, disks, *node)?;
        }
        cluster.await_in_sync()?;
        if !nodes.contains(&0) {
            cluster.node_mut(0).kill()?; // which ends the writers
            cluster.node_mut(0).start()?;
            cluster.await_in_sync()?;
        }
        Ok(())
    })?;
    for node in cluster.nodes() {
        let mut client = node.attach()?;
        ledgers.iter_mut().try_for_each(|ledger| ledger.verify(&mut client))?;
    }
    Ok(())
}

/// Two nodes whose disks have a volatile cache each.
fn on_cached_disks(scratch: &Scratch) -> Result<Option<([Disk; 2], Cluster)>> {
    let folders = ["a", "b"].map(|name| scratch.join(name));
    folders.iter().try_for_each(std::fs::create_dir)?;
    let disks = [Disk::cached(&folders[0], SIZE_BYTES)?, Disk::cached(&folders[1], SIZE_BYTES)?];
    // past the page cache, this file system forgets that a write is to be durable
    let plan = plan().volume_line("cache = \"buffered\"");
    let plan = (0..2).fold(plan, |plan, node| plan.backing(node, disks[node].path().to_owned()));
    Ok(Cluster::start(&plan)?.map(|cluster| (disks, cluster)))
}

/// A node is gone at once, and with it all that its disk had not made durable.
fn cut_power(cluster: &mut Cluster, disks: &mut [Disk], node: usize) -> Result<()> {
    // it must not see its disk go before it goes itself
    cluster.node(node).freeze()?;
    disks[node].power_off()?;
    cluster.node_mut(node).kill()?;
    cluster.node(node).forget_boot()
}

fn power_on(cluster: &mut Cluster, disks: &mut [Disk], node: usize) -> Result<()> {
    disks[node].power_on()?;
    cluster.node_mut(node).start()
}
