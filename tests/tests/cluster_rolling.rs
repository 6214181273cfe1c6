//! Both nodes restarted one after the other, as for an update, while fio writes and verifies through ringsan-nbd, which
//! knows both: no I/O fails.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, Plan, VOLUME};
use tests::launch::client_binary;
use tests::skip::{lacks, lacks_root_and};
use tests::{Scratch, Tool};

#[test]
fn a_rolling_restart_fails_no_io() -> Result<()> {
    if lacks(&["fio"]) || lacks_root_and(&["/dev/fuse"]) {
        return Ok(());
    }
    // a node that has no time for a second, on a busy machine, is not what is tested here
    let plan = Plan::new(2).volume_line("peer_timeout = \"10s\"");
    let Some(mut cluster) = Cluster::start(&plan)? else { return Ok(()) };
    let shown = Shown::attach(&cluster)?;
    let file = format!("--filename={}", shown.folder.join(VOLUME).display());
    let done = shown.scratch.join("done");
    thread::scope(|scope| -> Result<()> {
        let fio = scope.spawn(|| fio_until(&file, &shown.scratch, &done));
        let rolled = roll(&mut cluster);
        fs::write(&done, "")?;
        let rounds = fio.join().expect("it does not panic")?;
        eprintln!("fio wrote and verified {rounds} times over two rolling restarts");
        rolled
    })?;
    drop(shown);
    cluster.stop_and_compare()
}

/// Stops and starts each node, which does not lead then, twice.
fn roll(cluster: &mut Cluster) -> Result<()> {
    for node in [1, 0, 1, 0] {
        cluster.lead_by(1 - node)?;
        cluster.node_mut(node).stop()?;
        cluster.node_mut(node).start()?;
        cluster.await_in_sync()?;
    }
    Ok(())
}

/// Runs fio again and again until `done` is there; how often it ran.
fn fio_until(file: &str, scratch: &Scratch, done: &std::path::Path) -> Result<u32> {
    let job =
        ["--name=job", "--direct=1", "--ioengine=libaio", "--iodepth=16", "--rw=randwrite", "--size=8m"];
    let verify = ["--bsrange=512-64k", "--verify=crc32c", "--verify_fatal=1", "--fsync=32"];
    let mut rounds = 0;
    while !done.exists() {
        let seed = format!("--randseed={rounds}");
        Tool::new("fio").args(job).args(verify).arg(seed).arg(file).folder(scratch.path()).ok()?;
        rounds += 1;
    }
    Ok(rounds)
}

/// The volume shown as a file, through both nodes.
struct Shown {
    child: Child,
    folder: PathBuf,
    scratch: Scratch,
}

impl Shown {
    fn attach(cluster: &Cluster) -> Result<Shown> {
        let scratch = Scratch::new()?;
        let folder = scratch.join("shown");
        fs::create_dir(&folder)?;
        let hosts: Vec<String> = cluster.nodes().iter().map(|node| node.address().ip().to_string()).collect();
        let uri = format!("nbd://{}/{VOLUME}", hosts.join(","));
        let mut command = Command::new(client_binary()?);
        command.args(["attach", &uri, "--fuse"]).arg(&folder).env("RINGSAN_NBD_STATE", scratch.join("state"));
        let mut child = cluster.network().middle().run(|| command.stdout(Stdio::piped()).spawn())?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        let shown = Shown { child, folder, scratch };
        ensure!(line.trim_end().ends_with(VOLUME), "it said {line:?}");
        Ok(shown)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = Tool::new("umount").arg("--lazy").arg(&self.folder).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
