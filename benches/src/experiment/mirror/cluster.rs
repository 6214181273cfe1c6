//! Two nodes over loopback that hold one volume: started, killed, frozen, and asked how they are.
//!
//! Rule: it waits for states that the leader tells of, with a deadline, and never for a time.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::admin::{self, Mirror};
use crate::address::Address;
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::floor::VOLUME;
use crate::generator::{Generator, Until};
use crate::load::Load;
use crate::sample::Sample;
use crate::server::{Launch, Server, free_port, volume_at};
use crate::{binary, interrupt, process, stage};

/// After this silence a peer is lost: the default, said all the same because a bound follows from it.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the resync of the largest volume on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

const NAMES: [&str; 2] = ["a", "b"];
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Two nodes, of which the first leads.
pub struct Cluster {
    /// The one that leads.
    pub leader: Node,
    /// The other one.
    pub follower: Node,
    _folder: TempDir,
}

/// One node.
pub struct Node {
    name: &'static str,
    cpu: usize,
    config: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    /// The volume, as clients of this node reach it.
    pub address: Address,
    server: Option<Server>,
}

/// When a node was first seen to be brought up to date, and when to be in sync.
pub struct Resync {
    /// The first look at which it was.
    pub began: Instant,
    /// The first look at which it was no longer.
    pub ended: Instant,
}

impl Resync {
    /// How long it took, but for the time between two looks.
    pub fn seconds(&self) -> f64 {
        (self.ended - self.began).as_secs_f64()
    }
}

impl Cluster {
    /// Starts both, full of random bytes and in sync: on memory of their own, or on files in tmpfs.
    pub fn start(laboratory: &Laboratory, kind: BackingKind, size_bytes: u64) -> Result<Cluster> {
        let method = laboratory.plan.method;
        let folder = tempfile::Builder::new().prefix("bench-mirror-").tempdir_in("/dev/shm")?;
        let peers = [free_port()?, free_port()?];
        let node = |index: usize, cpu| -> Result<Node> {
            let name = NAMES[index];
            let (portal, admin) = (free_port()?, free_port()?);
            let home = folder.path().join(name);
            fs::create_dir(&home)?;
            let backing = match kind {
                BackingKind::Memory => "memory".into(),
                _ => home.join("disk.img").display().to_string(),
            };
            let config = home.join("ringsan.toml");
            fs::write(&config, tables(name, cpu, [portal, admin], &peers, &home, &backing, size_bytes))?;
            let address = volume_at(laboratory.protocol, portal);
            Ok(Node { name, cpu, config, log: home.join("log"), admin, address, server: None })
        };
        let (leader, follower) = (node(0, method.server_cpu)?, node(1, method.client_cpu)?);
        let mut cluster = Cluster { leader, follower, _folder: folder };
        cluster.leader.start()?;
        cluster.follower.start()?;
        cluster.await_in_sync()?;
        stage::fill(&cluster.leader.address).context("cannot fill the mirrored volume")?;
        Ok(cluster)
    }

    /// `load` on the volume as clients of `node` reach it; the cost is that of both nodes together.
    pub fn measure(&self, laboratory: &Laboratory, node: &Node, load: &Load) -> Result<Sample> {
        laboratory.plan.method.measure_together(
            &node.address,
            &[self.leader.server()?, self.follower.server()?],
            load,
        )
    }

    /// What a request of `load` costs the leader, and what the other node, in µs of CPU time.
    pub fn cost_us(&self, laboratory: &Laboratory, load: &Load) -> Result<[f64; 2]> {
        let method = laboratory.plan.method;
        let mut generator = Generator::open(&self.leader.address, load)?;
        generator.run(Until::Elapsed(method.warm_up))?;
        let pids = [self.leader.server()?.pids()?, self.follower.server()?.pids()?];
        let before = pids.each_ref().map(|pids| process::cpu_time(pids));
        let requests = generator.run(Until::Elapsed(method.sample))?.requests as f64;
        let used = |node: usize| (process::cpu_time(&pids[node]) - before[node]).as_secs_f64();
        Ok([0, 1].map(|node| used(node) * 1e6 / requests))
    }

    /// Waits until the leader says that both are in sync.
    pub fn await_in_sync(&self) -> Result<()> {
        self.leader.until("both nodes in sync", |mirror| {
            Ok(mirror.in_sync.len() == NAMES.len() && mirror.replica(self.follower.name)?.state == "in_sync")
        })
    }

    /// Waits until all that was written is known to be durable on both: nodes see to that when they are idle.
    pub fn await_rest(&self) -> Result<()> {
        self.leader.until("all that was written to be durable", |mirror| Ok(mirror.active_extents == 0))
    }

    /// Waits until the leader goes on alone.
    pub fn await_alone(&self) -> Result<()> {
        self.leader.until("the leader alone", |mirror| Ok(mirror.in_sync == [self.leader.name]))
    }
}

impl Node {
    /// Starts it, and waits until clients can attach.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(binary::ringsan()?);
        command.arg("serve").arg("--config").arg(&self.config);
        // What it served is gone with it; nobody waits until it has given up the lead in order.
        let launch = Launch { stop: Signal::SIGKILL, ..command.into() };
        let name = format!("node {}", self.name);
        self.server = Some(Server::start(&name, launch, self.address.clone(), &[self.cpu], &self.log)?);
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Its process gets no time any more.
    pub fn freeze(&self) -> Result<()> {
        self.server()?.signal(Signal::SIGSTOP)
    }

    /// It does again.
    pub fn thaw(&self) -> Result<()> {
        self.server()?.signal(Signal::SIGCONT)
    }

    /// What it tells of the volume.
    pub fn mirror(&self) -> Result<Mirror> {
        admin::mirror(self.admin, VOLUME)
    }

    /// Bytes that it has sent to `other` so far.
    pub fn sent_bytes_to(&self, other: &Node) -> Result<u64> {
        self.mirror()?.sent_bytes(other.name)
    }

    /// Watches it bring `other` up to date. To be called before `other` starts.
    pub fn watch_resync_of(&self, other: &str) -> Result<Resync> {
        let mut began = None;
        let mut ended = Instant::now();
        self.until("the other node in sync again", |mirror| {
            let state = mirror.replica(other)?.state.as_str();
            ended = Instant::now();
            if matches!(state, "resync" | "in_sync") {
                began.get_or_insert(ended);
            }
            Ok(state == "in_sync")
        })?;
        Ok(Resync { began: began.expect("it was seen in sync"), ended })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().with_context(|| format!("node {} does not run", self.name))
    }

    /// Looks at what it tells, while it leads, until that is so.
    fn until(&self, what: &str, mut is_so: impl FnMut(&Mirror) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            let mirror = self.mirror()?;
            if mirror.role == "leader" && is_so(&mirror)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "waited for {what} for {PATIENCE:?}; node {} says: {}",
                    self.name,
                    mirror.explanation.join("; ")
                );
            }
            sleep(LOOK_AGAIN);
        }
    }
}

fn tables(
    name: &str,
    cpu: usize,
    [portal, admin]: [SocketAddr; 2],
    peers: &[SocketAddr; 2],
    home: &Path,
    backing: &str,
    size_bytes: u64,
) -> String {
    let peers: String =
        NAMES.iter().zip(peers).map(|(name, portal)| format!("{name} = \"{portal}\"\n")).collect();
    format!(
        "[node]\nname = \"{name}\"\nadmin = \"{admin}\"\nstate_dir = {home:?}\ndata_dir = {home:?}\n\
         [cores]\ncpus = [{cpu}]\n\
         [nbd]\nportals = [\"{portal}\"]\n\
         [iscsi]\nportals = \"off\"\n\
         [peers]\n{peers}\
         [[volume]]\nname = \"{VOLUME}\"\nbacking = \"{backing}\"\nsize = {size_bytes}\n\
         replicas = {NAMES:?}\npeer_timeout = \"{}ms\"\n",
        PEER_TIMEOUT.as_millis()
    )
}
