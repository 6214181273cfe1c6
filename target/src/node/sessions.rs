//! What the node says of iSCSI: its targets, and the sessions with what each did with its logical units.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Live;
use super::report::Sample;
use crate::settings::{IscsiAuthentication, IscsiLun, IscsiTarget};
use crate::snapshot::{ClientSnapshot, CoreSnapshot, LunSnapshot, SessionSnapshot};
use crate::status::{IscsiStatus, LunStatus, LunTraffic, SessionLunStatus, SessionStatus, TargetStatus};

/// The iSCSI front; `cpus` are those of the cores.
pub(super) fn iscsi_status(live: &Live, cpus: &[usize], sample: &Sample) -> IscsiStatus {
    let settings = &live.targets.settings;
    let sessions: Vec<_> = sessions(&sample.now).map(|session| session_status(session, sample)).collect();
    let target = |target: &IscsiTarget| target_status(target, cpus, &sessions);
    IscsiStatus {
        unavailable: live.iscsi_off.clone(),
        discovery_authentication: authentication_name(&settings.discovery).to_owned(),
        targets: settings.targets.values().map(|each| target(each)).collect(),
        advertised: settings.advertised.clone(),
        remarks: live.targets.remarks.clone(),
    }
}

/// One session, with rates if the sample has a window.
pub(super) fn session_status(session: &SessionSnapshot, sample: &Sample) -> SessionStatus {
    let earlier = sample.before.as_ref().map(|(snapshots, seconds)| {
        let same = |other: &&SessionSnapshot| is_same(other, session);
        (sessions(snapshots).find(same).map(|earlier| earlier.luns.as_slice()).unwrap_or_default(), *seconds)
    });
    let lun = |lun: &LunSnapshot| SessionLunStatus { lun: lun.lun, traffic: traffic(lun, earlier) };
    SessionStatus {
        initiator: session.initiator.clone(),
        initiator_alias: session.initiator_alias.clone(),
        target: session.target.clone(),
        tsih: session.tsih,
        isid: session.isid.clone(),
        chap_user: session.chap_user.clone(),
        negotiated: session.negotiated.iter().cloned().collect(),
        luns: session.luns.iter().map(lun).collect(),
    }
}

fn sessions(snapshots: &[CoreSnapshot]) -> impl Iterator<Item = &SessionSnapshot> {
    let clients = snapshots.iter().flat_map(|core| &core.clients);
    clients.filter_map(|client: &ClientSnapshot| client.session.as_ref())
}

fn is_same(one: &SessionSnapshot, other: &SessionSnapshot) -> bool {
    let key = |session: &SessionSnapshot| (session.tsih, session.isid.clone(), session.initiator.clone());
    one.target == other.target && key(one) == key(other)
}

fn traffic(now: &LunSnapshot, earlier: Option<(&[LunSnapshot], f64)>) -> LunTraffic {
    let rate = |read: fn(&LunSnapshot) -> u64| {
        let (luns, seconds) = earlier?;
        let before = luns.iter().find(|before| before.lun == now.lun).map_or(0, read);
        Some(read(now).saturating_sub(before) as f64 / seconds)
    };
    LunTraffic {
        commands: now.commands,
        read_bytes: now.read_bytes,
        written_bytes: now.written_bytes,
        commands_per_second: rate(|lun| lun.commands),
        read_bytes_per_second: rate(|lun| lun.read_bytes),
        written_bytes_per_second: rate(|lun| lun.written_bytes),
    }
}

fn target_status(target: &IscsiTarget, cpus: &[usize], sessions: &[SessionStatus]) -> TargetStatus {
    let ours: Vec<_> = sessions.iter().filter(|session| session.target == target.name).collect();
    let lun = |(number, lun): (&u16, &IscsiLun)| {
        let used = ours.iter().flat_map(|session| &session.luns).filter(|used| used.lun == *number);
        LunStatus {
            lun: *number,
            volume: lun.volume_name.clone(),
            read_only: lun.read_only,
            removable: lun.removable,
            block_bytes: lun.block_bytes,
            traffic: used.map(|used| used.traffic).reduce(sum).unwrap_or_default(),
        }
    };
    TargetStatus {
        name: target.name.clone(),
        alias: target.alias.clone(),
        authentication: authentication_name(&target.authentication).to_owned(),
        initiators: target.initiators.clone(),
        allow: target.allow.iter().map(|list| list.iter().map(ToString::to_string).collect()).collect(),
        cpu: cpus[target.core],
        sessions: ours.len(),
        luns: target.luns.iter().map(lun).collect(),
    }
}

fn sum(one: LunTraffic, other: LunTraffic) -> LunTraffic {
    let both = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
    LunTraffic {
        commands: one.commands + other.commands,
        read_bytes: one.read_bytes + other.read_bytes,
        written_bytes: one.written_bytes + other.written_bytes,
        commands_per_second: both(one.commands_per_second, other.commands_per_second),
        read_bytes_per_second: both(one.read_bytes_per_second, other.read_bytes_per_second),
        written_bytes_per_second: both(one.written_bytes_per_second, other.written_bytes_per_second),
    }
}

fn authentication_name(authentication: &IscsiAuthentication) -> &'static str {
    match (authentication.users.is_empty(), &authentication.own) {
        (true, _) => "none",
        (false, None) => "chap",
        (false, Some(_)) => "mutual_chap",
    }
}

/// Sessions that have this volume among their logical units.
pub(super) fn sessions_with(live: &Live, volume: Uuid, snapshots: &[CoreSnapshot]) -> usize {
    let has = |session: &&SessionSnapshot| {
        let target = live.targets.settings.targets.get(&session.target);
        let lun = |used: &LunSnapshot| target.and_then(|target| target.luns.get(&used.lun));
        session.luns.iter().filter_map(lun).any(|lun| lun.volume == volume)
    };
    sessions(snapshots).filter(has).count()
}

/// Sessions by target, for metrics: also of targets without any.
pub(super) fn sessions_by_target(live: &Live, snapshots: &[CoreSnapshot]) -> BTreeMap<String, u64> {
    let targets = live.targets.settings.targets.keys();
    let mut by_target: BTreeMap<String, u64> = targets.map(|name| (name.clone(), 0)).collect();
    for session in sessions(snapshots).filter(|session| !session.target.is_empty()) {
        *by_target.entry(session.target.clone()).or_default() += 1;
    }
    by_target
}
