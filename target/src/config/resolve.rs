//! From a draft to a configuration: defaults, bounds, and what settings must not say together.
//!
//! Its one rule: all mistakes are collected; a configuration comes out only when there are none.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::draft::{CoresDraft, Draft, NbdDraft, NodeDraft};
use super::mistake::{At, Mistake, Origin, Slot, Wrong};
use super::tls::TlsFiles;
use super::token::Token;
use super::values::{ADMIN_PORT, ISCSI_PORT, MIRROR_PORT, NBD_PORT, portal_text};
use super::volume::{Declaration, VolumeDraft};
use super::{AdminConfig, Config, NodeConfig};
use crate::settings::{CoreSettings, NbdSettings, Portal, Protocol, TlsMode};
use reactor::uring::FEATURES;

/// Folders that a node uses when none is named.
pub struct Defaults {
    /// Where volumes without a backing lie.
    pub data_dir: PathBuf,
    /// Serve `disk0` when no volume is declared.
    pub disk0: bool,
}

/// The configuration that `draft` means.
pub fn resolve(draft: Draft, defaults: &Defaults) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let config = resolve_into(draft, defaults, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// The same, with the mistakes added to those already found.
pub fn resolve_into(mut draft: Draft, defaults: &Defaults, mistakes: &mut Vec<Mistake>) -> Config {
    if draft.volumes.is_empty() && defaults.disk0 {
        draft.volumes.push(VolumeDraft::default_disk());
        draft.nbd.default_export.get_or_insert(At::new("disk0".to_owned(), Origin::Default));
    }
    let node = resolve_node(draft.node, defaults, mistakes);
    let cores = resolve_cores(draft.cores, mistakes);
    let portals = resolve_portals(draft.nbd.portals.take(), Protocol::Nbd, mistakes);
    let iscsi = super::iscsi::resolve(draft.iscsi, mistakes);
    let mirror = super::mirror::resolve(draft.peers, draft.mirror, &node.name, mistakes);
    check_apart(
        &node,
        [&portals, &iscsi.portals, &mirror.portal.clone().map(|portal| vec![portal])],
        mistakes,
    );
    let volumes = resolve_volumes(draft.volumes, &node.data_dir, mistakes);
    super::mirror::check_own_names(&volumes, &node.name, mistakes);
    check_default_export(&draft.nbd.default_export, mistakes);
    let (nbd, tls_files) = resolve_nbd(draft.nbd, mistakes);
    let tls_fingerprint = tls_files.as_ref().map(TlsFiles::fingerprint).unwrap_or_default();
    Config {
        files: Vec::new(),
        node,
        cores,
        portals,
        nbd,
        tls_files,
        tls_fingerprint,
        iscsi,
        mirror,
        volumes,
    }
}

fn resolve_node(draft: NodeDraft, defaults: &Defaults, mistakes: &mut Vec<Mistake>) -> NodeConfig {
    let data_dir = draft.data_dir.map_or_else(|| defaults.data_dir.clone(), |at| at.value);
    let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
    let token = draft.admin_token_file.and_then(|file| match Token::read(&file.value) {
        Ok(token) => Some(token),
        Err(wrong) => {
            mistakes.push(wrong.on_machine().at(&file.origin));
            None
        }
    });
    let default_address = Some(SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT)));
    let admin = draft.admin.unwrap_or(At::new(default_address, Origin::Default));
    let admin_config = admin.value.map(|address| AdminConfig { address, token });
    if let Some(config) = &admin_config
        && !config.address.ip().is_loopback()
        && config.token.is_none()
    {
        let cause = format!(
            "the admin address {} can be reached from other machines and asks for no token",
            config.address
        );
        let remedy = "set admin_token_file (--admin-token-file), or listen on 127.0.0.1";
        mistakes.push(Wrong::new(cause, remedy).at(&admin.origin));
    }
    let stop_timeout = bounded_time("stop_timeout", draft.stop_timeout, Duration::from_secs(10), mistakes);
    NodeConfig {
        name: draft.name.map_or_else(host_name, |at| at.value),
        state_dir: draft.state_dir.map_or_else(|| data_dir.join("state"), |at| at.value),
        data_dir,
        admin: admin_config,
        stop_timeout,
    }
}

fn resolve_cores(draft: CoresDraft, mistakes: &mut Vec<Mistake>) -> CoreSettings {
    let allowed = allowed_cpus();
    if let Some(cpus) = &draft.cpus {
        for cpu in cpus.value.iter().filter(|cpu| !allowed.contains(cpu)) {
            let cause = format!("this process may not run on CPU {cpu}");
            mistakes.push(Wrong::new(cause, format!("it may on {}", list(&allowed))).at(&cpus.origin));
        }
    }
    let poll_time = draft.poll_time.unwrap_or(At::new(Duration::from_micros(50), Origin::Default));
    if poll_time.value > Duration::from_secs(1) {
        let wrong = Wrong::new("`poll_time` is longer than 1s", "to spin for ever, set poll = \"busy\"");
        mistakes.push(wrong.at(&poll_time.origin));
    }
    let arena = bounded("arena", draft.arena, 32 << 20, (4 << 20, 64 << 30), mistakes);
    if let Some(without) = &draft.without {
        for feature in without.value.iter().filter(|feature| !FEATURES.contains(&feature.as_str())) {
            let cause = format!("`{feature}` is not a kernel feature that can be left out");
            mistakes
                .push(Wrong::new(cause, format!("known are {}", FEATURES.join(", "))).at(&without.origin));
        }
    }
    let zero_copy = draft.zero_copy_send.map_or(Some(256 << 10), |at| at.value);
    CoreSettings {
        cpus: draft.cpus.map_or_else(|| default_cpus(&allowed), |at| at.value),
        poll: draft.poll.map(|at| at.value).unwrap_or_default(),
        poll_time: poll_time.value,
        arena_bytes: arena as usize,
        zero_copy_send_bytes: zero_copy.map(|bytes| bytes as usize),
        without: draft.without.map(|at| at.value).unwrap_or_default(),
    }
}

/// The portals of one protocol, each named once.
pub fn resolve_portals(
    portals: Slot<Vec<Portal>>,
    protocol: Protocol,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<At<Portal>>> {
    let portals = portals?;
    if portals.value.is_empty() {
        let default = portal_text(&default_portal(protocol).value);
        let remedy = format!("name one, or leave the setting out for {default}");
        mistakes.push(Wrong::new("no portal is named", remedy).at(&portals.origin));
    }
    for (index, portal) in portals.value.iter().enumerate() {
        if portals.value[..index].contains(portal) {
            let cause = format!("the portal {} is named twice", portal_text(portal));
            mistakes.push(Wrong::new(cause, "name it once").at(&portals.origin));
        }
    }
    let origin = portals.origin;
    Some(portals.value.into_iter().map(|portal| At::new(portal, origin.clone())).collect())
}

/// One address, one service; port 0 is another one each time.
fn check_apart(node: &NodeConfig, portals: [&Option<Vec<At<Portal>>>; 3], mistakes: &mut Vec<Mistake>) {
    let [nbd, iscsi, mirror] = portals.map(|portals| portals.as_deref().unwrap_or_default());
    let mut apart = |portals: &[At<Portal>], taken: &Portal, what: &str| {
        let is_fixed = !matches!(taken, Portal::Tcp(address) if address.port() == 0);
        if let Some(portal) = portals.iter().find(|portal| is_fixed && portal.value == *taken) {
            let cause = format!("the portal {} is {what} too", portal_text(taken));
            mistakes.push(Wrong::new(cause, "give one of them another port").at(&portal.origin));
        }
    };
    for portals in [nbd, iscsi, mirror] {
        let admin = node.admin.as_ref().map(|admin| Portal::Tcp(admin.address));
        admin.into_iter().for_each(|admin| apart(portals, &admin, "the admin address"));
    }
    for (others, taken, what) in
        [(iscsi, nbd, "an NBD portal"), (mirror, nbd, "an NBD portal"), (mirror, iscsi, "an iSCSI portal")]
    {
        taken.iter().for_each(|portal| apart(others, &portal.value, what));
    }
}

/// The portal of a node that names none of `protocol` and is handed none.
pub fn default_portal(protocol: Protocol) -> At<Portal> {
    let (host, port) = match protocol {
        Protocol::Nbd => (IpAddr::from([127, 0, 0, 1]), NBD_PORT),
        Protocol::Iscsi => (IpAddr::from([127, 0, 0, 1]), ISCSI_PORT),
        Protocol::Mirror => (IpAddr::from([0; 16]), MIRROR_PORT),
    };
    At::new(Portal::Tcp(SocketAddr::new(host, port)), Origin::Default)
}

fn resolve_volumes(
    drafts: Vec<VolumeDraft>,
    data_dir: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Declaration> {
    let mut volumes: Vec<Declaration> = Vec::new();
    for draft in drafts.into_iter().filter(|draft| !draft.is_flawed()) {
        match draft.declare(data_dir) {
            Err(mistake) => mistakes.push(mistake),
            Ok(volume) => match volumes.iter().find(|earlier| earlier.name == volume.name) {
                Some(earlier) => {
                    let cause = format!("volume `{}` {} too", volume.name, earlier.origin.came_about());
                    mistakes.push(Wrong::new(cause, "rename or remove one of them").at(&volume.origin));
                }
                None => volumes.push(volume),
            },
        }
    }
    volumes
}

/// The name's form only: the volume may yet be created through the admin API.
fn check_default_export(export: &Slot<String>, mistakes: &mut Vec<Mistake>) {
    if let Some(export) = export
        && let Err(wrong) = super::volume::checked_name(&export.value)
    {
        mistakes.push(wrong.at(&export.origin));
    }
}

fn resolve_nbd(draft: NbdDraft, mistakes: &mut Vec<Mistake>) -> (NbdSettings, Option<TlsFiles>) {
    let second = Duration::from_secs(1);
    let tls = draft.tls.as_ref().map(|at| at.value).unwrap_or_default();
    let files = tls_files(&draft, mistakes);
    let tls_server =
        files.as_ref().filter(|_| tls != TlsMode::Off).and_then(|files| match files.value.load() {
            Ok(server) => Some(server),
            Err(wrong) => {
                mistakes.push(wrong.on_machine().at(&files.origin));
                None
            }
        });
    if tls != TlsMode::Off && files.is_none() {
        let origin = draft.tls.as_ref().map_or(Origin::Default, |at| at.origin.clone());
        let wrong = Wrong::new(
            "TLS is on without a certificate",
            "set tls_directory, or tls_certificate and tls_key",
        );
        mistakes.push(wrong.at(&origin));
    }
    let settings = NbdSettings {
        tls,
        tls_server,
        default_export: draft.default_export.map(|at| at.value),
        connections_max: bounded("connections_max", draft.connections_max, 1024, (1, 1 << 20), mistakes)
            as usize,
        handshake_timeout: bounded_time("handshake_timeout", draft.handshake_timeout, 10 * second, mistakes),
        stall_timeout: bounded_time("stall_timeout", draft.stall_timeout, 30 * second, mistakes),
        requests_max: bounded("requests_max", draft.requests_max, 128, (1, 65536), mistakes) as usize,
        inflight_bytes_max: bounded(
            "inflight_bytes_max",
            draft.inflight_bytes_max,
            32 << 20,
            (1 << 20, 16 << 30),
            mistakes,
        ) as usize,
    };
    (settings, files.map(|at| at.value))
}

fn tls_files(draft: &NbdDraft, mistakes: &mut Vec<Mistake>) -> Slot<TlsFiles> {
    let verify = draft.tls_verify_clients.as_ref().map(|at| at.value);
    let client_ca = draft.tls_client_ca.as_ref().map(|at| at.value.clone()).filter(|_| verify != Some(false));
    if let (Some(at), None, None) = (&draft.tls_verify_clients, &draft.tls_client_ca, &draft.tls_directory)
        && at.value
    {
        mistakes
            .push(Wrong::new("clients cannot be verified without a CA", "set tls_client_ca").at(&at.origin));
    }
    match (&draft.tls_directory, &draft.tls_certificate, &draft.tls_key) {
        (Some(directory), None, None) => {
            let mut files = TlsFiles::in_directory(&directory.value, verify == Some(true));
            files.client_ca = client_ca.or(files.client_ca);
            Some(At::new(files, directory.origin.clone()))
        }
        (None, Some(certificate), Some(key)) => {
            let files =
                TlsFiles { certificate: certificate.value.clone(), key: key.value.clone(), client_ca };
            Some(At::new(files, certificate.origin.clone()))
        }
        (None, None, None) => None,
        (Some(directory), _, _) => {
            let wrong = Wrong::new(
                "TLS has a directory and single files",
                "set tls_directory, or the files, not both",
            );
            mistakes.push(wrong.at(&directory.origin));
            None
        }
        (None, Some(one), None) | (None, None, Some(one)) => {
            let wrong =
                Wrong::new("TLS has a certificate or a key, not both", "set tls_certificate and tls_key");
            mistakes.push(wrong.at(&one.origin));
            None
        }
    }
}

/// The number, which must be within `range`.
pub fn bounded(
    key: &str,
    slot: Slot<u64>,
    default: u64,
    range: (u64, u64),
    mistakes: &mut Vec<Mistake>,
) -> u64 {
    let Some(at) = slot else { return default };
    if !(range.0..=range.1).contains(&at.value) {
        let cause = format!("`{key}` is {}, out of bounds", at.value);
        mistakes.push(Wrong::new(cause, format!("choose from {} to {}", range.0, range.1)).at(&at.origin));
    }
    at.value
}

/// The duration, which must be one that a person may wait for.
pub fn bounded_time(
    key: &str,
    slot: Slot<Duration>,
    default: Duration,
    mistakes: &mut Vec<Mistake>,
) -> Duration {
    let Some(at) = slot else { return default };
    if at.value < Duration::from_millis(10) || at.value > Duration::from_secs(24 * 3600) {
        let cause = format!("`{key}` is {}, out of bounds", super::units::duration_text(at.value));
        mistakes.push(Wrong::new(cause, "choose from 10ms to 24h").at(&at.origin));
    }
    at.value
}

/// The CPUs that this process was given, whatever its threads have made of them since.
fn allowed_cpus() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    let read = || {
        let set = sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect()
    };
    ALLOWED.get_or_init(read).clone()
}

/// One core, and not on CPU 0, where the kernel's own work tends to be.
fn default_cpus(allowed: &[usize]) -> Vec<usize> {
    allowed.iter().copied().find(|cpu| *cpu != 0).or(allowed.first().copied()).into_iter().collect()
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    super::draft::node_name(name.trim().split('.').next().unwrap_or_default())
        .unwrap_or_else(|_| "ringsan".to_owned())
}

/// Keeps this thread, and those it starts, off the CPUs that cores are pinned to, where there are others.
pub fn keep_off(cpus: &[usize]) {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    let others = allowed_cpus().into_iter().filter(|cpu| !cpus.contains(cpu));
    if others.filter(|cpu| set.set(*cpu).is_ok()).count() > 0 {
        let _ = sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}
