//! What the node says about itself: `Status`, from what is in force and the cores' counters.
//!
//! Rates and latencies of a window are differences of two snapshots. Its one rule: asking costs the cores
//! one message each, and nobody asks but a person or a scraper.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sessions::{iscsi_status, session_status, sessions_by_target, sessions_with};
use super::{Live, LivePortal, LiveVolume, Node, Service};
use crate::config::survey::{backing_kind, backing_text};
use crate::config::values::{poll_name, tls_name};
use crate::fault::{Fault, Kind};
use crate::metrics::Scrape;
use crate::settings::Portal;
use crate::snapshot::{CoreSnapshot, OperationCounters, VolumeSnapshot};
use crate::status::{
    ClientStatus, CoreStatus, Latency, MirrorStatus, NodeStatus, OperationStatus, PortalStatus, Status,
    TlsStatus, VolumeStatus,
};

/// The longest window that can be asked for.
pub const WINDOW_MAX: Duration = Duration::from_secs(60);

/// Two moments.
pub(super) struct Sample {
    pub(super) now: Vec<CoreSnapshot>,
    /// And the seconds since.
    pub(super) before: Option<(Vec<CoreSnapshot>, f64)>,
}

impl Node {
    /// The node's status; with a `window`, it waits that long and tells rates.
    pub async fn status(&self, window: Option<Duration>) -> Result<Status, Fault> {
        let before = match window {
            None => None,
            Some(window) if window > WINDOW_MAX => {
                return Err(Fault::new(
                    Kind::Invalid,
                    "the window is longer than 60s; ask for a shorter one",
                ));
            }
            Some(window) => {
                let (start, snapshots) = (Instant::now(), self.snapshots().await?);
                tokio::time::sleep(window).await;
                Some((start, snapshots))
            }
        };
        let now = self.snapshots().await?;
        let before = before.map(|(start, snapshots)| (snapshots, start.elapsed().as_secs_f64()));
        Ok(self.report(&Sample { now, before }))
    }

    fn report(&self, sample: &Sample) -> Status {
        let live = self.live();
        Status {
            node: self.node_status(&live),
            portals: live.portals.iter().map(portal_status).collect(),
            tls: TlsStatus {
                mode: tls_name(live.nbd.tls).to_owned(),
                certificate: live.tls_files.as_ref().map(|files| files.certificate.clone()),
                client_ca: live.tls_files.as_ref().and_then(|files| files.client_ca.clone()),
            },
            cores: (0..sample.now.len()).map(|core| self.core_status(&live, sample, core)).collect(),
            volumes: live.volumes.values().map(|volume| self.volume_status(&live, volume, sample)).collect(),
            iscsi: iscsi_status(&live, &self.core_settings.cpus, sample),
            clients: sample.now.iter().flat_map(|core| clients(core, sample)).collect(),
            dropped: dropped(&sample.now),
            remarks: live.mirror_remarks(),
            window_seconds: sample.before.as_ref().map(|(_, seconds)| *seconds),
        }
    }

    fn node_status(&self, live: &Live) -> NodeStatus {
        NodeStatus {
            name: live.node.name.clone(),
            uuid: self.uuid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            config_files: live.files.clone(),
            data_dir: live.node.data_dir.clone(),
            state_dir: live.node.state_dir.clone(),
            admin: live.admin_address,
        }
    }

    fn core_status(&self, live: &Live, sample: &Sample, core: usize) -> CoreStatus {
        let now = &sample.now[core];
        let before = sample.before.as_ref().map(|(snapshots, _)| &snapshots[core]);
        let since = |read: fn(&CoreSnapshot) -> u64| read(now).saturating_sub(before.map_or(0, read));
        let requests = since(requests);
        let ratio = |part: u64| (requests > 0).then(|| part as f64 / requests as f64);
        CoreStatus {
            cpu: now.cpu,
            poll: poll_name(self.core_settings.poll).to_owned(),
            features: now.features.clone(),
            volumes: live.volumes_per_core(self.cores.len())[core],
            connections: now.clients.len(),
            operations: now.operations,
            system_calls: now.system_calls,
            polls: now.polls,
            sleeps: now.sleeps,
            system_calls_per_request: ratio(since(|core| core.system_calls)),
            polls_per_request: ratio(since(|core| core.polls)),
            arena_bytes: now.arena_bytes as u64,
            arena_used_bytes: now.arena_used_bytes as u64,
        }
    }

    fn volume_status(&self, live: &Live, volume: &LiveVolume, sample: &Sample) -> VolumeStatus {
        let settings = &volume.settings;
        let now = find(&sample.now, volume);
        let before = sample.before.as_ref().map(|(snapshots, seconds)| (find(snapshots, volume), *seconds));
        let (cpu, facts, unavailable) = match &volume.service {
            Service::Serving { core, facts } => (Some(self.core_settings.cpus[*core]), Some(facts), None),
            Service::Unavailable(reason) => (None, None, Some(reason.clone())),
        };
        VolumeStatus {
            name: settings.name.clone(),
            uuid: settings.uuid,
            backing: backing_text(&settings.backing),
            kind: backing_kind(&settings.backing).name().to_owned(),
            read_only: settings.read_only,
            allow: settings.allow.iter().map(ToString::to_string).collect(),
            description: settings.description.clone(),
            declared_at: volume.declaration.origin.to_string(),
            unavailable,
            cpu,
            facts: now.map(|snapshot| &snapshot.facts).or(facts).cloned(),
            connections: now.map_or(0, |snapshot| snapshot.connections)
                + sessions_with(live, settings.uuid, &sample.now),
            operations: now.map(|now| operations(now, before)).unwrap_or_default(),
            mirror: now.and_then(|now| mirror(now, before)),
        }
    }

    /// What a scrape of the metrics shows.
    pub async fn scrape(&self) -> Result<Scrape, Fault> {
        let cores = self.snapshots().await?;
        let live = self.live();
        let unserved = |volume: &&LiveVolume| matches!(volume.service, Service::Unavailable(_));
        Ok(Scrape {
            node: live.node.name.clone(),
            uuid: self.uuid,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            unavailable: live
                .volumes
                .values()
                .filter(unserved)
                .map(|volume| volume.settings.name.clone())
                .collect(),
            sessions: sessions_by_target(&live, &cores),
            cores,
        })
    }

    /// One volume's status since the start.
    pub async fn volume(&self, name: &str) -> Result<VolumeStatus, Fault> {
        let sample = Sample { now: self.snapshots().await?, before: None };
        let live = self.live();
        let volume = live.volumes.get(name).ok_or_else(|| unknown_volume(name))?;
        Ok(self.volume_status(&live, volume, &sample))
    }
}

/// The name is nobody's.
pub(super) fn unknown_volume(name: &str) -> Fault {
    Fault::new(Kind::NotFound, format!("there is no volume `{name}`; list them with `ringsan volume ls`"))
}

fn portal_status(portal: &LivePortal) -> PortalStatus {
    let inherited = matches!(portal.portal, Portal::Inherited(_));
    PortalStatus { address: portal.address.clone(), protocol: portal.protocol, inherited }
}

fn find<'s>(snapshots: &'s [CoreSnapshot], volume: &LiveVolume) -> Option<&'s VolumeSnapshot> {
    snapshots.iter().flat_map(|core| &core.volumes).find(|found| found.uuid == volume.settings.uuid)
}

/// Requests that the core has answered, of the volumes that it still has.
fn requests(core: &CoreSnapshot) -> u64 {
    core.volumes.iter().flat_map(|volume| &volume.operations).map(|counters| counters.requests).sum()
}

fn clients<'s>(core: &'s CoreSnapshot, sample: &'s Sample) -> impl Iterator<Item = ClientStatus> + 's {
    core.clients.iter().map(|client| ClientStatus {
        protocol: client.protocol,
        address: client.address,
        volume: client.volume.clone(),
        cpu: core.cpu,
        tls: client.tls,
        requests_inflight: client.requests_inflight,
        requests: client.requests,
        session: client.session.as_ref().map(|session| session_status(session, sample)),
    })
}

fn dropped(snapshots: &[CoreSnapshot]) -> BTreeMap<String, u64> {
    let mut dropped = BTreeMap::new();
    for (reason, count) in snapshots.iter().flat_map(|core| &core.dropped) {
        *dropped.entry((*reason).to_owned()).or_default() += count;
    }
    dropped
}

fn operations(
    now: &VolumeSnapshot,
    before: Option<(Option<&VolumeSnapshot>, f64)>,
) -> BTreeMap<String, OperationStatus> {
    let used = now.operations.iter().filter(|counters| counters.requests > 0);
    used.map(|counters| {
        let earlier = before.map(|(snapshot, seconds)| {
            let counters = snapshot.and_then(|volume| {
                volume.operations.iter().find(|earlier| earlier.operation == counters.operation)
            });
            (counters, seconds)
        });
        (counters.operation.name().to_owned(), operation(counters, earlier))
    })
    .collect()
}

fn mirror(now: &VolumeSnapshot, before: Option<(Option<&VolumeSnapshot>, f64)>) -> Option<MirrorStatus> {
    let before = before.map(|(volume, seconds)| (volume.and_then(|volume| volume.mirror.as_ref()), seconds));
    now.mirror.as_ref().map(|mirror| MirrorStatus::new(&now.name, mirror, before))
}

fn operation(now: &OperationCounters, before: Option<(Option<&OperationCounters>, f64)>) -> OperationStatus {
    let rate = |read: fn(&OperationCounters) -> u64| {
        before.map(|(earlier, seconds)| read(now).saturating_sub(earlier.map_or(0, read)) as f64 / seconds)
    };
    let mut latency_ns = now.latency_ns.clone();
    if let Some((Some(earlier), _)) = before {
        // Only a restarted volume has counted less than before; then its own counts are the difference.
        if latency_ns.subtract(&earlier.latency_ns).is_err() {
            latency_ns = now.latency_ns.clone();
        }
    }
    OperationStatus {
        requests: now.requests,
        bytes: now.bytes,
        errors: now.errors,
        requests_per_second: rate(|counters| counters.requests),
        bytes_per_second: rate(|counters| counters.bytes),
        latency: Latency::of(&latency_ns),
    }
}
