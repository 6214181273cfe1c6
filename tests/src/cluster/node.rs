//! One node of a cluster: a daemon in a network namespace, with files of its own.
//!
//! Its one rule: whoever speaks to its admin portal does so within its namespace, as an operator on that machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::VOLUME;
use super::namespace::Namespace;
use crate::iscsi;
use crate::nbd::{Client, REP_ACK};
use crate::tool::said;
use crate::{Launch, Target};

const REP_META_CONTEXT: u32 = 4;

/// A node.
pub struct Node {
    name: String,
    folder: PathBuf,
    backing: PathBuf,
    launch: Launch,
    namespace: Arc<Namespace>,
    clients: Arc<Namespace>,
    target: Option<Target>,
}

impl Node {
    pub(super) fn new(
        name: &str,
        folder: PathBuf,
        backing: PathBuf,
        launch: Launch,
        [namespace, clients]: [&Arc<Namespace>; 2],
    ) -> Node {
        let (namespace, clients) = (Arc::clone(namespace), Arc::clone(clients));
        Node { name: name.to_owned(), folder, backing, launch, namespace, clients, target: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its replica's bytes lie.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// Where its files lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of what must survive its restart.
    pub fn state(&self) -> PathBuf {
        self.folder.join("data/state")
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.launch.address()
    }

    /// Where initiators find it.
    pub fn iscsi_address(&self) -> SocketAddr {
        self.launch.iscsi_address()
    }

    /// The export as clients find it.
    pub fn uri(&self) -> String {
        format!("nbd://{}/{VOLUME}", self.address())
    }

    /// Changes how it starts the next time.
    pub fn change(&mut self, change: impl FnOnce(Launch) -> Launch) {
        self.launch = change(self.launch.clone());
    }

    /// Has it take over these tables of its configuration while it runs; what it says.
    pub fn reconfigure(&mut self, tables: &str) -> Result<String> {
        self.change(|launch| launch.tables(tables));
        self.launch.write_config()?;
        self.control(&["reload"])
    }

    /// Runs `task` on its machine.
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(task)
    }

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.target.is_none(), "{} runs", self.name);
        let launch = self.launch.clone();
        self.target = Some(self.run(|| launch.start()).with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Starts it; it must refuse. What it said.
    pub fn refused(&self, status: i32) -> Result<String> {
        let launch = self.launch.clone();
        self.run(|| launch.refused(status))
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.target.is_some()
    }

    /// The running daemon.
    pub fn target(&self) -> Result<&Target> {
        self.target.as_ref().with_context(|| format!("{} does not run", self.name))
    }

    /// Ends its process at once.
    pub fn kill(&mut self) -> Result<()> {
        self.target.take().context("what is killed runs")?.kill().map(drop)
    }

    /// Ends it in order.
    pub fn stop(&mut self) -> Result<()> {
        self.target.take().context("what is stopped runs")?.stop().map(drop)
    }

    /// Its process gets no time any more.
    pub fn freeze(&self) -> Result<()> {
        self.target()?.signal(Signal::SIGSTOP)
    }

    /// It does again.
    pub fn thaw(&self) -> Result<()> {
        self.target()?.signal(Signal::SIGCONT)
    }

    /// Loses what tells that the machine was up all the time. With a backing at its last flush, that is a power loss.
    pub fn forget_boot(&self) -> Result<()> {
        for entry in fs::read_dir(self.state().join("mirror"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "boot") {
                fs::write(path, "00000000-0000-4000-8000-000000000000\n")?;
            }
        }
        Ok(())
    }

    /// `ringsan WORDS…` on its machine, which must succeed; what it printed.
    pub fn control(&self, words: &[&str]) -> Result<String> {
        self.run(|| self.target()?.control(words)?.ok())
    }

    /// The same, which must fail; all that it said.
    pub fn control_fails(&self, words: &[&str]) -> Result<String> {
        self.run(|| self.target()?.control(words)?.fails())
    }

    /// The same, whatever comes of it: whether it succeeded, and all that it said.
    pub fn control_tried(&self, words: &[&str]) -> Result<(bool, String)> {
        let output = self.run(|| self.target()?.control(words)?.output())?;
        Ok((output.status.success(), said(&output)))
    }

    /// What its admin portal answers to a GET.
    pub fn get(&self, path: &str) -> Result<String> {
        self.run(|| self.target()?.get(path))
    }

    /// What it says of its replica; null while the volume is not served.
    pub fn mirror(&self) -> Result<Value> {
        self.mirror_of(VOLUME)
    }

    /// The same of another volume.
    pub fn mirror_of(&self, volume: &str) -> Result<Value> {
        let volume: Value = serde_json::from_str(&self.get(&format!("/v1/volumes/{volume}"))?)?;
        Ok(volume["mirror"].clone())
    }

    /// Why it is not all in sync, in its own words.
    pub fn explanation(&self) -> Result<String> {
        let mirror = self.mirror()?;
        let lines = mirror["explanation"].as_array().context("a mirror has an explanation")?;
        Ok(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
    }

    /// What it knows of the replica on `peer`.
    pub fn view_of(&self, peer: &str) -> Result<Value> {
        let mirror = self.mirror()?;
        let replicas = mirror["replicas"].as_array().context("a mirror has replicas")?;
        replicas.iter().find(|replica| replica["name"] == peer).cloned().context("the replica is known")
    }

    /// Bytes that it has sent to all its peers since its start.
    pub fn sent_bytes(&self) -> Result<u64> {
        let mirror = self.mirror()?;
        let replicas = mirror["replicas"].as_array().context("a mirror has replicas")?;
        Ok(replicas.iter().filter_map(|replica| replica["link"]["sent_bytes"].as_u64()).sum())
    }

    /// A new NBD client of it, in the network of clients.
    pub fn attach(&self) -> Result<Client> {
        self.attach_to(VOLUME)
    }

    /// The same of another volume.
    pub fn attach_to(&self, volume: &str) -> Result<Client> {
        self.clients.run(|| Client::attach(self.address(), volume))
    }

    /// What it tells NBD clients of the volume: who it is, and whether it may have lost writes.
    pub fn labels(&self) -> Result<String> {
        const OPT_LIST_META_CONTEXT: u32 = 9;
        const OPT_STRUCTURED_REPLY: u32 = 8;
        let query = "x-ringsan:";
        let mut payload = (VOLUME.len() as u32).to_be_bytes().to_vec();
        payload.extend_from_slice(VOLUME.as_bytes());
        payload.extend_from_slice(&1u32.to_be_bytes());
        payload.extend_from_slice(&(query.len() as u32).to_be_bytes());
        payload.extend_from_slice(query.as_bytes());
        let mut client = self.clients.run(|| Client::greet(self.address()))?;
        client.option(OPT_STRUCTURED_REPLY, &[])?;
        client.option_reply(OPT_STRUCTURED_REPLY)?;
        client.option(OPT_LIST_META_CONTEXT, &payload)?;
        let mut labels = Vec::new();
        loop {
            let reply = client.option_reply(OPT_LIST_META_CONTEXT)?;
            match reply.kind {
                REP_ACK => return Ok(labels.join(" ")),
                REP_META_CONTEXT => labels.push(String::from_utf8_lossy(&reply.payload[4..]).into_owned()),
                kind => bail!("no labels: {kind:#x}"),
            }
        }
    }

    /// A new iSCSI session with it, from there.
    pub fn log_in(&self, initiator: &str) -> Result<iscsi::Client> {
        let login = iscsi::Login::to(&iscsi::target_name(VOLUME)).initiator(initiator);
        self.clients.run(|| login.attach(self.iscsi_address()))
    }
}
