//! From a configuration to a running node.
//!
//! What can fail without leaving a trace comes first: the configuration, the backings, the portals, the
//! kernel's io_uring. Then folders, files and records are made. Its one rule: a start that fails leaves
//! nothing behind; but once a mirrored volume is served, whose peers may count on it, what was made stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::listening::{Bindings, bind_all};
use super::records;
use super::replicas::{OwnNode, metadata_of};
use super::targets::Targets;
use super::{
    ATTACH_TIME, CHANGES_MAX, Live, LiveVolume, Node, ReadConfig, Service, ask, blocking, settings_of,
};
use crate::config::Config;
use crate::config::mistake::Mistake;
use crate::config::survey::{self, Surveyed};
use crate::fault::{Fault, Kind};
use crate::message::Ask;
use crate::placement::core_for_volume;
use crate::portals::{self, Bound};
use crate::serve_core::{CoreHandle, Cores};
use crate::settings::VolumeSettings;
use crate::state::{Owner, Record, State};
use crate::store;
use crate::undo::Undo;

/// How long a process that has ended may hold what we need.
const HELD_TIME: Duration = Duration::from_secs(2);

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// What the operator wrote.
    Mistakes(Vec<Mistake>),
    /// What the machine said.
    Fault(Fault),
}

/// A started node, and what its caller has to look after.
pub struct Started {
    /// The node.
    pub node: Arc<Node>,
    /// Its threads.
    pub cores: Cores,
    /// Where the admin API is to be served.
    pub admin: Option<TcpListener>,
}

/// Starts a node; `inherited` are the portals that systemd handed over.
pub async fn start(read_config: ReadConfig, inherited: Vec<Bound>) -> Result<Started, StartError> {
    let config = read_config()?;
    let surveyed = config.survey()?;
    let mut undo = Undo::default();
    let bound = bind_all(&config, inherited).await?;
    let admin = bind_admin(&config)?;
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let cores = Cores::start(&config.cores)?;
    match assemble(read_config, config, surveyed, bound, cores.handles().to_vec(), admin_address, &mut undo)
        .await
    {
        Ok(node) => {
            undo.keep();
            Ok(Started { node, cores, admin })
        }
        Err(error) => {
            let handles = cores.handles().to_vec();
            super::stop::stop_cores(&handles, Duration::from_secs(1)).await;
            blocking(move || cores.join()).await;
            Err(error)
        }
    }
}

async fn assemble(
    read_config: ReadConfig,
    config: Config,
    surveyed: Vec<Surveyed>,
    bound: Bindings,
    cores: Vec<CoreHandle>,
    admin_address: Option<SocketAddr>,
    undo: &mut Undo,
) -> Result<Arc<Node>, StartError> {
    let mut state = State::open(&config.node.state_dir, undo)?;
    undo.make_folder(&config.node.data_dir)?;
    let remembered = records::remembered(&config, &surveyed, &state)?;
    let bound = bound.for_remembered(&config, &remembered).await?;
    let core_settings = config.cores.clone();
    let mut live = Live {
        files: config.files,
        own: OwnNode::new(&config.node.name, &config.node.state_dir, &state),
        node: config.node,
        nbd: Arc::new(config.nbd),
        iscsi: config.iscsi,
        iscsi_off: None,
        targets: Targets::default(),
        mirror: config.mirror,
        remarked: Vec::new(),
        noted: BTreeSet::new(),
        tls_files: config.tls_files,
        tls_fingerprint: config.tls_fingerprint,
        admin_address,
        portals: Vec::new(),
        volumes: BTreeMap::new(),
    };
    let cores = Served { handles: cores, cpus: &core_settings.cpus };
    cores.tell(&mut live);
    let records = cores.serve_declared(surveyed, &state, &mut live, undo).await?;
    for record in records {
        state.note_new(&record, undo);
        state.put(record)?;
    }
    for (record, found) in remembered {
        let volume = cores.revive(&live, record, found).await;
        live.enter(volume);
    }
    listen(&cores, bound, &mut live);
    let cores = cores.handles;
    let node = Node {
        uuid: state.node_uuid(),
        started: Instant::now(),
        read_config,
        core_settings,
        cores,
        live: Mutex::new(live),
        change: tokio::sync::Mutex::new(state),
        waiting: Semaphore::new(CHANGES_MAX),
    };
    node.publish();
    let node = Arc::new(node);
    tokio::spawn(Node::note_boots(Arc::downgrade(&node)));
    Ok(node)
}

/// The cores, while volumes are brought to them.
struct Served<'a> {
    handles: Vec<CoreHandle>,
    cpus: &'a [usize],
}

impl Served<'_> {
    /// Tells the cores what clients and links meet, so that replicas know how to prove who they are when they begin.
    fn tell(&self, live: &mut Live) {
        let directory = Arc::new(live.directory());
        for core in &self.handles {
            core.send(Ask::Directory(directory.clone()));
        }
    }

    /// Brings the declared volumes into service, those with replicas last, their files made where they are missing.
    async fn serve_declared(
        &self,
        surveyed: Vec<Surveyed>,
        state: &State,
        live: &mut Live,
        undo: &mut Undo,
    ) -> Result<Vec<Record>, Fault> {
        let mut records = Vec::new();
        let is_mirrored = |volume: &Surveyed| volume.declaration.mirror.is_some();
        let (mirrored, plain): (Vec<_>, Vec<_>) = surveyed.into_iter().partition(is_mirrored);
        for volume in plain.into_iter().chain(mirrored) {
            let uuid = records::identity(&volume, state);
            make_file(&volume, uuid, undo)?;
            if is_mirrored(&volume) {
                live.own.files(uuid).prepare(undo)?;
            }
            let settings = Arc::new(live.own.settings(&volume, uuid, &live.mirror)?);
            let service = self.attach(live, &settings).await?;
            if is_mirrored(&volume) {
                undo.keep();
            }
            live.enter(LiveVolume::new(&volume, settings, service));
            records.push(records::record_of(&volume, uuid, Owner::Config));
        }
        Ok(records)
    }

    /// Brings a volume of the admin API back; one that cannot be does not keep the others from it.
    async fn revive(&self, live: &Live, record: Record, found: Result<Surveyed, String>) -> LiveVolume {
        let settings = found.as_ref().map_err(String::clone).and_then(|volume| {
            let settings = live.own.settings(volume, record.uuid, &live.mirror);
            settings.map_err(|fault| fault.to_string())
        });
        let settings = settings.map(Arc::new);
        let attached = match &settings {
            Ok(settings) => self.attach(live, settings).await.map_err(|fault| fault.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        let service = attached.unwrap_or_else(|reason| {
            tracing::error!(volume = record.volume.name, reason, "a volume is not available");
            Service::Unavailable(reason)
        });
        let volume = found.unwrap_or_else(|_| survey::unseen(&record.volume));
        let settings = settings.unwrap_or_else(|_| Arc::new(settings_of(&volume, record.uuid)));
        LiveVolume::new(&volume, settings, service)
    }

    async fn attach(&self, live: &Live, settings: &Arc<VolumeSettings>) -> Result<Service, Fault> {
        let core = core_for_volume(&live.volumes_per_core(self.handles.len()));
        attach(&self.handles[core], self.cpus[core], core, settings).await
    }
}

fn bind_admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(admin) = &config.node.admin else { return Ok(None) };
    Ok(Some(portals::bind_admin(admin.address)?))
}

fn make_file(volume: &Surveyed, uuid: Uuid, undo: &mut Undo) -> Result<(), Fault> {
    let (Some(size), crate::settings::Backing::File { path, .. }) = (volume.create_bytes, &volume.backing)
    else {
        return Ok(());
    };
    store::create(&settings_of(volume, uuid))?;
    undo.note_file(path);
    tracing::debug!(volume = volume.declaration.name, path = %path.display(), bytes = size, "made a sparse file");
    Ok(())
}

/// Opens a volume's store, and its metadata where it has replicas, and brings it into service on a core.
pub(super) async fn attach(
    handle: &CoreHandle,
    cpu: usize,
    core: usize,
    settings: &Arc<VolumeSettings>,
) -> Result<Service, Fault> {
    let open = || {
        let settings = settings.clone();
        blocking(move || store::open(&settings))
    };
    let opened = patiently(open).await?;
    let mirror = metadata_of(settings, opened.facts().size_bytes).await?;
    let settings = settings.clone();
    let facts =
        ask(handle, cpu, ATTACH_TIME, |reply| Ask::AddVolume { settings, opened, mirror, reply }).await??;
    Ok(Service::Serving { core, facts })
}

/// Tries again for a while what another process holds: one that has just ended may hold its files and ports
/// a little longer, since the kernel takes io_uring's rings apart after the exit.
pub(super) async fn patiently<T, A: Future<Output = Result<T, Fault>>>(
    attempt: impl Fn() -> A,
) -> Result<T, Fault> {
    let deadline = Instant::now() + HELD_TIME;
    loop {
        match attempt().await {
            Err(fault) if fault.kind() == Kind::Conflict && Instant::now() < deadline => {
                tokio::time::sleep(HELD_TIME / 40).await;
            }
            outcome => return outcome,
        }
    }
}

/// The directory first: whoever comes meets it.
fn listen(cores: &Served<'_>, bound: Bindings, live: &mut Live) {
    let listeners = bound.enter(live, cores.handles.len());
    cores.tell(live);
    for (core, ask) in listeners {
        cores.handles[core].send(ask);
    }
}

impl From<Vec<Mistake>> for StartError {
    fn from(mistakes: Vec<Mistake>) -> StartError {
        StartError::Mistakes(mistakes)
    }
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> StartError {
        StartError::Fault(fault)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Fault(fault) => fault.fmt(f),
            StartError::Mistakes(mistakes) => {
                let lines: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, StartError::Mistakes(mistakes) if mistakes.iter().all(Mistake::is_usage))
    }
}
