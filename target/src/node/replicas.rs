//! This node's replicas of mirrored volumes: their settings, their metadata, and since when their copies are whole.
//!
//! Its one rule: what a replica is told of its copy (blank, kept) is what the machine shows, never what is hoped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use replication::RoleState;
use uuid::Uuid;

use super::{Live, LiveVolume, Node, blocking, settings_of};
use crate::config::mirror::{MirrorConfig, MirrorDeclaration};
use crate::config::survey::Surveyed;
use crate::fault::{Fault, Kind};
use crate::mirror::{OpenMetadata, open_metadata};
use crate::settings::{Backing, Era, LinkSettings, MirrorSettings, Protocol, VolumeSettings};
use crate::state::{ReplicaFiles, State};

/// How often replicas are looked at that have yet to make good what an earlier boot may have lost.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// This node, as its peers know it.
#[derive(Clone, Debug)]
pub(super) struct OwnNode {
    pub(super) name: String,
    pub(super) uuid: Uuid,
    state_dir: PathBuf,
}

impl OwnNode {
    pub(super) fn new(name: &str, state_dir: &Path, state: &State) -> OwnNode {
        OwnNode { name: name.to_owned(), uuid: state.node_uuid(), state_dir: state_dir.to_owned() }
    }

    /// What the state directory keeps of a replica.
    pub(super) fn files(&self, uuid: Uuid) -> ReplicaFiles {
        ReplicaFiles::new(&self.state_dir, uuid)
    }

    /// The settings of a volume that is about to be served; its backing is there.
    pub(super) fn settings(
        &self,
        volume: &Surveyed,
        uuid: Uuid,
        config: &MirrorConfig,
    ) -> Result<VolumeSettings, Fault> {
        let mirror = volume.declaration.mirror.as_ref();
        let mirror = mirror.map(|mirror| self.mirror_settings(mirror, &volume.backing, uuid, config));
        Ok(VolumeSettings { mirror: mirror.transpose()?.map(Arc::new), ..settings_of(volume, uuid) })
    }

    fn mirror_settings(
        &self,
        mirror: &MirrorDeclaration,
        backing: &Backing,
        uuid: Uuid,
        config: &MirrorConfig,
    ) -> Result<MirrorSettings, Fault> {
        let own =
            mirror.place_of(&self.name).map_err(|wrong| Fault::new(Kind::Invalid, wrong.to_string()))?;
        let files = self.files(uuid);
        Ok(MirrorSettings {
            replicas: mirror.replicas.value.clone(),
            own,
            addresses: self.addresses(&mirror.replicas.value, config),
            on_peer_loss: mirror.on_peer_loss,
            peer_timeout: mirror.peer_timeout,
            node: self.uuid,
            metadata: files.metadata(),
            blank: is_blank(backing),
            cache_kept: *backing != Backing::Memory && files.is_of_this_boot(),
            era: Era::default(),
        })
    }

    /// Where the peers among `replicas` listen.
    pub(super) fn addresses(&self, replicas: &[String], config: &MirrorConfig) -> Vec<Option<String>> {
        let address = |name: &String| {
            let address = config.peers.get(name).filter(|_| *name != self.name);
            address.map(|at| at.value.clone())
        };
        replicas.iter().map(address).collect()
    }
}

/// Opens the metadata of a mirrored volume. A new copy has lost nothing to an earlier boot.
pub(super) async fn metadata_of(
    settings: &Arc<VolumeSettings>,
    size_bytes: u64,
) -> Result<Option<Box<OpenMetadata>>, Fault> {
    let Some(mirror) = settings.mirror.clone() else { return Ok(None) };
    let settings = settings.clone();
    let open = move || {
        let is_new = !mirror.metadata.exists();
        let opened = open_metadata(&settings, size_bytes)?;
        if is_new {
            ReplicaFiles::beside(&mirror.metadata, settings.uuid).note_boot()?;
        }
        Ok(Some(Box::new(opened)))
    };
    blocking(open).await
}

/// Whether all of it reads as zeros: memory that is not there yet, or a file of which nothing was ever written.
fn is_blank(backing: &Backing) -> bool {
    match backing {
        Backing::Memory => true,
        Backing::File { path, .. } => {
            let first_data = File::open(path).map(|file| lseek(file, 0, Whence::SeekData));
            matches!(first_data, Ok(Err(Errno::ENXIO)))
        }
        Backing::Block { .. } | Backing::Nvme { .. } => false,
    }
}

impl Live {
    /// What holds for links.
    pub(super) fn links(&self) -> LinkSettings {
        let portal = self.portals.iter().find(|portal| portal.protocol == Protocol::Mirror);
        LinkSettings {
            node_name: self.own.name.clone(),
            authentication: self.mirror.authentication.clone(),
            listening: portal.and_then(|portal| portal.address.parse().ok()),
        }
    }

    /// Enters a volume among those that are there.
    pub(super) fn enter(&mut self, volume: LiveVolume) {
        let settings = &volume.settings;
        if settings.mirror.as_ref().is_some_and(|mirror| mirror.cache_kept) {
            self.noted.insert(settings.uuid);
        }
        self.volumes.insert(volume.declaration.name.clone(), volume);
    }

    /// Whether any volume has replicas.
    pub(super) fn has_mirrors(&self) -> bool {
        self.volumes.values().any(|volume| volume.declaration.mirror.is_some())
    }

    /// What is no mistake and yet may not be meant.
    pub(super) fn mirror_remarks(&self) -> Vec<String> {
        self.mirror.remarks(&self.own.name, self.volumes.values().map(|volume| &volume.declaration))
    }

    /// Logs what is odd now and was not before.
    pub(super) fn log_mirror_news(&mut self) {
        let remarks = self.mirror_remarks();
        for remark in remarks.iter().filter(|remark| !self.remarked.contains(remark)) {
            tracing::warn!("mirror: {remark}");
        }
        self.remarked = remarks;
    }

    /// Takes over where peers listen now; the names of the volumes for which that is news.
    pub(super) fn adopt_addresses(&mut self) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, volume) in &mut self.volumes {
            let Some(mirror) = &volume.settings.mirror else { continue };
            let addresses = self.own.addresses(&mirror.replicas, &self.mirror);
            if addresses == mirror.addresses {
                continue;
            }
            let mirror = Arc::new(MirrorSettings { addresses, ..(**mirror).clone() });
            volume.settings = Arc::new(VolumeSettings { mirror: Some(mirror), ..(*volume.settings).clone() });
            changed.push(name.clone());
        }
        changed
    }
}

impl Node {
    /// Notes this boot for each replica that has come to lead in it.
    pub(super) async fn note_boots(node: Weak<Node>) {
        loop {
            tokio::time::sleep(LOOK_TIME).await;
            let Some(node) = node.upgrade() else { return };
            node.note_whole_replicas().await;
        }
    }

    async fn note_whole_replicas(&self) {
        let is_noted = |uuid: &Uuid| self.live().noted.contains(uuid);
        let waiting: Vec<Uuid> = {
            let live = self.live();
            let mirrored = live.volumes.values().filter(|volume| volume.settings.mirror.is_some());
            mirrored.map(|volume| volume.settings.uuid).filter(|uuid| !live.noted.contains(uuid)).collect()
        };
        if waiting.is_empty() {
            return;
        }
        let Ok(cores) = self.snapshots().await else { return };
        let volumes = cores.iter().flat_map(|core| &core.volumes);
        for volume in volumes.filter(|volume| waiting.contains(&volume.uuid) && !is_noted(&volume.uuid)) {
            let role = volume.mirror.as_ref().map(|mirror| mirror.status.role);
            // A follower in sync may yet be mended; the leader's bytes are the truth, whatever they have lost.
            if role != Some(RoleState::Leads) {
                continue;
            }
            let files = self.live().own.files(volume.uuid);
            match blocking(move || files.note_boot()).await {
                Ok(()) => drop(self.live().noted.insert(volume.uuid)),
                Err(fault) => tracing::warn!(volume = volume.name, "{fault}"),
            }
        }
    }
}
