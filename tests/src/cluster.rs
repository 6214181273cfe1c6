//! A cluster: two or three nodes in network namespaces, which hold one volume, and what can befall them.
//!
//! Its one rule: it waits for states that nodes tell of, with a deadline, and never for a time.

mod certificates;
mod clock;
mod corrupter;
mod disk;
mod load;
mod namespace;
mod network;
mod node;
mod plan;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::skip::{lacks, lacks_root_and, skip};
use crate::{Launch, MIB, Scratch, Tool};

pub use certificates::NodeCertificates;
pub use clock::Clock;
pub use corrupter::Corrupter;
pub use disk::{Disk, lacks_disks};
pub use load::{Expected, Load, Seen};
pub use namespace::Namespace;
pub use network::{Network, address};
pub use node::Node;
pub use plan::Plan;

/// The name of the volume.
pub const VOLUME: &str = "db";
/// Its size, if a test does not say otherwise.
pub const SIZE_BYTES: u64 = 64 * MIB;
/// Longer than any change of state on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const NAMES: [&str; 3] = ["a", "b", "c"];
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The nodes, some of which may not run.
pub struct Cluster {
    nodes: Vec<Node>,
    network: Network,
    scratch: Scratch,
}

impl Cluster {
    /// Lays the network, and starts nobody. `None` where the machine cannot: that has been said.
    pub fn lay(plan: &Plan) -> Result<Option<Cluster>> {
        if lacks_root_and(&[]) || lacks(&["ip"]) {
            return Ok(None);
        }
        if let Err(error) = Namespace::new() {
            skip(&format!("no network namespaces here: {error:#}"));
            return Ok(None);
        }
        let (network, scratch) = (Network::new(plan.nodes)?, Scratch::new()?);
        let nodes =
            (0..plan.nodes).map(|node| make_node(plan, node, &network, &scratch)).collect::<Result<_>>()?;
        Ok(Some(Cluster { nodes, network, scratch }))
    }

    /// Lays it, starts all, and waits until the volume has begun, led by `a`, and is in sync everywhere. On backings
    /// that were there before, it begins when an operator says so.
    pub fn start(plan: &Plan) -> Result<Option<Cluster>> {
        let Some(mut cluster) = Cluster::lay(plan)? else { return Ok(None) };
        let is_new = plan.backings.iter().flatten().all(|backing| !backing.exists());
        cluster.nodes.iter_mut().try_for_each(Node::start)?;
        if !is_new {
            cluster.await_promoted(0)?;
        }
        cluster.await_in_sync()?;
        Ok(Some(cluster))
    }

    /// A node.
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// A node, to be started and ended.
    pub fn node_mut(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// All of them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The test's folder.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Cuts two nodes from each other, both ways.
    pub fn cut(&self, one: usize, other: usize) -> Result<()> {
        self.network.cut(one, other)?;
        self.network.cut(other, one)
    }

    /// Joins them again.
    pub fn heal(&self, one: usize, other: usize) -> Result<()> {
        self.network.heal(one, other)?;
        self.network.heal(other, one)
    }

    /// Which node leads, by its own word, if exactly one does.
    pub fn leader(&self) -> Option<usize> {
        let leads =
            |node: &Node| node.is_running() && node.mirror().is_ok_and(|mirror| mirror["role"] == "leader");
        let mut leaders = (0..self.nodes.len()).filter(|index| leads(&self.nodes[*index]));
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// Waits until one node leads, and it and all others say that all are in sync.
    pub fn await_in_sync(&self) -> Result<()> {
        self.until("everything in sync", || {
            let Some(leader) = self.leader() else { return Ok(false) };
            let epoch = self.nodes[leader].mirror()?["epoch"].clone();
            let is_whole = |(index, node): (usize, &Node)| {
                let Ok(mirror) = node.mirror() else { return false };
                let role = if index == leader { "leader" } else { "in_sync" };
                let all_in = mirror["in_sync"].as_array().is_some_and(|set| set.len() == self.nodes.len());
                mirror["role"] == role
                    && all_in
                    && mirror["epoch"] == epoch
                    && (index != leader || sees_all(&mirror))
            };
            Ok(self.nodes.iter().enumerate().all(is_whole))
        })
    }

    /// Waits until what `node` says of its replica is `wanted`.
    pub fn await_mirror(&self, node: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        self.until(&format!("{} {what}", self.nodes[node].name()), || Ok(wanted(&self.nodes[node].mirror()?)))
    }

    /// Waits until a node has this role.
    pub fn await_role(&self, node: usize, role: &str) -> Result<()> {
        self.await_mirror(node, &format!("is {role}"), |mirror| mirror["role"] == role)
    }

    /// Waits until `leader` no longer counts `lost` among those in sync.
    pub fn await_without(&self, leader: usize, lost: usize) -> Result<()> {
        let name = self.nodes[lost].name();
        self.await_mirror(leader, &format!("goes on without {name}"), |mirror| {
            mirror["in_sync"].as_array().is_some_and(|set| !set.iter().any(|member| member == name))
        })
    }

    /// Waits until `node` explains its state with all of these words.
    pub fn await_explained(&self, node: usize, words: &[&str]) -> Result<()> {
        self.until(&format!("{} says {words:?}", self.nodes[node].name()), || {
            let said = self.nodes[node].explanation()?;
            Ok(words.iter().all(|word| said.contains(word)))
        })
    }

    /// Has a node promoted, as soon as that can lose nothing.
    pub fn await_promoted(&self, node: usize) -> Result<()> {
        self.await_control(node, &["promote", VOLUME])
    }

    /// Does what an operator does who finds nodes without a leader: has one promoted that may be without losing
    /// anything; and waits until all are in sync.
    pub fn recover(&self) -> Result<()> {
        // who finds a leader by themselves need nobody
        let waits_until = Instant::now() + Duration::from_secs(2);
        self.until("a leader", || {
            if self.leader().is_none() && Instant::now() > waits_until {
                for node in &self.nodes {
                    let (is_promoted, said) = node.control_tried(&["promote", VOLUME])?;
                    if is_promoted {
                        return Ok(true);
                    }
                    eprintln!("{} is not promoted: {}", node.name(), said.trim());
                }
            }
            Ok(self.leader().is_some())
        })?;
        self.await_in_sync()
    }

    /// Moves the lead to a node, if it is not there, and waits until all are in sync.
    pub fn lead_by(&self, node: usize) -> Result<()> {
        self.await_in_sync()?;
        while let Some(leader) = self.leader().filter(|leader| *leader != node) {
            self.nodes[leader].control(&["demote", VOLUME])?;
            let (is_promoted, said) = self.nodes[node].control_tried(&["promote", VOLUME])?;
            if !is_promoted {
                // on a busy machine it may have left the set at this very moment
                eprintln!("the lead goes back: {said}");
                self.await_promoted(leader)?;
            }
            self.await_in_sync()?;
        }
        Ok(())
    }

    /// Waits until a command is carried out that may have to wait for others.
    pub fn await_control(&self, node: usize, words: &[&str]) -> Result<()> {
        let last = std::cell::RefCell::new(String::new());
        let done = self.until(&words.join(" "), || {
            let (succeeded, said) = self.nodes[node].control_tried(words)?;
            let is_done = succeeded || said.contains("leads already");
            last.replace(said);
            Ok(is_done)
        });
        done.with_context(|| {
            format!("`ringsan {}` on {}: {}", words.join(" "), self.nodes[node].name(), last.borrow())
        })
    }

    /// Runs fio with its own verification against this node, from where clients are; it must succeed.
    pub fn fio(&self, node: usize, job: &[&str]) -> Result<String> {
        self.network.middle().run(|| fio(&self.nodes[node].uri(), job, self.scratch.path()).ok())
    }

    /// Looks until it is so.
    pub fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so()? {
            if Instant::now() > end {
                bail!("not so after {PATIENCE:?}: {what}\n{}", self.report());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// What every node says of its replica, for a failure's message.
    pub fn report(&self) -> String {
        let line = |node: &Node| match node.mirror() {
            Ok(mirror) => format!("{}: {mirror:#}\n", node.name()),
            Err(error) => format!("{}: {error:#}\n", node.name()),
        };
        self.nodes.iter().map(line).collect()
    }

    /// Stops all, and fails unless all replicas hold the same bytes.
    pub fn stop_and_compare(mut self) -> Result<()> {
        self.await_in_sync()?;
        for node in &mut self.nodes {
            node.stop().with_context(|| format!("stopping {}", node.name()))?;
        }
        self.compare()
    }

    /// Fails unless all replicas hold the same bytes.
    pub fn compare(&self) -> Result<()> {
        let first = fs::read(self.nodes[0].backing())?;
        for node in &self.nodes[1..] {
            let other = fs::read(node.backing())?;
            ensure!(
                first.len() == other.len(),
                "{} bytes on a, {} on {}",
                first.len(),
                other.len(),
                node.name()
            );
            if let Some(place) = first.iter().zip(&other).position(|(one, other)| one != other) {
                bail!("{} differs from {} at byte {place}", node.name(), self.nodes[0].name());
            }
        }
        Ok(())
    }
}

/// fio with its own verification of an export.
pub fn fio(uri: &str, job: &[&str], folder: &Path) -> Tool {
    let common = ["--name=job", "--ioengine=nbd", "--verify=crc32c", "--verify_fatal=1"];
    Tool::new("fio").args(common).args(job).arg(format!("--uri={uri}")).folder(folder)
}

fn sees_all(mirror: &Value) -> bool {
    let replicas = mirror["replicas"].as_array();
    replicas.is_some_and(|replicas| {
        replicas.iter().all(|replica| replica["state"] == "in_sync" || replica["state"] == "leader")
    })
}

fn make_node(plan: &Plan, node: usize, network: &Network, scratch: &Scratch) -> Result<Node> {
    let name = NAMES[node];
    let folder = scratch.join(name);
    fs::create_dir(&folder)?;
    let backing = plan.backings[node].clone().unwrap_or_else(|| folder.join("db.img"));
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let tables = plan.tables_with(node, &backing.display().to_string());
    let launch = Launch::at(address(node), &folder, node % cpus).tables(&tables);
    Ok(Node::new(name, folder, backing, launch, [network.node(node), network.middle()]))
}
