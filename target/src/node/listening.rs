//! Where the node listens: what is configured, what systemd handed over, and the defaults.
//!
//! Its one rule: a portal that somebody named must open, or nothing is changed; iSCSI's default one, that
//! nobody named, may be taken by another program: then iSCSI is off, which is said, and the next reload
//! tries again.

use std::future::ready;

use super::records::Remembered;
use super::start::patiently;
use super::{ANSWER_TIME, Live, LivePortal, Node};
use crate::config::Config;
use crate::config::mirror::MirrorConfig;
use crate::config::resolve::default_portal;
use crate::config::values::portal_text;
use crate::fault::{Fault, Kind};
use crate::message::Ask;
use crate::placement::core_for_portal;
use crate::portals::{self, Bound};
use crate::settings::{Portal, Protocol};
use crate::status::ReloadReport;

/// The portals that could be bound.
pub(super) struct Bindings {
    bound: Vec<Bound>,
    /// Why iSCSI's default portal is not among them, if it should be.
    iscsi_off: Option<String>,
}

struct Wanted {
    protocol: Protocol,
    portal: Portal,
    is_default: bool,
}

/// Binds what `config` wants beside the portals that were handed over; a process that has just ended may hold
/// them a little longer.
pub(super) async fn bind_all(config: &Config, inherited: Vec<Bound>) -> Result<Bindings, Fault> {
    let handed: Vec<_> = inherited.iter().map(|bound| (bound.protocol, bound.portal.clone())).collect();
    let is_mirrored = config.volumes.iter().any(|volume| volume.mirror.is_some());
    let wanted = wanted(config, is_mirrored, &handed);
    let all: Vec<_> = wanted.iter().map(|wanted| wanted.portal.clone()).collect();
    let mut bindings = Bindings { bound: inherited, iscsi_off: None };
    for wanted in wanted.iter().filter(|wanted| !matches!(wanted.portal, Portal::Inherited(_))) {
        let attempt = || ready(portals::bind(wanted.protocol, &wanted.portal, &all));
        bindings.add(wanted, patiently(attempt).await)?;
    }
    if let Some(reason) = &bindings.iscsi_off {
        tracing::warn!("iSCSI is off: {reason}; name a portal with --iscsi, or say --no-iscsi");
    }
    Ok(bindings)
}

impl Bindings {
    /// Binds the portal of links too, if only volumes of the admin API need it.
    pub(super) async fn for_remembered(
        mut self,
        config: &Config,
        remembered: &[Remembered],
    ) -> Result<Bindings, Fault> {
        let is_bound = self.bound.iter().any(|bound| bound.protocol == Protocol::Mirror);
        let is_mirrored = remembered.iter().any(|(record, _)| !record.volume.replicas.is_empty());
        if is_mirrored && !is_bound {
            let portal = mirror_portal(&config.mirror);
            let attempt = || ready(portals::bind(Protocol::Mirror, &portal, &[]));
            self.bound.push(patiently(attempt).await?);
        }
        Ok(self)
    }

    fn add(&mut self, wanted: &Wanted, bound: Result<Bound, Fault>) -> Result<(), Fault> {
        match bound {
            Ok(bound) => self.bound.push(bound),
            Err(fault) if wanted.is_yielding() && fault.kind() == Kind::Conflict => {
                self.iscsi_off = Some(fault.to_string());
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// Enters the portals into `live`: the sockets, each for the core that shall accept there.
    pub(super) fn enter(self, live: &mut Live, cores: usize) -> Vec<(usize, Ask)> {
        live.iscsi_off = self.iscsi_off;
        let enter = |Bound { protocol, portal, address, listener, file }| {
            let core = core_for_portal(live.portals.len(), cores);
            let ask = Ask::Listen { portal: portal.clone(), protocol, listener };
            live.portals.push(LivePortal { protocol, portal, address, core, _file: file });
            (core, ask)
        };
        self.bound.into_iter().map(enter).collect()
    }
}

impl Wanted {
    fn is_yielding(&self) -> bool {
        self.is_default && self.protocol == Protocol::Iscsi
    }
}

impl Node {
    /// Binds what is wanted now and was not before.
    pub(super) fn bind_new(&self, config: &Config) -> Result<Bindings, Fault> {
        let live = self.live();
        let wanted = wanted(config, will_mirror(&live, config), &handed(&live));
        let all: Vec<_> = wanted.iter().map(|wanted| wanted.portal.clone()).collect();
        let mut bindings = Bindings { bound: Vec::new(), iscsi_off: None };
        for wanted in wanted.iter().filter(|wanted| !live.portals.iter().any(|live| live.is(wanted))) {
            bindings.add(wanted, portals::bind(wanted.protocol, &wanted.portal, &all))?;
        }
        Ok(bindings)
    }

    /// Closes what is not wanted any more and opens `bindings`.
    pub(super) async fn apply_portals(&self, config: &Config, bindings: Bindings, report: &mut ReloadReport) {
        let gone: Vec<_> = {
            let mut live = self.live();
            let wanted = wanted(config, will_mirror(&live, config), &handed(&live));
            let is_wanted = |live: &mut LivePortal| wanted.iter().any(|wanted| live.is(wanted));
            live.portals.extract_if(.., |portal| !is_wanted(portal)).collect()
        };
        for portal in gone {
            let shown = portal_text(&portal.portal);
            match self.close(portal).await {
                Ok(()) => report.changed.push(format!("portal {shown} is closed; its clients stay")),
                Err(fault) => report.failed.push(format!("portal {shown}: {fault}")),
            }
        }
        let mut live = self.live();
        if let Some(reason) = bindings.iscsi_off.as_ref().filter(|_| live.iscsi_off.is_none()) {
            report.changed.push(format!("iSCSI is off: {reason}"));
        }
        for (core, ask) in bindings.enter(&mut live, self.cores.len()) {
            if let Ask::Listen { portal, .. } = &ask {
                report.changed.push(format!("portal {} is open", portal_text(portal)));
            }
            self.cores[core].send(ask);
        }
    }

    /// Binds the portal of links for the first volume with replicas; `None` when it is there.
    pub(super) async fn bind_for_links(&self) -> Result<Option<Bound>, Fault> {
        let portal = {
            let live = self.live();
            if live.portals.iter().any(|portal| portal.protocol == Protocol::Mirror) {
                return Ok(None);
            }
            mirror_portal(&live.mirror)
        };
        patiently(|| ready(portals::bind(Protocol::Mirror, &portal, &[]))).await.map(Some)
    }

    /// Takes links at `bound`.
    pub(super) fn open_for_links(&self, bound: Option<Bound>) {
        let mut live = self.live();
        let iscsi_off = live.iscsi_off.clone();
        let bindings = Bindings { bound: bound.into_iter().collect(), iscsi_off };
        for (core, ask) in bindings.enter(&mut live, self.cores.len()) {
            self.cores[core].send(ask);
        }
    }

    /// Closes the portal of links when the last volume with replicas has gone.
    pub(super) async fn close_for_links(&self) -> Result<(), Fault> {
        let gone: Vec<_> = {
            let mut live = self.live();
            let is_idle = !live.has_mirrors();
            let is_ours = |portal: &mut LivePortal| {
                portal.protocol == Protocol::Mirror && !matches!(portal.portal, Portal::Inherited(_))
            };
            live.portals.extract_if(.., |portal| is_idle && is_ours(portal)).collect()
        };
        for portal in gone {
            self.close(portal).await?;
        }
        Ok(())
    }

    async fn close(&self, portal: LivePortal) -> Result<(), Fault> {
        let LivePortal { protocol, portal, core, .. } = portal;
        self.ask(core, ANSWER_TIME, |reply| Ask::Unlisten { portal, protocol, reply }).await
    }
}

impl LivePortal {
    fn is(&self, wanted: &Wanted) -> bool {
        self.protocol == wanted.protocol && self.portal == wanted.portal
    }
}

/// What systemd handed over.
fn handed(live: &Live) -> Vec<(Protocol, Portal)> {
    let inherited = live.portals.iter().filter(|live| matches!(live.portal, Portal::Inherited(_)));
    inherited.map(|live| (live.protocol, live.portal.clone())).collect()
}

/// Whether any volume has replicas, once `config` is in force.
fn will_mirror(live: &Live, config: &Config) -> bool {
    live.has_mirrors() || config.volumes.iter().any(|volume| volume.mirror.is_some())
}

fn mirror_portal(config: &MirrorConfig) -> Portal {
    config.portal.clone().unwrap_or_else(|| default_portal(Protocol::Mirror)).value
}

/// What is configured and what was handed over; a protocol that has neither has its default. Links are only taken
/// for mirrored volumes.
fn wanted(config: &Config, is_mirrored: bool, handed: &[(Protocol, Portal)]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let links = match is_mirrored {
        true => config.mirror.portal.clone().map(|portal| vec![portal]),
        false => Some(Vec::new()),
    };
    let fronts = [
        (Protocol::Nbd, &config.portals),
        (Protocol::Iscsi, &config.iscsi.portals),
        (Protocol::Mirror, &links),
    ];
    for (protocol, named) in fronts {
        let of = |(speaks, _): &&(Protocol, Portal)| *speaks == protocol;
        let mut portals: Vec<_> = handed.iter().filter(of).map(|(_, portal)| portal.clone()).collect();
        portals.extend(named.iter().flatten().map(|at| at.value.clone()));
        let is_default = portals.is_empty() && named.is_none();
        if is_default {
            portals.push(default_portal(protocol).value);
        }
        wanted.extend(portals.into_iter().map(|portal| Wanted { protocol, portal, is_default }));
    }
    wanted
}
