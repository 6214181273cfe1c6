//! The network of a cluster: a namespace for each node, and one in the middle that forwards between them.
//!
//! ```text
//! node 0: 10.0.1.2 ── 10.0.1.1 ┐
//! node 1: 10.0.2.2 ── 10.0.2.1 ┼ the middle, where clients are
//! ```
//! What the middle drops silently, in one direction or both, is what a broken switch drops. Its one rule: clients
//! reach every node at all times.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::namespace::Namespace;

/// The namespaces and the links between them.
pub struct Network {
    middle: Arc<Namespace>,
    nodes: Vec<Arc<Namespace>>,
}

impl Network {
    /// For so many nodes.
    pub fn new(count: usize) -> Result<Network> {
        let middle = Namespace::new()?;
        middle.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).context("forwarding")?;
        let nodes = (0..count).map(|node| join(&middle, node).map(Arc::new)).collect::<Result<_>>()?;
        Ok(Network { middle: Arc::new(middle), nodes })
    }

    /// Where clients are.
    pub fn middle(&self) -> &Arc<Namespace> {
        &self.middle
    }

    /// Where this node is.
    pub fn node(&self, node: usize) -> &Arc<Namespace> {
        &self.nodes[node]
    }

    /// Drops all that `from` sends to `to`, from now on.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.rule("add", from, to)
    }

    /// The end of such a cut.
    pub fn heal(&self, from: usize, to: usize) -> Result<()> {
        self.rule("del", from, to)
    }

    fn rule(&self, verb: &str, from: usize, to: usize) -> Result<()> {
        let (from, to) = (address(from).to_string(), address(to).to_string());
        self.middle.ip(&["rule", verb, "from", &from, "to", &to, "pref", "100", "blackhole"]).map(drop)
    }
}

/// The address of a node.
pub fn address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, node as u8 + 1, 2))
}

fn join(middle: &Namespace, node: usize) -> Result<Namespace> {
    let namespace = Namespace::new()?;
    let (near, path) = (format!("node{node}"), namespace.path().display().to_string());
    let (gateway, own) = (format!("10.0.{}.1", node + 1), format!("{}/24", address(node)));
    middle.ip(&["link", "add", &near, "type", "veth", "peer", "name", "eth0", "netns", &path])?;
    middle.ip(&["address", "add", &format!("{gateway}/24"), "dev", &near])?;
    middle.ip(&["link", "set", &near, "up"])?;
    namespace.ip(&["address", "add", &own, "dev", "eth0"])?;
    namespace.ip(&["link", "set", "eth0", "up"])?;
    namespace.ip(&["route", "add", "default", "via", &gateway])?;
    Ok(namespace)
}
