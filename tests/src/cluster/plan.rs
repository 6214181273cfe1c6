//! How the nodes of a cluster are configured.
//!
//! Its one rule: what a test does not say is as in the mirror's first example: two nodes, `a` and `b`, the same file on
//! both but for the node's own lines.

use std::path::PathBuf;

use super::{Cluster, NAMES, SIZE_BYTES, VOLUME, address};

/// How nodes are configured.
pub struct Plan {
    pub(super) nodes: usize,
    replicas: usize,
    sizes: Vec<u64>,
    names: Vec<String>,
    pub(super) backings: Vec<Option<PathBuf>>,
    volume_lines: String,
    mirror_lines: Vec<String>,
    peers: Vec<(usize, usize, String)>,
}

impl Plan {
    /// So many nodes, `a`, `b` and `c`, as the specification's example has them.
    pub fn new(nodes: usize) -> Plan {
        Plan {
            nodes,
            replicas: nodes,
            sizes: vec![SIZE_BYTES; nodes],
            names: NAMES[..nodes].iter().map(|name| (*name).to_owned()).collect(),
            backings: vec![None; nodes],
            volume_lines: String::new(),
            mirror_lines: vec![String::new(); nodes],
            peers: Vec::new(),
        }
    }

    /// Only the first so many of the nodes have a replica.
    pub fn replicas(mut self, count: usize) -> Plan {
        self.replicas = count;
        self
    }

    /// One more line of `[[volume]]`, on all.
    pub fn volume_line(mut self, line: &str) -> Plan {
        self.volume_lines += &format!("{line}\n");
        self
    }

    /// One more line of `[mirror]`, on one.
    pub fn mirror_line(mut self, node: usize, line: &str) -> Plan {
        self.mirror_lines[node] += &format!("{line}\n");
        self
    }

    /// The volume has this size on this node.
    pub fn size(mut self, node: usize, bytes: u64) -> Plan {
        self.sizes[node] = bytes;
        self
    }

    /// The node calls itself so.
    pub fn name(mut self, node: usize, name: &str) -> Plan {
        name.clone_into(&mut self.names[node]);
        self
    }

    /// The node's replica lies there.
    pub fn backing(mut self, node: usize, path: PathBuf) -> Plan {
        self.backings[node] = Some(path);
        self
    }

    /// `node` finds `peer` at this address.
    pub fn peer(mut self, node: usize, peer: usize, address: &str) -> Plan {
        self.peers.push((node, peer, address.to_owned()));
        self
    }

    /// The configuration that `node` of the cluster would have by this plan.
    pub fn tables(&self, node: usize, cluster: &Cluster) -> String {
        self.tables_with(node, &cluster.node(node).backing().display().to_string())
    }

    pub(super) fn tables_with(&self, node: usize, backing: &str) -> String {
        let names = &NAMES[..self.replicas];
        let peers: String =
            (0..self.replicas).filter(|peer| *peer != node).map(|peer| self.peer_of(node, peer)).collect();
        format!(
            "[node]\nname = {:?}\n\n[peers]\n{peers}\n[mirror]\n{}\n[[volume]]\nname = {VOLUME:?}\nbacking = {backing:?}\n\
             size = {}\nreplicas = {names:?}\n{}",
            self.names[node], self.mirror_lines[node], self.sizes[node], self.volume_lines,
        )
    }

    fn peer_of(&self, node: usize, peer: usize) -> String {
        let said = self.peers.iter().find(|(by, of, _)| (*by, *of) == (node, peer));
        let address =
            said.map_or_else(|| format!("{}:9811", address(peer)), |(_, _, address)| address.clone());
        format!("{} = {address:?}\n", NAMES[peer])
    }
}
