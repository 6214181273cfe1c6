//! What nodes refuse of one another: the thing, the cause and the next step are said, and no data is touched.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tests::cluster::{Cluster, Corrupter, Load, NodeCertificates, Plan, SIZE_BYTES, VOLUME, address};
use tests::scratch::random;
use tests::{MIB, Scratch, Tool};

#[test]
fn sizes_that_differ() -> Result<()> {
    let plan = Plan::new(2).size(1, SIZE_BYTES / 2);
    let Some(mut cluster) = Cluster::lay(&plan)? else { return Ok(()) };
    start_both(&mut cluster)?;
    for node in 0..2 {
        cluster.await_explained(node, &["67108864", "33554432", "same `size`"])?;
        ensure!(cluster.node(node).mirror()?["leader"].is_null(), "it leads");
    }
    Ok(())
}

#[test]
fn a_size_that_was_changed_on_one_node() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let data = random(1, MIB as usize);
    let mut client = cluster.node(0).attach()?;
    client.write(0, &data)?;
    let larger = Plan::new(2).size(1, 2 * SIZE_BYTES).tables(1, &cluster);
    let refused = cluster.node_mut(1).reconfigure(&larger);
    let said = format!("{:#}", refused.err().context("a reload refuses it")?);
    ensure!(said.contains("is mirrored") && said.contains("ringsan-nbd copy"), "{said}");
    cluster.node_mut(1).stop()?;
    cluster.await_without(0, 1)?;
    let before = fs::read(cluster.node(1).backing())?;
    let said = match cluster.node_mut(1).start() {
        Err(error) => format!("{error:#}"),
        Ok(()) => {
            let said = trouble_of(&cluster)?;
            cluster.node_mut(1).stop()?;
            said
        }
    };
    ensure!(said.contains("size"), "{said}");
    ensure!(fs::read(cluster.node(1).backing())? == before, "the data has changed");
    let right = Plan::new(2).tables(1, &cluster);
    cluster.node_mut(1).change(|launch| launch.tables(&right));
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    ensure!(client.read(0, MIB as u32)? == data, "a serves other bytes");
    drop(client);
    cluster.stop_and_compare()
}

#[test]
fn a_volume_of_the_same_name_that_began_elsewhere() -> Result<()> {
    let Some(mut cluster) = Cluster::lay(&Plan::new(2))? else { return Ok(()) };
    cluster.cut(0, 1)?;
    start_both(&mut cluster)?;
    for node in 0..2 {
        let said = cluster.node(node).control_fails(&["promote", "db"])?;
        ensure!(said.contains("new") && said.contains("--force"), "{said}");
        cluster.node(node).control(&["promote", "db", "--force"])?;
        cluster.node(node).attach()?.write(0, &[node as u8 + 1; 65_536])?;
    }
    cluster.heal(0, 1)?;
    for node in 0..2 {
        cluster.await_explained(node, &["another volume", "discard"])?;
        let bytes = cluster.node(node).attach()?.read(0, 65_536)?;
        ensure!(bytes == [node as u8 + 1; 65_536], "{} has other bytes", cluster.node(node).name());
    }
    Ok(())
}

#[test]
fn another_key_and_none() -> Result<()> {
    let keys = Scratch::new()?;
    let mut lines = Vec::new();
    for (name, key) in
        [("one", "0123456789abcdef0123456789abcdef"), ("other", "fedcba9876543210fedcba9876543210")]
    {
        let path = keys.text(name, key)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        lines.push(format!("key_file = {:?}", path.display().to_string()));
    }
    let plan = Plan::new(2).mirror_line(0, &lines[0]).mirror_line(1, &lines[1]);
    let Some(mut cluster) = Cluster::lay(&plan)? else { return Ok(()) };
    start_both(&mut cluster)?;
    for node in 0..2 {
        cluster
            .await_explained(node, &["different shared keys: give both the same `key_file` in [mirror]"])?;
        let said = cluster.node(node).explanation()?;
        ensure!(!said.contains("Look whether"), "a second, wrong step: {said}");
    }
    // none at all
    cluster.node_mut(1).stop()?;
    let bare = Plan::new(2).tables(1, &cluster);
    cluster.node_mut(1).change(|launch| launch.tables(&bare));
    cluster.node_mut(1).start()?;
    for node in 0..2 {
        cluster.await_explained(node, &["a shared key", "configure both alike"])?;
    }
    // the right one
    cluster.node_mut(1).stop()?;
    let right = Plan::new(2).mirror_line(1, &lines[0]).tables(1, &cluster);
    cluster.node_mut(1).change(|launch| launch.tables(&right));
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    cluster.stop_and_compare()
}

#[test]
fn a_certificate_of_another_authority_or_node() -> Result<()> {
    let scratch = Scratch::new()?;
    let ours = NodeCertificates::make(&scratch.join("ours"), &["a", "b"])?;
    let others = NodeCertificates::make(&scratch.join("others"), &["b"])?;
    let lines = [ours.lines("a", &ours), others.lines("b", &ours)];
    let plan = Plan::new(2).mirror_line(0, &lines[0]).mirror_line(1, &lines[1]);
    let Some(mut cluster) = Cluster::lay(&plan)? else { return Ok(()) };
    start_both(&mut cluster)?;
    for (node, other) in [(0, "b: not linked"), (1, "a: not linked")] {
        cluster
            .await_explained(node, &[other, "TLS", "give each node a certificate", "`tls_ca` in [mirror]"])?;
    }
    // that of another node, which the configuration refuses at once
    cluster.node_mut(1).stop()?;
    let wrong = Plan::new(2).mirror_line(1, &ours.lines("a", &ours)).tables(1, &cluster);
    cluster.node_mut(1).change(|launch| launch.tables(&wrong));
    let said = cluster.node(1).refused(1)?;
    ensure!(said.contains("is not that of the node `b`"), "{said}");
    // its own
    let right = Plan::new(2).mirror_line(1, &ours.lines("b", &ours)).tables(1, &cluster);
    cluster.node_mut(1).change(|launch| launch.tables(&right));
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    let data = random(1, 1 << 20);
    cluster.node(1).attach()?.write(0, &data)?;
    ensure!(cluster.node(0).attach()?.read(0, 1 << 20)? == data, "a serves other bytes");
    cluster.stop_and_compare()
}

#[test]
fn two_nodes_with_one_name() -> Result<()> {
    let Some(mut cluster) = Cluster::lay(&Plan::new(2))? else { return Ok(()) };
    // the file of a, carried to b as it is
    let same = Plan::new(2).tables(0, &cluster);
    let backing = cluster.node(1).backing().display().to_string();
    let same = same.replace(&cluster.node(0).backing().display().to_string(), &backing);
    cluster.node_mut(1).change(|launch| launch.tables(&same));
    start_both(&mut cluster)?;
    cluster.await_explained(0, &["two nodes are named `a`: give one of them another name"])?;
    ensure!(cluster.node(0).mirror()?["leader"].is_null(), "it leads");
    Ok(())
}

#[test]
fn a_peer_that_is_not_who_it_says() -> Result<()> {
    let Some(mut cluster) = Cluster::lay(&Plan::new(3).replicas(2))? else { return Ok(()) };
    start_both(&mut cluster)?;
    cluster.until("a and b in sync", || {
        Ok(cluster.node(0).mirror()?["in_sync"].as_array().is_some_and(|set| set.len() == 2))
    })?;
    let data = random(1, 1 << 20);
    cluster.node(0).attach()?.write(0, &data)?;
    // c calls itself b
    let impostor = format!(
        "[node]\nname = \"b\"\n[peers]\na = \"{}:9811\"\n[[volume]]\nname = {VOLUME:?}\nbacking = {:?}\nsize = {SIZE_BYTES}\n\
         replicas = [\"a\", \"b\"]\n",
        address(0),
        cluster.node(2).backing().display().to_string(),
    );
    cluster.node_mut(2).change(|launch| launch.tables(&impostor));
    cluster.node_mut(2).start()?;
    cluster
        .await_explained(2, &["a: not linked", "who calls itself node `b` comes from", "correct [peers]"])?;
    let status = cluster.node(0).control(&["status"])?;
    ensure!(
        status.contains("links of other nodes refused: ") && !status.contains("clients dropped"),
        "{status}"
    );
    cluster.node(2).control_fails(&["promote", "db"])?;
    for node in 0..2 {
        ensure!(cluster.node(node).attach()?.read(0, 1 << 20)? == data, "other bytes");
    }
    // also when the one that it says it is has gone
    cluster.node_mut(1).kill()?;
    cluster.await_without(0, 1)?;
    cluster
        .await_mirror(2, "has tried again", |mirror| !mirror["replicas"][0]["link"]["trouble"].is_null())?;
    ensure!(cluster.node(0).view_of("b")?["state"] == "absent", "the impostor is linked");
    Ok(())
}

#[test]
fn a_copied_state_directory() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let data = random(1, MIB as usize);
    let mut client = cluster.node(0).attach()?;
    client.write(0, &data)?;
    cluster.node_mut(1).stop()?;
    cluster.await_without(0, 1)?;
    let (from, to) = (cluster.node(0).state(), cluster.node(1).state());
    let kept = to.with_extension("kept");
    fs::rename(&to, &kept)?;
    copy(&from, &to)?;
    let before = fs::read(cluster.node(1).backing())?;
    let said = match cluster.node_mut(1).start() {
        Err(error) => format!("{error:#}"),
        Ok(()) => {
            cluster.until("b says what is wrong", || Ok(!trouble_of(&cluster)?.is_empty()))?;
            let said = trouble_of(&cluster)?;
            cluster.node_mut(1).stop()?;
            said
        }
    };
    ensure!(said.contains("copied"), "{said}");
    ensure!(fs::read(cluster.node(1).backing())? == before, "the data has changed");
    client.write(MIB, &data).context("a serves on")?;
    fs::remove_dir_all(&to)?;
    fs::rename(&kept, &to)?;
    cluster.node_mut(1).start()?;
    cluster.await_in_sync()?;
    drop(client);
    cluster.stop_and_compare()
}

#[test]
fn a_corrupt_frame_ends_the_link_which_recovers() -> Result<()> {
    let wire: SocketAddr = "127.0.0.1:9911".parse()?;
    let Some(mut cluster) = Cluster::lay(&Plan::new(2).peer(1, 0, &wire.to_string()))? else { return Ok(()) };
    let corrupter = Corrupter::start(cluster.network().node(1), wire, SocketAddr::new(address(0), 9811))?;
    start_both(&mut cluster)?;
    cluster.await_in_sync()?;
    let load = Load::start_faithful(&cluster, &[0, 0, 1]);
    for round in 0..5 {
        load.await_progress(100)?;
        let before = corrupt_frames(&cluster)?;
        corrupter.flip(1);
        cluster
            .until("the frame is found corrupt", || Ok(corrupt_frames(&cluster)? > before))
            .with_context(|| format!("round {round}"))?;
        cluster.await_in_sync()?;
    }
    ensure!(corrupter.left() == 0, "not every bit was flipped");
    let metrics = cluster.node(0).get("/metrics")? + &cluster.node(1).get("/metrics")?;
    ensure!(metrics.contains("corrupt"), "the metrics do not count them");
    let (seen, expected) = load.end()?;
    eprintln!("corrupt frames: {seen:?}");
    for node in cluster.nodes() {
        expected.check(&mut node.attach()?)?;
    }
    cluster.stop_and_compare()
}

fn corrupt_frames(cluster: &Cluster) -> Result<u64> {
    let count = |node: usize, peer: &str| -> Result<u64> {
        cluster.node(node).view_of(peer)?["link"]["corrupt"].as_u64().context("links count corrupt frames")
    };
    Ok(count(0, "b")? + count(1, "a")?)
}

/// Why b does not serve its replica, or has no link.
fn trouble_of(cluster: &Cluster) -> Result<String> {
    let status: serde_json::Value = serde_json::from_str(&cluster.node(1).get("/v1/volumes/db")?)?;
    match (&status["unavailable"], &status["mirror"]["explanation"]) {
        (serde_json::Value::String(why), _) => Ok(why.clone()),
        (_, serde_json::Value::Array(lines)) => Ok(lines
            .iter()
            .filter_map(|line| line.as_str())
            .filter(|line| line.contains("no link"))
            .collect()),
        _ => bail!("b tells nothing: {status}"),
    }
}

fn start_both(cluster: &mut Cluster) -> Result<()> {
    cluster.node_mut(0).start()?;
    cluster.node_mut(1).start()
}

fn copy(from: &Path, to: &Path) -> Result<String> {
    Tool::new("cp").arg("-r").arg(from).arg(to).ok()
}
