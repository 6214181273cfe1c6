//! What the iSCSI front serves, and to whom: targets, their logical units, who may log in, and limits.
//!
//! `node` makes it anew from the configuration and the volumes of the moment. Its one rule: a session keeps
//! the target that it logged in to; whether it may go on under newer settings, `may_stay` says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;
use wire::iscsi::chap::ChapUser;
use wire::iscsi::parameters::Offers;

/// How the two ends of a login prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IscsiAuthentication {
    /// Who may log in by CHAP; empty when nobody is asked.
    pub users: Vec<ChapUser>,
    /// Who we are to an initiator that asks for mutual CHAP.
    pub own: Option<ChapUser>,
}

/// One logical unit of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiLun {
    /// The volume; it is being served.
    pub volume: Uuid,
    /// Its name, for people.
    pub volume_name: String,
    /// The core where it lives.
    pub core: usize,
    /// Writes are refused; true when the volume itself is read-only.
    pub read_only: bool,
    /// The medium can be taken out (RMB).
    pub removable: bool,
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiTarget {
    /// Its iSCSI name.
    pub name: String,
    /// TargetAlias; empty for none.
    pub alias: String,
    /// Its logical units by number; those whose volume is not being served are left out.
    pub luns: BTreeMap<u16, IscsiLun>,
    /// For logins to it.
    pub authentication: IscsiAuthentication,
    /// The names of the initiators that may log in, in lower case; empty for all.
    pub initiators: Vec<String>,
    /// Networks that clients may come from: each list must contain the address. An empty list contains all.
    pub allow: Vec<Vec<IpNet>>,
    /// Where its sessions live: the core of its lowest logical unit.
    pub core: usize,
}

/// The iSCSI front of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiSettings {
    /// By name.
    pub targets: BTreeMap<String, Arc<IscsiTarget>>,
    /// For discovery sessions.
    pub discovery: IscsiAuthentication,
    /// The portal group tag of all portals of this node.
    pub portal_group: u16,
    /// `host:port` that SendTargets tells; empty for the portals themselves.
    pub advertised: Vec<String>,
    /// Where this node listens for iSCSI.
    pub listening: Vec<SocketAddr>,
    /// Connections at once, over all portals.
    pub connections_max: usize,
    /// From accept to the end of the login.
    pub login_timeout: Duration,
    /// A transfer that makes no progress for so long ends the connection.
    pub stall_timeout: Duration,
    /// A session that was silent for so long is sent a NOP-In.
    pub ping_interval: Duration,
    /// An initiator that does not answer it for so long is dead.
    pub ping_timeout: Duration,
    /// Commands that one session may have outstanding (MaxCmdSN).
    pub queue_depth: u32,
    /// Payload bytes of one session held in memory at once.
    pub inflight_bytes_max: usize,
    /// What we answer in operational negotiation.
    pub offers: Offers,
    /// Where persistent reservations with APTPL are kept.
    pub reservations_dir: PathBuf,
}

impl IscsiTarget {
    /// Whether `initiator` may see it and log in from `address`.
    pub fn admits(&self, initiator: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in = |networks: &Vec<IpNet>| {
            networks.is_empty() || networks.iter().any(|network| network.contains(&address))
        };
        let is_named = || self.initiators.iter().any(|name| name.eq_ignore_ascii_case(initiator));
        (self.initiators.is_empty() || is_named()) && self.allow.iter().all(is_in)
    }
}

impl IscsiSettings {
    /// Those of a node that lets nobody in.
    pub fn closed() -> IscsiSettings {
        IscsiSettings {
            targets: BTreeMap::new(),
            discovery: IscsiAuthentication::default(),
            portal_group: 1,
            advertised: Vec::new(),
            listening: Vec::new(),
            connections_max: 0,
            login_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(15),
            queue_depth: 1,
            inflight_bytes_max: 0,
            offers: Offers::default(),
            reservations_dir: PathBuf::new(),
        }
    }

    /// The targets that `initiator` may see from `address`, in the order of their names.
    pub fn visible(&self, initiator: &str, address: IpAddr) -> impl Iterator<Item = &Arc<IscsiTarget>> {
        self.targets.values().filter(move |target| target.admits(initiator, address))
    }

    /// What `volume` is as a logical unit: the same in every target that has it.
    pub fn lun_of(&self, volume: Uuid) -> Option<&IscsiLun> {
        self.targets.values().flat_map(|target| target.luns.values()).find(|lun| lun.volume == volume)
    }

    /// Whether a session goes on that logged in to `target`: its logical units are still what they were, and
    /// its initiator is still let in. Changed secrets and limits wait for the next login.
    pub fn may_stay(&self, target: &IscsiTarget, initiator: &str, address: IpAddr) -> bool {
        self.targets.get(&target.name).is_some_and(|now| {
            let stays = |(number, lun): (&u16, &IscsiLun)| now.luns.get(number) == Some(lun);
            now.admits(initiator, address) && target.luns.iter().all(stays)
        })
    }

    /// The addresses, `host:port`, that SendTargets tells a client that came to `local`, that one first.
    pub fn addresses(&self, local: SocketAddr) -> Vec<String> {
        if !self.advertised.is_empty() {
            return self.advertised.clone();
        }
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let reachable = |other: &&SocketAddr| {
            let ip = other.ip();
            **other != local && !ip.is_unspecified() && (local.ip().is_loopback() || !ip.is_loopback())
        };
        let others = self.listening.iter().filter(reachable);
        std::iter::once(&local).chain(others).map(SocketAddr::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(initiators: &[&str], allow: &[&[&str]]) -> IscsiTarget {
        let network = |text: &&str| text.parse().expect("a network");
        IscsiTarget {
            name: "iqn.2026-11.io.ringsan:a".into(),
            alias: String::new(),
            luns: BTreeMap::from([(0, lun(1))]),
            authentication: IscsiAuthentication::default(),
            initiators: initiators.iter().map(|name| (*name).to_owned()).collect(),
            allow: allow.iter().map(|list| list.iter().map(network).collect()).collect(),
            core: 0,
        }
    }

    fn lun(volume: u128) -> IscsiLun {
        IscsiLun {
            volume: Uuid::from_u128(volume),
            volume_name: "a".into(),
            core: 0,
            read_only: false,
            removable: false,
            block_bytes: 512,
        }
    }

    fn settings(targets: &[&IscsiTarget]) -> IscsiSettings {
        let targets = targets.iter().map(|target| (target.name.clone(), Arc::new((*target).clone())));
        IscsiSettings { targets: targets.collect(), ..IscsiSettings::closed() }
    }

    const HOST: &str = "iqn.1993-08.org.debian:01:host";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_target_admits_by_name_and_by_every_list_of_networks() {
        assert!(target(&[], &[]).admits(HOST, ip("10.0.0.1")));
        assert!(target(&[HOST], &[]).admits(&HOST.to_uppercase(), ip("10.0.0.1")));
        assert!(!target(&["iqn.2000-01.org.other"], &[]).admits(HOST, ip("10.0.0.1")));
        let both = target(&[], &[&["10.0.0.0/8"], &[], &["10.1.0.0/16"]]);
        assert!(both.admits(HOST, ip("::ffff:10.1.0.1")));
        assert!(!both.admits(HOST, ip("10.2.0.1")));
    }

    #[test]
    fn a_session_stays_while_its_logical_units_and_its_admission_do() {
        let before = target(&[], &[]);
        let mut more = before.clone();
        more.luns.insert(1, lun(2));
        more.authentication.users = Vec::new();
        assert!(settings(&[&more]).may_stay(&before, HOST, ip("10.0.0.1")));
        assert!(!settings(&[&before]).may_stay(&more, HOST, ip("10.0.0.1")), "a unit is gone");
        let mut other = before.clone();
        other.luns.insert(0, lun(2));
        assert!(!settings(&[&other]).may_stay(&before, HOST, ip("10.0.0.1")), "a unit is another");
        assert!(!settings(&[]).may_stay(&before, HOST, ip("10.0.0.1")), "the target is gone");
        let closed = target(&["iqn.2000-01.org.other"], &[]);
        assert!(!settings(&[&closed]).may_stay(&before, HOST, ip("10.0.0.1")), "it is not let in any more");
    }

    #[test]
    fn the_address_that_a_client_came_to_is_told_first_and_loopback_only_to_loopback() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut settings = IscsiSettings::closed();
        settings.listening =
            vec![address("0.0.0.0:3260"), address("127.0.0.1:3261"), address("10.0.0.1:3262")];
        assert_eq!(settings.addresses(address("10.0.0.2:3260")), ["10.0.0.2:3260", "10.0.0.1:3262"]);
        let local = settings.addresses(address("[::ffff:127.0.0.1]:3260"));
        assert_eq!(local, ["127.0.0.1:3260", "127.0.0.1:3261", "10.0.0.1:3262"]);
        settings.advertised = vec!["san.example:3260".into()];
        assert_eq!(settings.addresses(address("10.0.0.2:3260")), ["san.example:3260"]);
    }
}
