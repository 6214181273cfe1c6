//! `[iscsi]`: portals, targets with their logical units, who may log in, and limits.
//!
//! Its one rule: what is declared here speaks of volumes by name only; which of them are being served, and
//! so which targets there are, `node` knows.

pub mod draft;
pub mod name;
mod resolve;
pub mod secret;

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::mistake::{At, Origin};
use super::volume::Declaration;
use crate::settings::{IscsiAuthentication, IscsiSettings, Portal};

pub use resolve::resolve;

/// The iSCSI front as it is configured.
#[derive(Clone)]
pub struct IscsiConfig {
    /// Where it listens; `None` when nothing was said, empty when it is off.
    pub portals: Option<Vec<At<Portal>>>,
    /// What the names of volumes' own targets begin with.
    pub prefix: String,
    /// Each volume that no declared target has is a target of its own.
    pub every_volume: bool,
    /// Bytes of a logical block of such a target.
    pub block_bytes: u32,
    /// Who may log in to such a target.
    pub authentication: IscsiAuthentication,
    /// Which initiators; empty for all.
    pub initiators: Vec<String>,
    /// From which networks; empty for all.
    pub allow: Vec<IpNet>,
    /// The declared targets.
    pub targets: Vec<TargetDeclaration>,
    /// Everything else, its targets and addresses not yet known.
    pub settings: IscsiSettings,
}

/// A declared target whose form is right.
#[derive(Clone, Debug)]
pub struct TargetDeclaration {
    /// Where it is declared.
    pub origin: Origin,
    /// Its iSCSI name, in full.
    pub name: String,
    /// TargetAlias; empty for none.
    pub alias: String,
    /// By number.
    pub luns: BTreeMap<u16, LunDeclaration>,
    /// Who may log in.
    pub authentication: IscsiAuthentication,
    /// Which initiators; empty for all.
    pub initiators: Vec<String>,
    /// From which networks; empty for all.
    pub allow: Vec<IpNet>,
}

/// A logical unit of a declared target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunDeclaration {
    /// The volume's name.
    pub volume: String,
    /// Refuse writes, even if the volume takes them.
    pub read_only: bool,
    /// The medium can be taken out.
    pub removable: bool,
    /// Bytes of a logical block.
    pub block_bytes: u32,
}

impl IscsiConfig {
    /// Whether a declared target has `volume`.
    pub fn declares(&self, volume: &str) -> bool {
        self.targets.iter().any(|target| target.luns.values().any(|lun| lun.volume == volume))
    }

    /// What is no mistake and yet may not be meant: logical units without a volume among `volumes`, and volumes
    /// without a target.
    pub fn remarks(&self, volumes: &[Declaration]) -> Vec<String> {
        let mut remarks = self.units_without_volumes(volumes);
        let others = volumes.iter().filter(|volume| self.every_volume && !self.declares(&volume.name));
        remarks.extend(others.filter_map(|volume| {
            let name = name::of_volume(&self.prefix, &volume.name);
            let taken = self.targets.iter().find(|target| target.name == name)?;
            Some(format!(
                "{}: the target {name} has no logical unit `{}`, and takes its name: the volume has no target",
                taken.origin, volume.name
            ))
        }));
        remarks
    }

    fn units_without_volumes(&self, volumes: &[Declaration]) -> Vec<String> {
        let luns = self.targets.iter().flat_map(|target| target.luns.iter().map(move |lun| (target, lun)));
        let missing = luns.filter(|(_, (_, lun))| volumes.iter().all(|volume| volume.name != lun.volume));
        missing
            .map(|(target, (number, lun))| {
                let TargetDeclaration { origin, name, .. } = target;
                format!(
                    "{origin}: no volume `{}` is declared; LUN {number} of {name} stays away until \
                     `ringsan volume create` makes it",
                    lun.volume
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
