//! `ringsan serve`: flags into settings, then a node, until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::ready::ready_text;
use crate::config::draft::{Draft, node_name};
use crate::config::mirror::draft::{PeerFlag, parse_peer_flag};
use crate::config::mistake::{At, Origin, Slot};
use crate::config::resolve::keep_off;
use crate::config::units::{parse_duration, parse_size};
use crate::config::values::{
    parse_admin, parse_advertised, parse_count, parse_cpus, parse_iscsi_portal, parse_mirror_portal,
    parse_poll, parse_portal, parse_size_or_off, parse_tls_mode,
};
use crate::config::volume::{VolumeDraft, checked_name};
use crate::config::{self, Config};
use crate::node::{self, Node, ReadConfig, StartError};
use crate::portals;
use crate::serve_core::Cores;
use crate::settings::{Poll, Portal, TlsMode};

/// The flags of `serve`; each overrides the setting of the same name in the files.
#[derive(Args, Clone)]
#[command(
    after_help = "Sizes are binary (20G, 512M), durations have a unit (10s, 50us). A path with a comma \
needs a configuration file."
)]
pub struct ServeArgs {
    /// Read this file, and ringsan.d/*.toml beside it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve a volume; repeatable. BACKING is a file, a block device, /dev/ngXnY or `memory`. OPTION: size=20G,
    /// readonly, cache=auto|direct|buffered, type=file|block|nvme|memory, allow=CIDR (repeatable), description=TEXT,
    /// replicas=NODE+NODE, on_peer_loss=continue|suspend, peer_timeout=DURATION
    #[arg(long = "volume", value_name = "NAME[=BACKING][,OPTION]…", value_parser = VolumeDraft::parse_flag)]
    volumes: Vec<VolumeDraft>,
    /// Serve NBD here: ADDRESS:PORT or unix:PATH; repeatable [default: 127.0.0.1:10809]
    #[arg(long = "nbd", value_name = "PORTAL", value_parser = parse_portal)]
    portals: Vec<Portal>,
    /// Serve iSCSI here, ADDRESS[:PORT]; repeatable [default: 127.0.0.1:3260, unless it is taken]
    #[arg(long = "iscsi", value_name = "PORTAL", value_parser = parse_iscsi_portal, conflicts_with = "no_iscsi")]
    iscsi_portals: Vec<Portal>,
    /// Do not serve iSCSI
    #[arg(long)]
    no_iscsi: bool,
    /// What iSCSI discovery tells instead of the portal's address, for clients behind translation; repeatable
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_advertised)]
    iscsi_advertise: Vec<String>,
    /// Serve the admin API here, or `off` [default: 127.0.0.1:9810]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_admin)]
    admin: Option<AdminAddress>,
    /// Ask admin clients for the token in this file
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The node's name [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    name: Option<String>,
    /// Where volumes without a backing lie [default: ./ringsan-data, with --config /var/lib/ringsan]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// What must survive a restart, such as volumes' UUIDs [default: state in the data directory]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Bound of a graceful stop [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    stop_timeout: Option<Duration>,
    #[command(flatten)]
    cores: CoreArgs,
    #[command(flatten)]
    nbd: NbdArgs,
    #[command(flatten)]
    mirror: MirrorArgs,
}

/// What `--admin` says; named so that clap takes it for one value.
type AdminAddress = Option<SocketAddr>;
type ZeroCopy = Option<u64>;
type Cpus = Vec<usize>;

#[derive(Args, Clone)]
#[command(next_help_heading = "Cores")]
struct CoreArgs {
    /// One core for each of these CPUs, as in 1,3 or 2-5 [default: the first but CPU 0]
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    cores: Option<Cpus>,
    /// How cores wait: adaptive, busy or off [default: adaptive]
    #[arg(long, value_name = "HOW", value_parser = parse_poll)]
    poll: Option<Poll>,
    /// How long a core spins after work [default: 50us]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    poll_time: Option<Duration>,
    /// Buffers of each core [default: 32M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    arena: Option<u64>,
    /// Use SEND_ZC from this size on, or `off` [default: 256K]
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_off)]
    zero_copy_send: Option<ZeroCopy>,
    /// Do without a kernel feature, as an older kernel would; repeatable
    #[arg(long, value_name = "FEATURE")]
    without: Vec<String>,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "NBD clients")]
struct NbdArgs {
    /// Whether clients may or must use TLS: off, allow or require [default: off]
    #[arg(long, value_name = "MODE", value_parser = parse_tls_mode)]
    tls: Option<TlsMode>,
    /// server-cert.pem, server-key.pem and ca-cert.pem, as QEMU and libnbd name them
    #[arg(long, value_name = "FOLDER")]
    tls_directory: Option<PathBuf>,
    /// The server's certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let in only clients with a certificate of this CA, PEM
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Let in only clients with a certificate of ca-cert.pem in --tls-directory
    #[arg(long)]
    tls_verify_clients: bool,
    /// The volume that an empty export name means
    #[arg(long, value_name = "NAME", value_parser = checked_name)]
    default_export: Option<String>,
    /// Clients at once [default: 1024]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    connections_max: Option<u64>,
    /// Bound of negotiation [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    handshake_timeout: Option<Duration>,
    /// End a client that takes no data for so long [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    stall_timeout: Option<Duration>,
    /// Requests of one client at once [default: 128]
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    requests_max: Option<u64>,
    /// Payload of one client in memory at once [default: 32M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    inflight_bytes_max: Option<u64>,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Mirrored volumes")]
struct MirrorArgs {
    /// Where another node takes links; repeatable
    #[arg(long = "peer", value_name = "NAME=HOST[:PORT]", value_parser = parse_peer_flag)]
    peers: Vec<PeerFlag>,
    /// Take links of peers here, once a volume has replicas [default: [::]:9811]
    #[arg(long = "mirror", value_name = "ADDRESS[:PORT]", value_parser = parse_mirror_portal)]
    portal: Option<Portal>,
    /// The file with the key that all nodes share
    #[arg(long = "mirror-key-file", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// This node's certificate for links, PEM: its name is one of the subject alternative names
    #[arg(id = "mirror_tls_certificate", long = "mirror-tls-certificate", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(id = "mirror_tls_key", long = "mirror-tls-key", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The CA of all nodes' certificates, PEM
    #[arg(long = "mirror-tls-ca", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl ServeArgs {
    /// Reads the configuration that these flags and their files make.
    fn load(&self) -> Result<Config, Vec<config::mistake::Mistake>> {
        config::load(self.config.as_deref(), |draft| self.clone().apply(draft))
    }

    fn apply(self, draft: &mut Draft) {
        draft.volumes.extend(self.volumes);
        let portals = Some(self.portals).filter(|portals| !portals.is_empty());
        set(&mut draft.nbd.portals, portals, "--nbd");
        let portals = Some(self.iscsi_portals).filter(|portals| !portals.is_empty());
        set(&mut draft.iscsi.portals, portals.map(Some), "--iscsi");
        set(&mut draft.iscsi.portals, self.no_iscsi.then_some(None), "--no-iscsi");
        let advertise = Some(self.iscsi_advertise).filter(|addresses| !addresses.is_empty());
        set(&mut draft.iscsi.advertise, advertise, "--iscsi-advertise");
        set(&mut draft.node.admin, self.admin, "--admin");
        set(&mut draft.node.admin_token_file, self.admin_token_file, "--admin-token-file");
        set(&mut draft.node.name, self.name, "--name");
        set(&mut draft.node.data_dir, self.data_dir, "--data-dir");
        set(&mut draft.node.state_dir, self.state_dir, "--state-dir");
        set(&mut draft.node.stop_timeout, self.stop_timeout, "--stop-timeout");
        self.cores.apply(draft);
        self.nbd.apply(draft);
        self.mirror.apply(draft);
    }
}

impl CoreArgs {
    fn apply(self, draft: &mut Draft) {
        let cores = &mut draft.cores;
        set(&mut cores.cpus, self.cores, "--cores");
        set(&mut cores.poll, self.poll, "--poll");
        set(&mut cores.poll_time, self.poll_time, "--poll-time");
        set(&mut cores.arena, self.arena, "--arena");
        set(&mut cores.zero_copy_send, self.zero_copy_send, "--zero-copy-send");
        set(&mut cores.without, Some(self.without).filter(|without| !without.is_empty()), "--without");
    }
}

impl NbdArgs {
    fn apply(self, draft: &mut Draft) {
        let nbd = &mut draft.nbd;
        if self.tls_directory.is_some() || self.tls_certificate.is_some() || self.tls_key.is_some() {
            (nbd.tls_directory, nbd.tls_certificate, nbd.tls_key) = (None, None, None);
        }
        set(&mut nbd.tls, self.tls, "--tls");
        set(&mut nbd.tls_directory, self.tls_directory, "--tls-directory");
        set(&mut nbd.tls_certificate, self.tls_certificate, "--tls-certificate");
        set(&mut nbd.tls_key, self.tls_key, "--tls-key");
        set(&mut nbd.tls_client_ca, self.tls_client_ca, "--tls-client-ca");
        set(&mut nbd.tls_verify_clients, self.tls_verify_clients.then_some(true), "--tls-verify-clients");
        set(&mut nbd.default_export, self.default_export, "--default-export");
        set(&mut nbd.connections_max, self.connections_max, "--connections-max");
        set(&mut nbd.handshake_timeout, self.handshake_timeout, "--handshake-timeout");
        set(&mut nbd.stall_timeout, self.stall_timeout, "--stall-timeout");
        set(&mut nbd.requests_max, self.requests_max, "--requests-max");
        set(&mut nbd.inflight_bytes_max, self.inflight_bytes_max, "--inflight-bytes-max");
    }
}

impl MirrorArgs {
    fn apply(self, draft: &mut Draft) {
        self.peers.into_iter().for_each(|peer| draft.peers.set(peer));
        let mirror = &mut draft.mirror;
        set(&mut mirror.portal, self.portal, "--mirror");
        set(&mut mirror.key_file, self.key_file, "--mirror-key-file");
        set(&mut mirror.tls_certificate, self.tls_certificate, "--mirror-tls-certificate");
        set(&mut mirror.tls_key, self.tls_key, "--mirror-tls-key");
        set(&mut mirror.tls_ca, self.tls_ca, "--mirror-tls-ca");
    }
}

fn set<T>(slot: &mut Slot<T>, value: Option<T>, flag: &str) {
    if let Some(value) = value {
        *slot = Some(At::new(value, Origin::Flag(flag.to_owned())));
    }
}

/// Serves until a signal says stop.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let inherited = portals::inherited().map_err(|fault| Failure::Error(fault.to_string()))?;
    let cpus = args.load().map_err(StartError::Mistakes)?.cores.cpus;
    keep_off(&cpus);
    raise_limits();
    let read_config: ReadConfig = Arc::new(move || args.load());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Error(format!("the control thread cannot start: {error}")))?;
    runtime.block_on(serve(read_config, inherited))
}

/// As many open files and as much registered memory as the system lets us have without asking.
fn raise_limits() {
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_MEMLOCK] {
        let raised = getrlimit(resource).and_then(|(_, hard)| setrlimit(resource, hard, hard));
        if let Err(error) = raised {
            tracing::debug!(?resource, %error, "a limit stays as it was");
        }
    }
}

async fn serve(read_config: ReadConfig, inherited: Vec<portals::Bound>) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let node::Started { node, cores, admin } = node::start(read_config, inherited).await?;
    if let Some(listener) = admin {
        tokio::spawn(crate::admin::serve(node.clone(), listener));
    }
    let status = node.status(None).await.map_err(|fault| Failure::Error(fault.to_string()))?;
    super::print(&ready_text(&status))?;
    notify(&[sd_notify::NotifyState::Ready]);
    while !signals.next_is_stop().await {
        reload(&node).await;
    }
    stop(&node, cores, &mut signals).await
}

async fn reload(node: &Node) {
    if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
        notify(&[sd_notify::NotifyState::Reloading, now]);
    }
    match node.reload().await {
        Ok(report) => {
            report.changed.iter().for_each(|line| tracing::info!("reload: {line}"));
            report.failed.iter().for_each(|line| tracing::error!("reload: {line}"));
            report.needs_restart.iter().for_each(|line| tracing::warn!("reload: {line}"));
            tracing::info!("reload done");
        }
        Err(error) => {
            error.to_string().lines().for_each(|line| tracing::error!("reload: {line}"));
            tracing::error!("reload: nothing was changed");
        }
    }
    notify(&[sd_notify::NotifyState::Ready]);
}

async fn stop(node: &Node, cores: Cores, signals: &mut Signals) -> Result<(), Failure> {
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    let stopped = async {
        let faults = node.stop().await;
        // Not on the runtime, whose end would wait for it: storage that is stuck must not hold up the stop.
        let (ended, joined) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            cores.join();
            let _ = ended.send(());
        });
        let _ = tokio::time::timeout(Duration::from_secs(5), joined).await;
        faults
    };
    let faults = tokio::select! {
        faults = stopped => faults,
        () = signals.second_stop() => return Err(Failure::Error("stopped at once by a second signal".to_owned())),
    };
    if faults.is_empty() {
        tracing::info!("stopped");
        return Ok(());
    }
    let lines: Vec<_> = faults.iter().map(|fault| format!("at the stop: {fault}")).collect();
    Err(Failure::Error(lines.join("\n")))
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Error(format!("signals cannot be received: {error}")))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next_is_stop(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.hangup.recv() => false,
        }
    }

    async fn second_stop(&mut self) {
        while !self.next_is_stop().await {}
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        if error.is_usage() { Failure::Usage(error.to_string()) } else { Failure::Error(error.to_string()) }
    }
}
