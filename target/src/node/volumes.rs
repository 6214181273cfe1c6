//! Volumes made, resized and removed while the node runs, through the admin API.
//!
//! Its one rule: what the configuration declares is changed there, and only there.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::records::{identity, left_behind, record_of};
use super::report::unknown_volume;
use super::start::attach;
use super::{ATTACH_TIME, Change, LiveVolume, Node, Service, blocking, settings_of};
use crate::config::mistake::{Origin, Wrong};
use crate::config::survey::{self, Surveyed};
use crate::config::units::size_text;
use crate::config::volume::{VolumeDraft, VolumeSpec, checked_size};
use crate::fault::{Fault, Kind};
use crate::message::{Ask, VolumeFacts};
use crate::placement::core_for_volume;
use crate::settings::{Backing, VolumeSettings};
use crate::state::{Owner, State};
use crate::status::ResizeRequest;
use crate::store;
use crate::undo::Undo;

/// What a removed volume's clients get to finish.
const REMOVE_GRACE: Duration = Duration::from_secs(5);

impl Node {
    /// Makes a volume and remembers it.
    pub async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), Fault> {
        let Change { mut state, _place } = self.change().await?;
        let volume = self.survey_new(spec)?;
        let name = volume.declaration.name.clone();
        if let Some(wrong) = left_behind(&volume, &state) {
            return Err(Fault::new(Kind::Conflict, wrong.to_string()));
        }
        let uuid = identity(&volume, &state);
        let is_mirrored = volume.declaration.mirror.is_some();
        let bound = if is_mirrored { self.bind_for_links().await? } else { None };
        let settings = settings_of(&volume, uuid);
        let mut undo = Undo::default();
        if is_mirrored {
            state.replica_files(uuid).prepare(&mut undo)?;
        }
        if volume.create_bytes.is_some() {
            let to_make = settings.clone();
            blocking(move || store::create(&to_make)).await?;
        }
        let added = self.add_volume(&mut state, &volume, uuid).await;
        if added.is_err() && volume.create_bytes.is_some() {
            let _ = blocking(move || store::remove(&settings)).await;
        }
        added?;
        undo.keep();
        self.open_for_links(bound);
        self.publish();
        tracing::info!(volume = name, %uuid, "volume created");
        Ok(())
    }

    /// Remembers a volume, then serves it: what its peers may count on is not forgotten.
    async fn add_volume(&self, state: &mut State, volume: &Surveyed, uuid: Uuid) -> Result<(), Fault> {
        state.put(record_of(volume, uuid, Owner::Api))?;
        match self.attached(volume, uuid).await {
            Ok(added) => {
                self.live().enter(added);
                Ok(())
            }
            Err(fault) => {
                let _ = state.forget(&volume.declaration.name);
                Err(fault)
            }
        }
    }

    /// Gives a volume another size.
    pub async fn resize_volume(&self, name: &str, request: &ResizeRequest) -> Result<(), Fault> {
        let Change { mut state, _place } = self.change().await?;
        let size_bytes =
            checked_size(request.size_bytes).map_err(|wrong| Fault::new(Kind::Invalid, wrong.to_string()))?;
        let volume = self.find(name)?;
        if volume.declaration.mirror.is_some() {
            return Err(Fault::new(Kind::Unsupported, keeps_its_size(name).to_string()));
        }
        if let Some(size) = volume.declaration.size.as_ref().filter(|size| is_declared(&size.origin)) {
            let remedy = match size.origin {
                Origin::Flag(_) => "start it again with another size there, or without one and resize then",
                _ => "change it there and run `ringsan reload`, or remove it there, reload, and resize again",
            };
            let context = format!("the size of volume `{name}` {}; {remedy}", size.origin.came_about());
            return Err(Fault::new(Kind::Conflict, context));
        }
        self.resize(&volume, size_bytes, request.shrink).await?;
        self.publish();
        match state.record(name).cloned() {
            Some(mut record) if record.volume.size_bytes.is_some() => {
                record.volume.size_bytes = Some(size_bytes);
                state.put(record)
            }
            _ => Ok(()),
        }
    }

    /// Removes a volume and forgets it; its data only if told so.
    pub async fn remove_volume(&self, name: &str, delete_data: bool) -> Result<(), Fault> {
        let Change { mut state, _place } = self.change().await?;
        let volume = self.find(name)?;
        if is_declared(&volume.declaration.origin) {
            let context = format!(
                "volume `{name}` {}; remove it there and run `ringsan reload`",
                volume.declaration.origin.came_about()
            );
            return Err(Fault::new(Kind::Conflict, context));
        }
        if delete_data && !matches!(volume.settings.backing, Backing::File { .. } | Backing::Memory) {
            let context = format!(
                "volume `{name}` lies on a device, whose data is not deleted; leave --delete-data out"
            );
            return Err(Fault::new(Kind::Invalid, context));
        }
        self.live().volumes.remove(name);
        self.publish();
        let closed = self.detach_live(&volume, REMOVE_GRACE).await;
        let is_mirrored = state.record(name).is_some_and(|record| !record.volume.replicas.is_empty());
        state.forget(name)?;
        if is_mirrored {
            let uuid = volume.settings.uuid;
            self.live().noted.remove(&uuid);
            state.replica_files(uuid).remove()?;
            self.close_for_links().await?;
            self.publish();
        }
        closed?;
        if delete_data {
            let settings = volume.settings.clone();
            blocking(move || store::remove(&settings)).await?;
        }
        tracing::info!(volume = name, delete_data, "volume removed");
        Ok(())
    }

    fn survey_new(&self, spec: &VolumeSpec) -> Result<Surveyed, Fault> {
        let invalid = |text: String| Fault::new(Kind::Invalid, text);
        let draft = VolumeDraft::from_spec(spec).map_err(|wrong| invalid(wrong.to_string()))?;
        let live = self.live();
        let data_dir = &live.node.data_dir;
        let declaration = draft
            .declare(data_dir)
            .map_err(|mistake| invalid(format!("{}; {}", mistake.cause, mistake.remedy)))?;
        if let Some(other) = live.volumes.get(&declaration.name) {
            let origin = other.declaration.origin.came_about();
            let context = format!("the name `{}` is taken: that volume {origin}", declaration.name);
            return Err(Fault::new(Kind::Conflict, format!("{context}; choose another name")));
        }
        if let Some(mirror) = &declaration.mirror {
            mirror.place_of(&live.own.name).map_err(|wrong| invalid(wrong.to_string()))?;
        }
        let found = survey::survey(&declaration, data_dir).map_err(|wrong| invalid(wrong.to_string()))?;
        if found.existing_bytes.is_some()
            && matches!(found.backing, Backing::File { .. })
            && declaration.size.is_some()
        {
            let path = survey::backing_text(&found.backing);
            let context = format!(
                "{path} exists already; leave the size out to serve it as it is, or name another path"
            );
            return Err(Fault::new(Kind::Conflict, context));
        }
        let taken = live.volumes.iter().find(|(_, other)| found.is_on(&other.identity));
        match taken {
            Some((other, _)) => {
                let context = format!(
                    "volume `{other}` has the backing {} already",
                    survey::backing_text(&found.backing)
                );
                Err(Fault::new(Kind::Conflict, format!("{context}; give each volume a backing of its own")))
            }
            None => Ok(found),
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<LiveVolume, Fault> {
        self.live().volumes.get(name).cloned().ok_or_else(|| unknown_volume(name))
    }

    /// Brings a volume into service on one of the cores.
    pub(super) async fn attached(&self, volume: &Surveyed, uuid: Uuid) -> Result<LiveVolume, Fault> {
        let (core, settings) = {
            let live = self.live();
            let core = core_for_volume(&live.volumes_per_core(self.cores.len()));
            (core, Arc::new(live.own.settings(volume, uuid, &live.mirror)?))
        };
        let service = attach(&self.cores[core], self.core_settings.cpus[core], core, &settings).await?;
        Ok(LiveVolume::new(volume, settings, service))
    }

    pub(super) async fn detach_live(&self, volume: &LiveVolume, grace: Duration) -> Result<(), Fault> {
        match volume.service {
            Service::Serving { core, .. } => self.detach_from(core, volume.settings.uuid, grace).await,
            Service::Unavailable(_) => Ok(()),
        }
    }

    /// Resizes the backing, then what is served of it; on a failure in between the backing goes back.
    pub(super) async fn resize(
        &self,
        volume: &LiveVolume,
        size_bytes: u64,
        shrink: bool,
    ) -> Result<(), Fault> {
        let name = &volume.settings.name;
        let Service::Serving { core, facts } = &volume.service else {
            let context = format!("volume `{name}` is not being served; see `ringsan status`");
            return Err(Fault::new(Kind::Invalid, context));
        };
        let now = facts.size_bytes;
        if size_bytes == now {
            return Ok(());
        }
        if size_bytes < now && !shrink {
            return Err(shrink_unasked(name, now, size_bytes));
        }
        // The larger of the two sizes is the backing's while both are known: no client finds its end early.
        if size_bytes > now {
            self.resize_backing(&volume.settings, size_bytes).await?;
        }
        let served = self.resize_served(*core, volume.settings.uuid, size_bytes).await;
        let keeps = if served.is_ok() { size_bytes } else { now };
        if keeps == now || size_bytes < now {
            self.resize_backing(&volume.settings, keeps).await?;
        }
        self.note_size(name, served?);
        tracing::info!(volume = name, bytes = size_bytes, "volume resized");
        Ok(())
    }

    async fn resize_served(&self, core: usize, uuid: Uuid, size_bytes: u64) -> Result<VolumeFacts, Fault> {
        self.ask(core, ATTACH_TIME, |reply| Ask::ResizeVolume { uuid, size_bytes, reply }).await?
    }

    fn note_size(&self, name: &str, facts: VolumeFacts) {
        let mut live = self.live();
        let volume =
            live.volumes.get_mut(name).expect("changes run one at a time, and this one holds the volume");
        let settings = VolumeSettings { size_bytes: Some(facts.size_bytes), ..(*volume.settings).clone() };
        volume.settings = Arc::new(settings);
        if let Service::Serving { facts: served, .. } = &mut volume.service {
            *served = facts;
        }
    }

    async fn resize_backing(&self, settings: &Arc<VolumeSettings>, size_bytes: u64) -> Result<(), Fault> {
        let settings = settings.clone();
        blocking(move || store::resize(&settings, size_bytes)).await
    }

    async fn detach_from(&self, core: usize, uuid: Uuid, grace: Duration) -> Result<(), Fault> {
        self.ask(core, grace + ATTACH_TIME, |reply| Ask::RemoveVolume { uuid, grace, reply }).await?
    }
}

/// All its copies would have to change at once.
pub(super) fn keeps_its_size(name: &str) -> Wrong {
    let cause = format!("volume `{name}` is mirrored, and the size of a mirrored volume cannot be changed");
    Wrong::new(cause, "make a larger volume and copy this one to it: ringsan-nbd copy")
}

fn shrink_unasked(name: &str, now: u64, wanted: u64) -> Fault {
    let (now, wanted) = (size_text(now), size_text(wanted));
    let loss = format!("volume `{name}` has {now}; shrinking it to {wanted} loses the data beyond");
    Fault::new(Kind::Invalid, format!("{loss}; if you mean it, add --shrink"))
}

/// Whether the configuration or the command line says so, rather than the API or a default.
pub(super) fn is_declared(origin: &Origin) -> bool {
    matches!(origin, Origin::File { .. } | Origin::Flag(_))
}
