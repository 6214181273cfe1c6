//! The targets of the moment: declared ones with what is served of their volumes, and every other volume's own.
//!
//! Its one rule: what is not being served is no logical unit; the target stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Live, LiveVolume, Service};
use crate::config::iscsi::name::of_volume;
use crate::config::iscsi::{IscsiConfig, LunDeclaration, TargetDeclaration};
use crate::config::mistake::Origin;
use crate::settings::{IscsiLun, IscsiSettings, IscsiTarget, Protocol};
use crate::status::ReloadReport;

/// What cores were told of iSCSI last.
pub(super) struct Targets {
    pub(super) settings: Arc<IscsiSettings>,
    /// What an operator may not have meant.
    pub(super) remarks: Vec<String>,
    /// Those of them that are in the log.
    logged: Vec<String>,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets { settings: Arc::new(IscsiSettings::closed()), remarks: Vec::new(), logged: Vec::new() }
    }
}

impl Targets {
    /// Logs what is odd now and was not before.
    pub(super) fn log_news(&mut self) {
        if self.settings.listening.is_empty() {
            return;
        }
        for remark in self.remarks.iter().filter(|remark| !self.logged.contains(remark)) {
            tracing::warn!("iSCSI: {remark}");
        }
        self.logged.clone_from(&self.remarks);
    }
}

/// What cores shall be told of iSCSI.
pub(super) fn targets(live: &Live) -> Targets {
    let portals = live.portals.iter().filter(|portal| portal.protocol == Protocol::Iscsi);
    let listening = portals.filter_map(|portal| portal.address.parse::<SocketAddr>().ok());
    let mut remarks = unserved(&live.iscsi, &live.volumes);
    let settings = IscsiSettings {
        targets: all(&live.iscsi, &live.volumes, &mut remarks),
        listening: listening.collect(),
        reservations_dir: live.node.state_dir.join("reservations"),
        ..live.iscsi.settings.clone()
    };
    Targets { settings: Arc::new(settings), remarks, logged: live.targets.logged.clone() }
}

/// Logical units that are declared and not there, or not whole.
fn unserved(config: &IscsiConfig, volumes: &BTreeMap<String, LiveVolume>) -> Vec<String> {
    let luns = config.targets.iter().flat_map(|target| target.luns.iter().map(move |lun| (target, lun)));
    luns.filter_map(|(target, (number, lun))| {
        let LunDeclaration { volume, block_bytes, .. } = lun;
        let what = format!("LUN {number} of {}", target.name);
        match volumes.get(volume).map(|volume| &volume.service) {
            None => Some(format!("{what} is not there: there is no volume `{volume}`")),
            Some(Service::Unavailable(_)) => {
                Some(format!("{what} is not there: volume `{volume}` is not served"))
            }
            Some(Service::Serving { facts, .. }) => {
                let rest = facts.size_bytes % u64::from(*block_bytes);
                (rest > 0)
                    .then(|| format!("{what} lacks the last {rest} bytes of `{volume}`: no whole block"))
            }
        }
    })
    .collect()
}

fn all(
    config: &IscsiConfig,
    volumes: &BTreeMap<String, LiveVolume>,
    remarks: &mut Vec<String>,
) -> BTreeMap<String, Arc<IscsiTarget>> {
    let mut targets: BTreeMap<_, _> =
        config.targets.iter().map(|target| (target.name.clone(), declared(target, volumes))).collect();
    let others = volumes.values().filter(|volume| !config.declares(&volume.settings.name));
    for volume in others.filter(|_| config.every_volume) {
        let target = own(config, volume);
        if targets.contains_key(&target.name) {
            let (volume, name) = (&volume.settings.name, &target.name);
            remarks.push(format!(
                "volume `{volume}` has no target: the name {name} is taken; declare one in [[iscsi.target]]"
            ));
            continue;
        }
        targets.insert(target.name.clone(), target);
    }
    targets.into_iter().map(|(name, target)| (name, Arc::new(target))).collect()
}

fn declared(target: &TargetDeclaration, volumes: &BTreeMap<String, LiveVolume>) -> IscsiTarget {
    let found = |lun: &LunDeclaration| volumes.get(&lun.volume);
    let lun = |(number, lun): (&u16, &LunDeclaration)| Some((*number, unit(found(lun)?, lun)?));
    let luns = target.luns.iter().filter_map(lun).collect();
    let mut allow = vec![target.allow.clone()];
    allow.extend(target.luns.values().filter_map(found).map(|volume| volume.settings.allow.clone()));
    allow.retain(|list| !list.is_empty());
    IscsiTarget {
        name: target.name.clone(),
        alias: target.alias.clone(),
        core: home(&luns),
        luns,
        authentication: target.authentication.clone(),
        initiators: target.initiators.clone(),
        allow,
    }
}

/// The target that a volume is by itself.
fn own(config: &IscsiConfig, volume: &LiveVolume) -> IscsiTarget {
    let name = &volume.settings.name;
    let declaration = LunDeclaration {
        volume: name.clone(),
        read_only: false,
        removable: false,
        block_bytes: config.block_bytes,
    };
    let target = TargetDeclaration {
        origin: Origin::Default,
        name: of_volume(&config.prefix, name),
        alias: name.clone(),
        luns: BTreeMap::from([(0, declaration)]),
        authentication: config.authentication.clone(),
        initiators: config.initiators.clone(),
        allow: config.allow.clone(),
    };
    declared(&target, &BTreeMap::from([(name.clone(), volume.clone())]))
}

fn unit(volume: &LiveVolume, lun: &LunDeclaration) -> Option<IscsiLun> {
    let Service::Serving { core, .. } = volume.service else { return None };
    Some(IscsiLun {
        volume: volume.settings.uuid,
        volume_name: lun.volume.clone(),
        core,
        read_only: lun.read_only || volume.settings.read_only,
        removable: lun.removable,
        block_bytes: lun.block_bytes,
    })
}

/// Sessions live where the lowest logical unit does.
fn home(luns: &BTreeMap<u16, IscsiLun>) -> usize {
    luns.values().next().map_or(0, |lun| lun.core)
}

/// Tells what a reload changes of what is declared.
pub(super) fn report(before: &IscsiConfig, after: &IscsiConfig, report: &mut ReloadReport) {
    for target in &after.targets {
        let name = &target.name;
        match before.targets.iter().find(|earlier| earlier.name == *name) {
            None => report.changed.push(format!("target {name} is served")),
            Some(earlier) => report.changed.extend(difference(earlier, target)),
        }
    }
    for gone in before.targets.iter().filter(|gone| !after.targets.iter().any(|now| now.name == gone.name)) {
        let line = format!("target {} is no longer served; its sessions are asked to log out", gone.name);
        report.changed.push(line);
    }
    if of_volumes(before) != of_volumes(after) {
        report
            .changed
            .push("the targets that volumes are by themselves, or who may log in to them".to_owned());
    }
    if before.settings.discovery != after.settings.discovery {
        report.changed.push("the CHAP users of discovery, for new sessions".to_owned());
    }
    if limits(before) != limits(after) {
        report.changed.push("the settings of iSCSI clients, for new ones".to_owned());
    }
}

fn difference(earlier: &TargetDeclaration, now: &TargetDeclaration) -> Option<String> {
    let name = &now.name;
    if earlier.luns != now.luns || earlier.initiators != now.initiators || earlier.allow != now.allow {
        return Some(format!(
            "target {name} has changed; sessions that it no longer fits are asked to log out"
        ));
    }
    let differs = earlier.authentication != now.authentication || earlier.alias != now.alias;
    differs.then(|| format!("target {name} has other CHAP users or another alias, for new sessions"))
}

fn of_volumes(config: &IscsiConfig) -> impl PartialEq {
    let access = (config.authentication.clone(), config.initiators.clone(), config.allow.clone());
    (config.prefix.clone(), config.every_volume, config.block_bytes, access)
}

fn limits(config: &IscsiConfig) -> IscsiSettings {
    IscsiSettings { discovery: Default::default(), ..config.settings.clone() }
}
