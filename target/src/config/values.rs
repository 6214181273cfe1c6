//! The values of settings, from the texts that flags and files share.
//!
//! Its one rule: a flag and a file spell the same value the same way.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use replication::OnPeerLoss;

use super::mistake::Wrong;
use super::units::parse_size;
use wire::iscsi::parameters::DigestPolicy;

use crate::settings::{FileCache, Poll, Portal, TlsMode};

/// The port of NBD (IANA).
pub const NBD_PORT: u16 = 10809;
/// The port of iSCSI (IANA).
pub const ISCSI_PORT: u16 = 3260;
/// The port of the admin API.
pub const ADMIN_PORT: u16 = 9810;
/// The port of links between nodes.
pub const MIRROR_PORT: u16 = 9811;

/// What a backing is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackingKind {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// An NVMe namespace's character device.
    Nvme,
    /// Anonymous memory.
    Memory,
}

const BACKING_KINDS: [(&str, BackingKind); 4] = [
    ("file", BackingKind::File),
    ("block", BackingKind::Block),
    ("nvme", BackingKind::Nvme),
    ("memory", BackingKind::Memory),
];
const CACHES: [(&str, FileCache); 3] =
    [("auto", FileCache::Auto), ("direct", FileCache::Direct), ("buffered", FileCache::Buffered)];
const POLLS: [(&str, Poll); 3] = [("adaptive", Poll::Adaptive), ("busy", Poll::Busy), ("off", Poll::Off)];
const DIGESTS: [(&str, DigestPolicy); 3] =
    [("off", DigestPolicy::Off), ("allowed", DigestPolicy::Allowed), ("required", DigestPolicy::Required)];
const PEER_LOSSES: [(&str, OnPeerLoss); 2] =
    [("continue", OnPeerLoss::Continue), ("suspend", OnPeerLoss::Suspend)];
const TLS_MODES: [(&str, TlsMode); 3] =
    [("off", TlsMode::Off), ("allow", TlsMode::Allow), ("require", TlsMode::Require)];

impl BackingKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        name_in(&BACKING_KINDS, self)
    }
}

/// As it is written.
pub fn cache_name(cache: FileCache) -> &'static str {
    name_in(&CACHES, cache)
}

/// As it is written.
pub fn poll_name(poll: Poll) -> &'static str {
    name_in(&POLLS, poll)
}

/// As it is written.
pub fn tls_name(mode: TlsMode) -> &'static str {
    name_in(&TLS_MODES, mode)
}

/// `file`, `block`, `nvme` or `memory`.
pub fn parse_backing_kind(text: &str) -> Result<BackingKind, Wrong> {
    choice("a type of backing", &BACKING_KINDS, text)
}

/// `auto`, `direct` or `buffered`.
pub fn parse_cache(text: &str) -> Result<FileCache, Wrong> {
    choice("a way to cache", &CACHES, text)
}

/// `adaptive`, `busy` or `off`.
pub fn parse_poll(text: &str) -> Result<Poll, Wrong> {
    choice("a way to poll", &POLLS, text)
}

/// `off`, `allow` or `require`.
pub fn parse_tls_mode(text: &str) -> Result<TlsMode, Wrong> {
    choice("a TLS mode", &TLS_MODES, text)
}

/// `off`, `allowed` or `required`.
pub fn parse_digest(text: &str) -> Result<DigestPolicy, Wrong> {
    choice("a way to use digests", &DIGESTS, text)
}

/// `true` or `false`.
pub fn parse_boolean(text: &str) -> Result<bool, Wrong> {
    choice("a yes or no", &[("true", true), ("false", false)], text)
}

/// `127.0.0.1:10809`, `[::1]:10809`, `10.0.0.1` (port 10809) or `unix:/run/nbd.sock`.
pub fn parse_portal(text: &str) -> Result<Portal, Wrong> {
    match text.strip_prefix("unix:") {
        Some("") => Err(Wrong::new("the portal `unix:` has no path", "write unix:/run/ringsan/nbd.sock")),
        Some(path) if path.len() > 107 => {
            let cause =
                format!("the socket path `{path}` is longer than the 107 bytes that a unix socket can have");
            Err(Wrong::new(cause, "choose a shorter one"))
        }
        Some(path) => Ok(Portal::Unix(PathBuf::from(path))),
        None => socket_address("portal", text, NBD_PORT).map(Portal::Tcp),
    }
}

/// `0.0.0.0:3260`, `[::]:3260`, or without a port for 3260.
pub fn parse_iscsi_portal(text: &str) -> Result<Portal, Wrong> {
    if text.starts_with("unix:") {
        let cause = format!("`{text}` is a unix socket, and iSCSI is served over TCP");
        return Err(Wrong::new(cause, format!("write an IP address and a port, as in 0.0.0.0:{ISCSI_PORT}")));
    }
    socket_address("portal", text, ISCSI_PORT).map(Portal::Tcp)
}

/// Where links of peers are taken: `0.0.0.0:9811`, `[::]:9811`, or without a port for 9811.
pub fn parse_mirror_portal(text: &str) -> Result<Portal, Wrong> {
    if text.starts_with("unix:") {
        let cause = format!("`{text}` is a unix socket, and peers are linked over TCP");
        return Err(Wrong::new(cause, format!("write an IP address and a port, as in [::]:{MIRROR_PORT}")));
    }
    socket_address("portal", text, MIRROR_PORT).map(Portal::Tcp)
}

/// What SendTargets may tell: an address or a host's name, with a port or for 3260.
pub fn parse_advertised(text: &str) -> Result<String, Wrong> {
    host_and_port(text, ISCSI_PORT).ok_or_else(|| {
        let cause = format!("`{text}` is not an address that clients can be told");
        Wrong::new(cause, "write a host or an address and a port, as in san.example.org:3260")
    })
}

/// Where a peer listens: an address or a host's name, with a port or for 9811.
pub fn parse_peer(text: &str) -> Result<String, Wrong> {
    host_and_port(text, MIRROR_PORT).filter(|address| !address.ends_with(":0")).ok_or_else(|| {
        let cause = format!("`{text}` is not an address of a node");
        Wrong::new(cause, "write a host or an address and a port, as in 10.0.0.2:9811")
    })
}

fn host_and_port(text: &str, default_port: u16) -> Option<String> {
    if let Ok(address) = socket_address("address", text, default_port) {
        return Some(address.to_string());
    }
    let (host, port) =
        text.split_once(':').map_or((text, Ok(default_port)), |(host, port)| (host, port.parse()));
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A number at the end makes it a mistyped address, which no resolver should get to see.
    let is_name = |host: &str| {
        host.len() <= 253
            && host.split('.').all(is_label)
            && !host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
    };
    port.ok().filter(|port| *port != 0 && is_name(host)).map(|port| format!("{host}:{port}"))
}

/// As `parse_portal` reads it.
pub fn portal_text(portal: &Portal) -> String {
    match portal {
        Portal::Tcp(address) => address.to_string(),
        Portal::Unix(path) => format!("unix:{}", path.display()),
        Portal::Inherited(number) => format!("systemd:{number}"),
    }
}

/// An address, or `off`.
pub fn parse_admin(text: &str) -> Result<Option<SocketAddr>, Wrong> {
    if text == "off" { Ok(None) } else { socket_address("admin address", text, ADMIN_PORT).map(Some) }
}

/// CPUs: `1`, `1,3`, `2-5,8`.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, Wrong> {
    let wrong = || Wrong::new(format!("`{text}` is not a list of CPUs"), "write numbers, as in 1,3 or 2-5");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last > 4095 {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    unique_cpus(cpus)
}

/// The same CPUs, unless one is there twice.
pub fn unique_cpus(cpus: Vec<usize>) -> Result<Vec<usize>, Wrong> {
    match cpus.iter().enumerate().find(|(index, cpu)| cpus[..*index].contains(cpu)) {
        Some((_, twice)) => Err(Wrong::new(format!("CPU {twice} is named twice"), "name each CPU once")),
        None if cpus.is_empty() => Err(Wrong::new("no CPU is named", "name one, or leave the setting out")),
        None => Ok(cpus),
    }
}

/// A network like `10.0.0.0/8`, or a single address.
pub fn parse_network(text: &str) -> Result<IpNet, Wrong> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map(|network| network.trunc()).map_err(|_| {
        Wrong::new(
            format!("`{text}` is not a network"),
            "write an address or a CIDR, as in 10.0.0.0/8 or fd00::/8",
        )
    })
}

/// `continue` or `suspend`.
pub fn parse_on_peer_loss(text: &str) -> Result<OnPeerLoss, Wrong> {
    choice("what the loss of a peer can do to writes", &PEER_LOSSES, text)
}

/// As it is written.
pub fn on_peer_loss_name(choice: OnPeerLoss) -> &'static str {
    name_in(&PEER_LOSSES, choice)
}

/// A size, or `off`.
pub fn parse_size_or_off(text: &str) -> Result<Option<u64>, Wrong> {
    if text == "off" { Ok(None) } else { parse_size(text).map(Some) }
}

/// A number from 1.
pub fn parse_count(text: &str) -> Result<u64, Wrong> {
    let wrong = || Wrong::new(format!("`{text}` is not a number from 1"), "write a whole number");
    text.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)
}

fn socket_address(what: &str, text: &str, default_port: u16) -> Result<SocketAddr, Wrong> {
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = text.strip_prefix("localhost").map(|port| format!("127.0.0.1{port}"));
    if let Some(local) = local.filter(|local| !local.starts_with("127.0.0.1.")) {
        return socket_address(what, &local, default_port);
    }
    text.parse().or_else(|_| bare().map(|ip| SocketAddr::new(ip, default_port))).map_err(|_| {
        Wrong::new(
            format!("`{text}` is not a {what}"),
            format!("write an IP address and a port, as in 127.0.0.1:{default_port} or [::1]:{default_port}"),
        )
    })
}

fn choice<T: Copy>(what: &str, choices: &[(&str, T)], text: &str) -> Result<T, Wrong> {
    let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| Wrong::new(format!("`{text}` is not {what}"), format!("choose one of {}", names())))
}

fn name_in<T: Copy + PartialEq>(choices: &'static [(&'static str, T)], value: T) -> &'static str {
    choices.iter().find(|(_, candidate)| *candidate == value).expect("the table names every value").0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_read_as_tcp_or_unix_with_the_default_port() {
        let tcp = |text: &str| Ok(Portal::Tcp(text.parse().expect("an address")));
        assert_eq!(parse_portal("0.0.0.0:1"), tcp("0.0.0.0:1"));
        assert_eq!(parse_portal("::1"), tcp("[::1]:10809"));
        assert_eq!(parse_portal("[::1]"), tcp("[::1]:10809"));
        assert_eq!(parse_portal("localhost:5"), tcp("127.0.0.1:5"));
        assert_eq!(parse_portal("unix:/run/x"), Ok(Portal::Unix("/run/x".into())));
        for wrong in ["", "unix:", "nbd.example:1", "1.2.3.4:99999", &format!("unix:/{}", "a".repeat(107))] {
            assert!(parse_portal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn iscsi_is_told_and_served_by_tcp_only() {
        assert_eq!(
            parse_iscsi_portal("10.0.0.1"),
            Ok(Portal::Tcp("10.0.0.1:3260".parse().expect("an address")))
        );
        assert!(parse_iscsi_portal("unix:/run/x").expect_err("no socket file").cause.contains("over TCP"));
        for (text, told) in [
            ("10.0.0.1", "10.0.0.1:3260"),
            ("[fd00::1]:5000", "[fd00::1]:5000"),
            ("fd00::1", "[fd00::1]:3260"),
            ("san.example.org", "san.example.org:3260"),
            ("san:860", "san:860"),
        ] {
            assert_eq!(parse_advertised(text).as_deref(), Ok(told));
        }
        for wrong in ["", "a b", "san:0", "san:x", ":3260", "san,1", "a..b"] {
            assert!(parse_advertised(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpu_lists_take_ranges_and_refuse_doubles() {
        assert_eq!(parse_cpus("1,3-5"), Ok(vec![1, 3, 4, 5]));
        for wrong in ["", "1,", "3-1", "1,1", "a", "0-100000"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_single_address_is_a_network() {
        assert_eq!(parse_network("10.0.0.7").map(|n| n.to_string()), Ok("10.0.0.7/32".into()));
        assert_eq!(parse_network("10.0.0.7/8").map(|n| n.to_string()), Ok("10.0.0.0/8".into()));
        assert!(parse_network("10.0.0.0/33").is_err());
    }
}
