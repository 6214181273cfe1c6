//! From the draft of `[iscsi]` to what it means: defaults, inheritance, and what must not be said together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use wire::iscsi::chap::ChapUser;
use wire::iscsi::parameters::Offers;

use super::draft::{AccessDraft, CredentialsDraft, IscsiDraft, LimitsDraft, LunDraft, TargetDraft};
use super::name::{self, DEFAULT_PREFIX};
use super::{IscsiConfig, LunDeclaration, TargetDeclaration};
use crate::config::mistake::{At, Mistake, Origin, Slot, Wrong};
use crate::config::resolve::{bounded, bounded_time, resolve_portals};
use crate::settings::{IscsiAuthentication, IscsiSettings, Protocol};

/// What flat addressing of a LUN can carry (SAM-5 §4.7.7.3).
const LUN_MAX: u64 = 16383;
/// What RFC 7143 §13.12 to §13.14 let a segment or burst have.
const LENGTHS: (u64, u64) = (512, (1 << 24) - 1);
/// A first burst is received into one buffer, and so many commands may each announce one.
const FIRST_BURST_MAX: u64 = 1 << 20;

/// The configuration that `draft` means, as far as it means one.
pub fn resolve(draft: IscsiDraft, mistakes: &mut Vec<Mistake>) -> IscsiConfig {
    let portals = match draft.portals {
        Some(At { value: None, .. }) => Some(Vec::new()),
        Some(At { value: Some(portals), origin }) => {
            resolve_portals(Some(At::new(portals, origin)), Protocol::Iscsi, mistakes)
        }
        None => None,
    };
    let prefix = value_or(draft.prefix, DEFAULT_PREFIX.to_owned());
    let block_bytes = value_or(draft.block_size, 512);
    check_mutual_is_used(&draft.access.credentials, &draft.targets, mistakes);
    let shared = resolve_access(draft.access, None, mistakes);
    let discovery = draft.discovery.map(|at| at.value).unwrap_or_default();
    let settings = IscsiSettings {
        discovery: resolve_credentials(discovery, None, mistakes),
        portal_group: bounded("portal_group", draft.portal_group, 1, (1, 65535), mistakes) as u16,
        advertised: value_or(draft.advertise, Vec::new()),
        ..resolve_limits(draft.limits, mistakes)
    };
    let mut targets: Vec<TargetDeclaration> = Vec::new();
    for target in draft.targets.into_iter().filter(|target| !target.is_flawed) {
        let Some(target) = resolve_target(target, &prefix, block_bytes, &shared, mistakes) else { continue };
        match clash(&targets, &target) {
            Some(mistake) => mistakes.push(mistake),
            None => targets.push(target),
        }
    }
    IscsiConfig {
        portals,
        prefix,
        every_volume: value_or(draft.every_volume, true),
        block_bytes,
        authentication: shared.authentication,
        initiators: shared.initiators,
        allow: shared.allow,
        targets,
        settings,
    }
}

/// What targets that say nothing of their own have.
struct Access {
    authentication: IscsiAuthentication,
    initiators: Vec<String>,
    allow: Vec<ipnet::IpNet>,
}

fn resolve_access(draft: AccessDraft, shared: Option<&Access>, mistakes: &mut Vec<Mistake>) -> Access {
    let inherited = shared.map(|shared| &shared.authentication);
    Access {
        authentication: resolve_credentials(draft.credentials, inherited, mistakes),
        initiators: value_or(
            draft.initiators,
            shared.map(|shared| shared.initiators.clone()).unwrap_or_default(),
        ),
        allow: value_or(draft.allow, shared.map(|shared| shared.allow.clone()).unwrap_or_default()),
    }
}

fn resolve_credentials(
    draft: CredentialsDraft,
    inherited: Option<&IscsiAuthentication>,
    mistakes: &mut Vec<Mistake>,
) -> IscsiAuthentication {
    let already = mistakes.len();
    let own_users = draft.users.as_ref().map(|users| users.origin.clone());
    let users = match draft.users {
        Some(users) => resolve_users(users, mistakes),
        None => inherited.map(|inherited| inherited.users.clone()).unwrap_or_default(),
    };
    let Some(mutual) = draft.mutual else {
        let own = inherited.and_then(|inherited| inherited.own.clone());
        if let Some(origin) = own_users {
            check_directions(&users, own.as_ref(), &origin, mistakes);
        }
        return IscsiAuthentication { own: own.filter(|_| !users.is_empty()), users };
    };
    let own = mutual.value.resolve(mistakes);
    let is_flawed = mistakes.len() > already;
    if users.is_empty() && inherited.is_some() && !is_flawed {
        mistakes.push(mutual_alone().at(&mutual.origin));
    }
    check_directions(&users, own.as_ref(), &mutual.origin, mistakes);
    IscsiAuthentication { users, own }
}

fn resolve_users(drafts: At<Vec<super::secret::UserDraft>>, mistakes: &mut Vec<Mistake>) -> Vec<ChapUser> {
    let mut users: Vec<ChapUser> = Vec::new();
    for draft in drafts.value {
        let Some(user) = draft.resolve(mistakes) else { continue };
        if users.iter().any(|earlier| earlier.name == user.name) {
            let cause = format!("the CHAP user `{}` is there twice", user.name);
            mistakes.push(Wrong::new(cause, "name each user once").at(&drafts.origin));
        }
        users.push(user);
    }
    users
}

/// One secret for both directions would let an initiator's answer be played back to it (RFC 7143 §9.2.1).
fn check_directions(
    users: &[ChapUser],
    own: Option<&ChapUser>,
    origin: &Origin,
    mistakes: &mut Vec<Mistake>,
) {
    let Some(own) = own else { return };
    if let Some(user) = users.iter().find(|user| user.secret == own.secret) {
        let cause = format!("`mutual` has the same secret as the CHAP user `{}`", user.name);
        mistakes.push(Wrong::new(cause, "give each direction a secret of its own").at(origin));
    }
}

/// `mutual` of `[iscsi]` and `[iscsi.discovery]` needs users there, or in a target that inherits it.
fn check_mutual_is_used(shared: &CredentialsDraft, targets: &[TargetDraft], mistakes: &mut Vec<Mistake>) {
    let Some(mutual) = &shared.mutual else { return };
    let names_users = |credentials: &CredentialsDraft| {
        credentials.users.as_ref().is_some_and(|users| !users.value.is_empty())
    };
    if !names_users(shared) && !targets.iter().any(|target| names_users(&target.access.credentials)) {
        mistakes.push(mutual_alone().at(&mutual.origin));
    }
}

fn mutual_alone() -> Wrong {
    let cause = "`mutual` without users: an initiator is proven to only after it has proven itself";
    Wrong::new(cause, "add users = [{ name = …, secret_file = … }]")
}

fn resolve_limits(draft: LimitsDraft, mistakes: &mut Vec<Mistake>) -> IscsiSettings {
    let second = Duration::from_secs(1);
    let bursts = (draft.first_burst_length.clone(), draft.inflight_bytes_max.clone());
    let connections = bounded("connections_max", draft.connections_max, 1024, (1, 1 << 20), mistakes);
    let inflight = (1 << 20, 16 << 30);
    let inflight = bounded("inflight_bytes_max", draft.inflight_bytes_max, 32 << 20, inflight, mistakes);
    let usual = Offers::default();
    let mut within =
        |key, slot, usual: u32, max| bounded(key, slot, usual.into(), (LENGTHS.0, max), mistakes) as u32;
    let mut length = |key, slot, usual| within(key, slot, usual, LENGTHS.1);
    let segment = "max_recv_data_segment_length";
    let segment = length(segment, draft.max_recv_data_segment_length, usual.own_max_recv_data_segment_length);
    let max_burst = length("max_burst_length", draft.max_burst_length, usual.max_burst_length);
    let usual_burst = usual.first_burst_length.min(max_burst);
    let first_burst = within("first_burst_length", draft.first_burst_length, usual_burst, FIRST_BURST_MAX);
    check_bursts(first_burst, max_burst, inflight, bursts, mistakes);
    let outstanding = u64::from(usual.max_outstanding_r2t);
    let outstanding =
        bounded("max_outstanding_r2t", draft.max_outstanding_r2t, outstanding, (1, 65535), mistakes);
    IscsiSettings {
        connections_max: connections as usize,
        login_timeout: bounded_time("login_timeout", draft.login_timeout, 10 * second, mistakes),
        stall_timeout: bounded_time("stall_timeout", draft.stall_timeout, 30 * second, mistakes),
        ping_interval: bounded_time("ping_interval", draft.ping_interval, 15 * second, mistakes),
        ping_timeout: bounded_time("ping_timeout", draft.ping_timeout, 15 * second, mistakes),
        queue_depth: bounded("queue_depth", draft.queue_depth, 128, (1, 65536), mistakes) as u32,
        inflight_bytes_max: inflight as usize,
        offers: Offers {
            header_digest: value_or(draft.header_digest, usual.header_digest),
            data_digest: value_or(draft.data_digest, usual.data_digest),
            own_max_recv_data_segment_length: segment,
            max_burst_length: max_burst,
            first_burst_length: first_burst,
            initial_r2t: value_or(draft.initial_r2t, usual.initial_r2t),
            immediate_data: value_or(draft.immediate_data, usual.immediate_data),
            max_outstanding_r2t: outstanding as u16,
        },
        reservations_dir: PathBuf::new(),
        ..IscsiSettings::closed()
    }
}

fn check_bursts(
    first: u32,
    max: u32,
    inflight: u64,
    (first_slot, inflight_slot): (Slot<u64>, Slot<u64>),
    mistakes: &mut Vec<Mistake>,
) {
    if let Some(at) = first_slot.filter(|_| first > max) {
        let cause = format!("`first_burst_length` is {first}, more than `max_burst_length`, {max}");
        mistakes.push(Wrong::new(cause, "make it smaller, or the other larger").at(&at.origin));
    }
    if u64::from(max) > inflight {
        let cause = format!("`inflight_bytes_max` is {inflight}, less than `max_burst_length`, {max}");
        let origin = inflight_slot.map_or(Origin::Default, |at| at.origin);
        mistakes.push(Wrong::new(cause, "make it larger, or the other smaller").at(&origin));
    }
}

fn resolve_target(
    draft: TargetDraft,
    prefix: &str,
    block_bytes: u32,
    shared: &Access,
    mistakes: &mut Vec<Mistake>,
) -> Option<TargetDeclaration> {
    let already = mistakes.len();
    let here = draft.origin;
    let name = match draft.name {
        Some(name) => full_name(prefix, &name.value).map_err(|wrong| wrong.at(&name.origin)),
        None => {
            let remedy = format!("add name = \"…\": a name in full, or what follows {prefix}:");
            Err(Wrong::new("the target has no name", remedy).at(&here))
        }
    };
    let access = resolve_access(draft.access, Some(shared), mistakes);
    let mut luns = BTreeMap::new();
    for (index, lun) in draft.luns.into_iter().flat_map(|at| at.value).enumerate() {
        match resolve_lun(lun, index as u64, block_bytes, &luns) {
            Ok((number, lun)) => drop(luns.insert(number, lun)),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if luns.is_empty() && mistakes.len() == already {
        let wrong = Wrong::new("the target has no logical unit", "add lun = [{ volume = \"…\" }]");
        mistakes.push(wrong.at(&here));
    }
    mistakes.extend(name.as_ref().err().cloned());
    let Access { authentication, initiators, allow } = access;
    let alias = value_or(draft.alias, String::new());
    let name = name.ok()?;
    Some(TargetDeclaration { origin: here, name, alias, luns, authentication, initiators, allow })
}

/// A name with a type stands for itself; any other follows the prefix.
fn full_name(prefix: &str, text: &str) -> Result<String, Wrong> {
    let is_full = ["iqn.", "eui.", "naa."].iter().any(|kind| text.starts_with(kind));
    if text.is_empty() {
        return Err(Wrong::new("the target's name is empty", "give it a name"));
    }
    if is_full { name::parse_target(text) } else { name::parse_target(&format!("{prefix}:{text}")) }
}

fn resolve_lun(
    draft: LunDraft,
    index: u64,
    block_bytes: u32,
    others: &BTreeMap<u16, LunDeclaration>,
) -> Result<(u16, LunDeclaration), Mistake> {
    let here = draft.origin;
    let number = draft.number.unwrap_or(At::new(index, here.clone()));
    let Some(volume) = draft.volume else {
        return Err(Wrong::new("the logical unit has no volume", "add volume = \"…\"").at(&here));
    };
    if number.value > LUN_MAX {
        let wrong = Wrong::new(format!("there is no LUN {}", number.value), format!("the last is {LUN_MAX}"));
        return Err(wrong.at(&number.origin));
    }
    let number_taken = number.value as u16;
    if let Some(other) = others.get(&number_taken) {
        let cause = format!("LUN {number_taken} is volume `{}` already", other.volume);
        return Err(Wrong::new(cause, "give each logical unit a number of its own").at(&number.origin));
    }
    if let Some((other, _)) = others.iter().find(|(_, other)| other.volume == volume.value) {
        let cause = format!("volume `{}` is LUN {other} of this target already", volume.value);
        return Err(Wrong::new(cause, "name each volume once in a target").at(&volume.origin));
    }
    let lun = LunDeclaration {
        volume: volume.value,
        read_only: value_or(draft.read_only, false),
        removable: value_or(draft.removable, false),
        block_bytes: value_or(draft.block_size, block_bytes),
    };
    Ok((number_taken, lun))
}

/// A target of the same name, or one that makes something else of the same volume: a volume is one logical
/// unit, however many targets have it.
fn clash(targets: &[TargetDeclaration], new: &TargetDeclaration) -> Option<Mistake> {
    if let Some(other) = targets.iter().find(|other| other.name == new.name) {
        let cause = format!("the target {} {} too", new.name, other.origin.came_about());
        return Some(Wrong::new(cause, "rename or remove one of them").at(&new.origin));
    }
    new.luns.values().find_map(|ours| {
        let differs = |theirs: &LunDeclaration| theirs.volume == ours.volume && theirs != ours;
        let other = targets.iter().find(|other| other.luns.values().any(differs))?;
        let cause = format!("volume `{}` has other properties in the target {}", ours.volume, other.name);
        let remedy = "give it the same read_only, removable and block_size in both";
        Some(Wrong::new(cause, remedy).at(&new.origin))
    })
}

fn value_or<T>(slot: Slot<T>, default: T) -> T {
    slot.map_or(default, |at| at.value)
}
