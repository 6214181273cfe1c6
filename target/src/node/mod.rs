//! One running target, seen from its control thread: which volumes, portals and settings are in force.
//!
//! Everything here may wait; nothing here is on the path of an I/O. Changes (create, resize, remove,
//! reload) run one at a time, behind the `State` lock; `Live` is locked for moments only, so that status
//! and metrics never wait for a change. Its one rule: cores are only ever asked, by `message::Ask`.

mod listening;
mod mirror;
mod records;
mod reload;
mod replicas;
mod report;
mod sessions;
mod start;
mod stop;
mod targets;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use uuid::Uuid;

use crate::config::iscsi::IscsiConfig;
use crate::config::mirror::MirrorConfig;
use crate::config::mistake::{At, Mistake};
use crate::config::survey::{self, Identity, Surveyed};
use crate::config::tls::TlsFiles;
use crate::config::volume::Declaration;
use crate::config::{Config, NodeConfig};
use crate::fault::{Fault, Kind};
use crate::message::{Ask, Directory, DirectoryEntry, Reply, VolumeFacts};
use crate::portals::SocketFile;
use crate::serve_core::CoreHandle;
use crate::settings::{CoreSettings, NbdSettings, Portal, Protocol, VolumeSettings};
use crate::snapshot::CoreSnapshot;
use crate::state::State;

use replicas::OwnNode;
use targets::Targets;

pub use start::{StartError, Started, start};

/// Reads the configuration anew; called at the start and at each reload.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, Vec<Mistake>> + Send + Sync>;

/// How long a core may take to answer what needs no waiting there.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Changes that may wait for the one that is being made.
const CHANGES_MAX: usize = 16;
/// How long it may take to bring a store into service.
const ATTACH_TIME: Duration = Duration::from_secs(30);

/// One running target.
pub struct Node {
    uuid: Uuid,
    started: Instant,
    read_config: ReadConfig,
    core_settings: CoreSettings,
    cores: Vec<CoreHandle>,
    live: Mutex<Live>,
    change: tokio::sync::Mutex<State>,
    waiting: Semaphore,
}

/// The right to change the node, which one task has at a time.
struct Change<'a> {
    state: tokio::sync::MutexGuard<'a, State>,
    _place: SemaphorePermit<'a>,
}

/// What is in force.
struct Live {
    files: Vec<PathBuf>,
    node: NodeConfig,
    nbd: Arc<NbdSettings>,
    iscsi: IscsiConfig,
    /// Why nobody listens for iSCSI, though nobody said so.
    iscsi_off: Option<String>,
    /// As the cores know them.
    targets: Targets,
    own: OwnNode,
    mirror: MirrorConfig,
    /// Remarks about it that are in the log.
    remarked: Vec<String>,
    /// Mirrored volumes whose copies are known to be whole since this boot of the machine.
    noted: BTreeSet<Uuid>,
    tls_files: Option<TlsFiles>,
    tls_fingerprint: Vec<u8>,
    /// Where the admin API listens, its port told by the kernel if it was 0.
    admin_address: Option<SocketAddr>,
    portals: Vec<LivePortal>,
    volumes: BTreeMap<String, LiveVolume>,
}

struct LivePortal {
    protocol: Protocol,
    portal: Portal,
    address: String,
    core: usize,
    _file: Option<SocketFile>,
}

#[derive(Clone)]
struct LiveVolume {
    declaration: Declaration,
    settings: Arc<VolumeSettings>,
    identity: Identity,
    service: Service,
}

/// Whether clients can attach.
#[derive(Clone)]
enum Service {
    /// They can.
    Serving { core: usize, facts: VolumeFacts },
    /// They cannot, for this reason; only a volume of the admin API gets here.
    Unavailable(String),
}

impl Node {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().expect("nobody panics while holding it: panics abort")
    }

    /// Waits for the change that is being made, if there is one, and not too many wait already.
    async fn change(&self) -> Result<Change<'_>, Fault> {
        let busy =
            |_| Fault::new(Kind::Resources, "too many changes are waiting to be made; try again later");
        let place = self.waiting.try_acquire().map_err(busy)?;
        Ok(Change { state: self.change.lock().await, _place: place })
    }

    /// What the node is called, where its admin API listens, and so on.
    pub fn settings(&self) -> NodeConfig {
        self.live().node.clone()
    }

    /// Counters of every core.
    pub async fn snapshots(&self) -> Result<Vec<CoreSnapshot>, Fault> {
        let mut snapshots = Vec::new();
        for core in 0..self.cores.len() {
            snapshots.push(self.ask(core, ANSWER_TIME, |reply| Ask::Snapshot { reply }).await?);
        }
        Ok(snapshots)
    }

    async fn ask<T>(
        &self,
        core: usize,
        bound: Duration,
        make: impl FnOnce(Reply<T>) -> Ask,
    ) -> Result<T, Fault> {
        ask(&self.cores[core], self.core_settings.cpus[core], bound, make).await
    }

    /// Tells every core what clients may attach now, and the log what is odd about it.
    fn publish(&self) {
        self.publish_meanwhile();
        let mut live = self.live();
        live.targets.log_news();
        live.log_mirror_news();
    }

    /// The same in the middle of a change, when much may be odd.
    fn publish_meanwhile(&self) {
        let directory = Arc::new(self.live().directory());
        for core in &self.cores {
            core.send(Ask::Directory(directory.clone()));
        }
    }
}

impl Live {
    /// What the cores are to know now.
    fn directory(&mut self) -> Directory {
        self.targets = targets::targets(self);
        let entry = |volume: &LiveVolume| match &volume.service {
            Service::Serving { core, facts } => {
                Some(DirectoryEntry { settings: volume.settings.clone(), facts: facts.clone(), core: *core })
            }
            Service::Unavailable(_) => None,
        };
        let exports = self.volumes.iter().filter_map(|(name, volume)| Some((name.clone(), entry(volume)?)));
        Directory {
            nbd: self.nbd.clone(),
            iscsi: self.targets.settings.clone(),
            links: Arc::new(self.links()),
            exports: exports.collect(),
        }
    }

    fn volumes_per_core(&self, cores: usize) -> Vec<usize> {
        let mut volumes = vec![0; cores];
        for volume in self.volumes.values() {
            if let Service::Serving { core, .. } = volume.service {
                volumes[core] += 1;
            }
        }
        volumes
    }
}

impl LiveVolume {
    fn new(surveyed: &Surveyed, settings: Arc<VolumeSettings>, service: Service) -> LiveVolume {
        LiveVolume {
            declaration: surveyed.declaration.clone(),
            settings,
            identity: survey::identity_now(surveyed),
            service,
        }
    }
}

/// The settings of a volume as if it had no replicas.
fn settings_of(surveyed: &Surveyed, uuid: Uuid) -> VolumeSettings {
    let Declaration { name, description, read_only, allow, size, .. } = surveyed.declaration.clone();
    let size_bytes = surveyed.existing_bytes.or(surveyed.create_bytes).or(size.map(|At { value, .. }| value));
    VolumeSettings {
        name,
        uuid,
        backing: surveyed.backing.clone(),
        size_bytes,
        description,
        read_only,
        allow,
        mirror: None,
    }
}

async fn ask<T>(
    core: &CoreHandle,
    cpu: usize,
    bound: Duration,
    make: impl FnOnce(Reply<T>) -> Ask,
) -> Result<T, Fault> {
    let (reply, answer) = oneshot::channel();
    let ended = || Fault::new(Kind::ShuttingDown, format!("the core on CPU {cpu} has ended"));
    if !core.send(make(reply)) {
        return Err(ended());
    }
    match tokio::time::timeout(bound, answer).await {
        Ok(answer) => answer.map_err(|_| ended()),
        Err(_) => {
            let context =
                format!("the core on CPU {cpu} did not answer within {bound:?}; its storage may be stuck");
            Err(Fault::new(Kind::Io, context))
        }
    }
}

/// Runs what may block on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("blocking work does not panic, and is never cancelled")
}
