//! A changed configuration brought into force: only what changed is touched.
//!
//! Everything is validated, portals bound and files made, before the first volume is touched. Its one
//! rule: a mistake anywhere changes nothing.

use std::sync::Arc;
use std::time::Duration;

use super::records::{identity, left_behind, record_of};
use super::start::StartError;
use super::volumes::{is_declared, keeps_its_size};
use super::{Change, Live, LiveVolume, Node, Service, blocking, settings_of};
use replication::OnPeerLoss;
use uuid::Uuid;

use crate::config::mirror::{MirrorConfig, MirrorDeclaration};
use crate::config::mistake::{Mistake, Wrong};
use crate::config::survey::{self, Surveyed, backing_text};
use crate::config::units::{duration_text, size_text};
use crate::config::values::on_peer_loss_name;
use crate::config::volume::Declaration;
use crate::config::{Config, NodeConfig};
use crate::fault::Fault;
use crate::settings::{NbdSettings, VolumeSettings};
use crate::state::{Owner, State};
use crate::status::ReloadReport;
use crate::store;
use crate::undo::Undo;

const REMOVE_GRACE: Duration = Duration::from_secs(5);

/// What is to be done with volumes.
#[derive(Default)]
struct Plan {
    remove: Vec<LiveVolume>,
    add: Vec<Surveyed>,
    resize: Vec<(LiveVolume, u64)>,
    relabel: Vec<Declaration>,
}

impl Node {
    /// Reads the configuration anew and applies what changed.
    pub async fn reload(&self) -> Result<ReloadReport, StartError> {
        let Change { mut state, _place } = self.change().await?;
        let read_config = self.read_config.clone();
        let config = blocking(move || read_config()).await?;
        let plan = self.plan(&config, &state)?;
        let mut undo = Undo::default();
        let bindings = self.bind_new(&config)?;
        make_files(&plan, &state, &mut undo)?;
        undo.keep();
        let mut report = ReloadReport::default();
        self.note_restart(&config, &mut report);
        self.apply_links(&config, &mut report);
        self.apply_volumes(plan, &mut state, &mut report).await;
        self.apply_portals(&config, bindings, &mut report).await;
        self.apply_settings(config, &mut report);
        self.publish();
        Ok(report)
    }

    fn plan(&self, config: &Config, state: &State) -> Result<Plan, Vec<Mistake>> {
        let live = self.live();
        let mut plan = Plan::default();
        let mut mistakes = Vec::new();
        for volume in live.volumes.values().filter(|volume| is_declared(&volume.declaration.origin)) {
            let declared = config.volumes.iter().find(|declared| declared.name == volume.declaration.name);
            match declared {
                Some(declared) if is_same_store(declared, &volume.declaration) => {
                    plan_change(volume, declared, &mut plan)
                        .unwrap_or_else(|wrong| mistakes.push(wrong.at(&declared.origin)));
                }
                _ => plan.remove.push(volume.clone()),
            }
        }
        let stays = |name: &str| {
            live.volumes.contains_key(name) && !plan.remove.iter().any(|volume| volume.settings.name == name)
        };
        let added: Vec<_> =
            config.volumes.iter().filter(|declared| !stays(&declared.name)).cloned().collect();
        mistakes.extend(config.volumes.iter().filter_map(|declared| clash(&live, declared)));
        plan.add = survey::survey_all(&added, &config.node.data_dir, &mut mistakes);
        for added in &plan.add {
            let mirror = added.declaration.mirror.as_ref();
            let stranger = mirror.and_then(|mirror| mirror.place_of(&live.own.name).err());
            mistakes.extend(stranger.map(|wrong| wrong.at(&added.declaration.origin)));
            let taken = live
                .volumes
                .values()
                .find(|other| stays(&other.settings.name) && added.is_on(&other.identity));
            mistakes.extend(taken.map(|other| on_same_bytes(added, other)));
            mistakes.extend(left_behind(added, state).map(|wrong| wrong.at(&added.declaration.origin)));
        }
        if mistakes.is_empty() { Ok(plan) } else { Err(mistakes) }
    }

    fn note_restart(&self, config: &Config, report: &mut ReloadReport) {
        let live = self.live();
        let mut note = |differs: bool, what: &str| {
            if differs {
                report.needs_restart.push(format!("{what} changed: takes effect at the next start"));
            }
        };
        note(config.cores != self.core_settings, "[cores]");
        note(config.node.name != live.node.name, "the node's name");
        for declared in &config.volumes {
            let running = live.volumes.get(&declared.name).map(|volume| &volume.declaration);
            let (wanted, running) =
                (declared.mirror.as_ref(), running.map(|running| running.mirror.as_ref()));
            let name = &declared.name;
            let differs = running.is_some_and(|running| replicas_of(running) != replicas_of(wanted));
            note(differs, &format!("the replicas of volume `{name}`"));
            let differs = running
                .flatten()
                .zip(wanted)
                .is_some_and(|(running, wanted)| !differs && loss_of(running, wanted) != wanted.on_peer_loss);
            note(differs, &format!("`on_peer_loss` of volume `{name}`, which has more than two replicas,"));
        }
        note(config.node.state_dir != live.node.state_dir, "the state directory");
        let address = |node: &NodeConfig| node.admin.as_ref().map(|admin| admin.address);
        note(address(&config.node) != address(&live.node), "the admin address");
    }

    async fn apply_volumes(&self, plan: Plan, state: &mut State, report: &mut ReloadReport) {
        for volume in &plan.remove {
            let name = &volume.settings.name;
            self.live().volumes.remove(name);
            self.publish_meanwhile();
            match self.detach_live(volume, REMOVE_GRACE).await {
                Ok(()) => report.changed.push(format!("volume `{name}` is no longer served; its data stays")),
                Err(fault) => report.failed.push(format!("volume `{name}`: {fault}")),
            }
        }
        for volume in &plan.add {
            let name = &volume.declaration.name;
            match self.add_declared(volume, state).await {
                Ok(()) => report
                    .changed
                    .push(format!("volume `{name}` is served from {}", backing_text(&volume.backing))),
                Err(fault) => report.failed.push(format!("volume `{name}`: {fault}")),
            }
        }
        for (volume, size_bytes) in &plan.resize {
            let name = &volume.settings.name;
            match self.resize(volume, *size_bytes, false).await {
                Ok(()) => {
                    report.changed.push(format!("volume `{name}` has grown to {}", size_text(*size_bytes)))
                }
                Err(fault) => report.failed.push(format!("volume `{name}`: {fault}")),
            }
        }
        for declared in plan.relabel {
            self.relabel(declared, report);
        }
    }

    async fn add_declared(&self, volume: &Surveyed, state: &mut State) -> Result<(), Fault> {
        let uuid = identity(volume, state);
        state.put(record_of(volume, uuid, Owner::Config))?;
        let added = self.attached(volume, uuid).await?;
        self.live().enter(added);
        Ok(())
    }

    /// Takes over what needs no store: the description, the allow-list, how a mirror bears losses, and where it was declared.
    fn relabel(&self, declared: Declaration, report: &mut ReloadReport) {
        let mut live = self.live();
        let Some(volume) = live.volumes.get_mut(&declared.name) else { return };
        let mut settings = VolumeSettings {
            description: declared.description.clone(),
            allow: declared.allow.clone(),
            ..(*volume.settings).clone()
        };
        if settings != *volume.settings {
            report.changed.push(format!(
                "volume `{}` has a new description or allow-list, for new clients",
                declared.name
            ));
        }
        let mut mirror = volume.declaration.mirror.take();
        if let (Some(running), Some(wanted)) = (&mut mirror, &declared.mirror) {
            *running = reconfigured(running, wanted);
            let now = settings.mirror.as_deref().map(|now| running.apply_to(now));
            if now.as_ref() != settings.mirror.as_deref() {
                let (loss, timeout) = (on_peer_loss_name(running.on_peer_loss), running.peer_timeout);
                report.changed.push(format!(
                    "volume `{}` has on_peer_loss = \"{loss}\" and peer_timeout = \"{}\"; give its other nodes the same",
                    declared.name,
                    duration_text(timeout)
                ));
            }
            settings.mirror = now.map(Arc::new);
        }
        volume.settings = Arc::new(settings);
        volume.declaration = Declaration { mirror, ..declared };
    }

    /// How links are proven, and where peers are, before the first volume needs to know.
    fn apply_links(&self, config: &Config, report: &mut ReloadReport) {
        let mut live = self.live();
        let proof =
            |mirror: &MirrorConfig| (mirror.authentication.key.clone(), mirror.tls_fingerprint.clone());
        if proof(&config.mirror) != proof(&live.mirror) {
            report.changed.push("how nodes prove who they are, for new links".to_owned());
        }
        live.mirror = config.mirror.clone();
        for name in live.adopt_addresses() {
            report.changed.push(format!("where the peers of volume `{name}` are, for new links"));
        }
    }

    fn apply_settings(&self, config: Config, report: &mut ReloadReport) {
        let mut live = self.live();
        if !same_limits(&config.nbd, &live.nbd) {
            report.changed.push("the settings of NBD clients, for new ones".to_owned());
        }
        if config.tls_fingerprint != live.tls_fingerprint {
            report.changed.push("the TLS certificates, for new clients".to_owned());
        }
        super::targets::report(&live.iscsi, &config.iscsi, report);
        live.nbd = Arc::new(config.nbd);
        live.iscsi = config.iscsi;
        live.tls_files = config.tls_files;
        live.tls_fingerprint = config.tls_fingerprint;
        live.files = config.files;
        adopt_token(&mut live, &config.node, report);
        live.node.data_dir = config.node.data_dir;
        live.node.stop_timeout = config.node.stop_timeout;
    }
}

/// Takes a new token over. None at all is only taken over where nobody but this machine can reach the API.
fn adopt_token(live: &mut Live, config: &NodeConfig, report: &mut ReloadReport) {
    let (Some(admin), Some(wanted)) = (&mut live.node.admin, &config.admin) else { return };
    if admin.token != wanted.token && (wanted.token.is_some() || admin.address.ip().is_loopback()) {
        admin.token = wanted.token.clone();
        report.changed.push("the admin token".to_owned());
    }
}

/// What a mirror is told at its start only.
fn replicas_of(mirror: Option<&MirrorDeclaration>) -> Option<&[String]> {
    mirror.map(|mirror| mirror.replicas.value.as_slice())
}

/// What the loss of a peer does once `wanted` has taken the place of `running`.
fn loss_of(running: &MirrorDeclaration, wanted: &MirrorDeclaration) -> OnPeerLoss {
    let changes = running.replicas.value.len() <= OnPeerLoss::RECONFIGURED_MAX;
    if changes { wanted.on_peer_loss } else { running.on_peer_loss }
}

/// What a declared mirror becomes while it runs.
fn reconfigured(running: &MirrorDeclaration, wanted: &MirrorDeclaration) -> MirrorDeclaration {
    MirrorDeclaration {
        replicas: running.replicas.clone(),
        on_peer_loss: loss_of(running, wanted),
        peer_timeout: wanted.peer_timeout,
    }
}

/// Whether the store can stay open: the same bytes, reached in the same way, with the same rights.
fn is_same_store(one: &Declaration, other: &Declaration) -> bool {
    one.place == other.place && one.read_only == other.read_only
}

fn plan_change(volume: &LiveVolume, declared: &Declaration, plan: &mut Plan) -> Result<(), Wrong> {
    let Service::Serving { facts, .. } = &volume.service else { return Ok(()) };
    if let Some(size) = &declared.size {
        let (now, wanted) = (facts.size_bytes, size.value);
        if volume.declaration.mirror.is_some() && wanted != now {
            return Err(keeps_its_size(&declared.name));
        }
        if wanted < now {
            let cause = format!(
                "volume `{}` has {}; shrinking it to {} loses data",
                declared.name,
                size_text(now),
                size_text(wanted)
            );
            let remedy = format!(
                "if you mean it, remove the size, reload, and run: ringsan volume resize {} {} --shrink",
                declared.name,
                size_text(wanted)
            );
            return Err(Wrong::new(cause, remedy));
        }
        if wanted > now {
            plan.resize.push((volume.clone(), wanted));
        }
    }
    if *declared != volume.declaration {
        plan.relabel.push(declared.clone());
    }
    Ok(())
}

/// A volume of the admin API under a name that is now declared.
fn clash(live: &Live, declared: &Declaration) -> Option<Mistake> {
    let other = live.volumes.get(&declared.name)?;
    if is_declared(&other.declaration.origin) || !is_declared(&declared.origin) {
        return None;
    }
    let cause = format!("volume `{}` was created through the admin API", declared.name);
    Some(
        Wrong::new(cause, format!("rename this one, or run: ringsan volume rm {}", declared.name))
            .at(&declared.origin),
    )
}

fn on_same_bytes(added: &Surveyed, other: &LiveVolume) -> Mistake {
    let backing = backing_text(&added.backing);
    let cause = format!("volume `{}` has the backing {backing} already", other.settings.name);
    Wrong::new(cause, "give each volume a backing of its own").at(&added.declaration.origin)
}

fn make_files(plan: &Plan, state: &State, undo: &mut Undo) -> Result<(), Fault> {
    for volume in plan.add.iter().filter(|volume| volume.declaration.mirror.is_some()) {
        state.replica_files(identity(volume, state)).prepare(undo)?;
    }
    for volume in plan.add.iter().filter(|volume| volume.create_bytes.is_some()) {
        store::create(&settings_of(volume, Uuid::nil()))?;
        if let crate::settings::Backing::File { path, .. } = &volume.backing {
            undo.note_file(path);
        }
    }
    Ok(())
}

fn same_limits(one: &NbdSettings, other: &NbdSettings) -> bool {
    let limits = |nbd: &NbdSettings| {
        let times = (nbd.handshake_timeout, nbd.stall_timeout);
        (
            nbd.tls,
            nbd.default_export.clone(),
            nbd.connections_max,
            times,
            nbd.requests_max,
            nbd.inflight_bytes_max,
        )
    };
    limits(one) == limits(other)
}
