//! What `serve` prints when clients can come: what is served where, and lines to paste.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::units::size_rounded;
use crate::config::values::NBD_PORT;
use crate::settings::Protocol;
use crate::status::{Status, TargetStatus, VolumeStatus};

/// The lines.
pub fn ready_text(status: &Status) -> String {
    let cpus: Vec<_> = status.cores.iter().map(|core| core.cpu.to_string()).collect();
    let mut text = format!("ringsan {} serves on CPU {}\n", status.node.version, cpus.join(", "));
    for volume in &status.volumes {
        text += &format!("  volume  {}\n", volume_line(volume));
    }
    for portal in &status.portals {
        text += &format!("  {:<7} {}\n", portal.protocol.name(), portal.address);
    }
    if let Some(reason) = &status.iscsi.unavailable {
        text += &format!("  iscsi   off: {reason}\n");
    }
    if let Some(admin) = status.node.admin {
        text += &format!("  admin   http://{admin}\n");
    }
    let Some(volume) = status.volumes.iter().find(|volume| volume.facts.is_some()) else {
        return text + "There is no volume yet: ringsan volume create NAME --size 1G\n";
    };
    let tls = status.tls.mode == "require";
    let is_there = |target: &&TargetStatus| target.luns.iter().any(|lun| lun.volume == volume.name);
    let target = status.iscsi.targets.iter().find(is_there);
    for portal in &status.portals {
        text += &match (portal.protocol, target) {
            (Protocol::Nbd, _) => use_lines(&portal.address, &volume.name, tls),
            (Protocol::Iscsi, Some(target)) => initiator_lines(&portal.address, target, &volume.name),
            (Protocol::Iscsi, None) | (Protocol::Mirror, _) => String::new(),
        };
    }
    text
}

fn volume_line(volume: &VolumeStatus) -> String {
    let name = &volume.name;
    match (&volume.facts, &volume.unavailable) {
        (Some(facts), _) => {
            let size = size_rounded(facts.size_bytes);
            let mode = if volume.read_only { ", read-only" } else { "" };
            format!("{name}  {size}  {} ({}{mode})", volume.backing, facts.io_path)
        }
        (None, reason) => format!("{name}  not served: {}", reason.as_deref().unwrap_or("unknown")),
    }
}

/// Lines that attach `volume` by the portal at `address`; systemd's portals have no address of their own.
fn use_lines(address: &str, volume: &str, tls: bool) -> String {
    let scheme = if tls { "nbds" } else { "nbd" };
    let escaped = escape(volume);
    if let Some(path) = address.strip_prefix("unix:") {
        let uri = format!("'{scheme}+unix:///{escaped}?socket={path}'");
        return format!(
            "Use it by {address}:\n  nbdinfo {uri}\n  nbd-client -unix {path} /dev/nbd0 -N '{volume}'\n  qemu-img info {uri}\n"
        );
    }
    let Ok(socket) = address.parse::<SocketAddr>() else { return String::new() };
    let host = reachable(socket.ip());
    let bracketed = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
    let port = socket.port();
    let uri = if port == NBD_PORT {
        format!("{scheme}://{bracketed}/{escaped}")
    } else {
        format!("{scheme}://{bracketed}:{port}/{escaped}")
    };
    format!(
        "Use it by {address}:\n  nbdinfo {uri}\n  nbd-client {host} {port} /dev/nbd0 -N '{volume}'\n  qemu-img info {uri}\n"
    )
}

/// Lines that find `target` by the portal at `address` and attach `volume`.
fn initiator_lines(address: &str, target: &TargetStatus, volume: &str) -> String {
    let Ok(socket) = address.parse::<SocketAddr>() else { return String::new() };
    let portal = SocketAddr::new(reachable(socket.ip()), socket.port());
    let lun = target.luns.iter().find(|lun| lun.volume == volume).map_or(0, |lun| lun.lun);
    let name = &target.name;
    let user = if target.authentication == "none" { "" } else { "USER%SECRET@" };
    format!(
        "Use it by {address}:\n  iscsiadm -m discovery -t sendtargets -p {portal}\n  \
         iscsiadm -m node -T {name} -p {portal} --login\n  qemu-img info iscsi://{user}{portal}/{name}/{lun}\n"
    )
}

fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// Percent-encodes what a URI's path cannot carry as it is.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{LunStatus, LunTraffic};

    #[test]
    fn lines_name_an_address_that_can_be_reached() {
        let lines = use_lines("0.0.0.0:10809", "disk0", false);
        assert!(lines.contains("nbdinfo nbd://127.0.0.1/disk0\n"), "{lines}");
        let lines = use_lines("[::1]:5000", "a b", true);
        assert!(lines.contains("nbds://[::1]:5000/a%20b"), "{lines}");
        let lines = use_lines("unix:/run/nbd.sock", "disk0", false);
        assert!(lines.contains("'nbd+unix:///disk0?socket=/run/nbd.sock'"), "{lines}");
    }

    #[test]
    fn initiators_are_shown_how_to_find_the_target_and_where_a_secret_belongs() {
        let lun = |lun, volume: &str| LunStatus {
            lun,
            volume: volume.into(),
            read_only: false,
            removable: false,
            block_bytes: 512,
            traffic: LunTraffic::default(),
        };
        let mut target = TargetStatus {
            name: "iqn.2026-11.io.ringsan:disks".into(),
            alias: String::new(),
            authentication: "none".into(),
            initiators: Vec::new(),
            allow: Vec::new(),
            cpu: 0,
            sessions: 0,
            luns: vec![lun(0, "a"), lun(5, "b")],
        };
        let lines = initiator_lines("[::]:3260", &target, "b");
        assert!(lines.contains("iscsiadm -m discovery -t sendtargets -p [::1]:3260\n"), "{lines}");
        assert!(lines.contains("iscsi://[::1]:3260/iqn.2026-11.io.ringsan:disks/5\n"), "{lines}");
        target.authentication = "chap".into();
        let lines = initiator_lines("127.0.0.1:3260", &target, "a");
        assert!(lines.contains("iscsi://USER%SECRET@127.0.0.1:3260/iqn"), "{lines}");
    }
}
