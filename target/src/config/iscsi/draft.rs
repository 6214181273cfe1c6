//! `[iscsi]` as it was written, each setting with its place.
//!
//! Its one rule: targets add up over files like volumes; any other setting is made once.

use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;
use wire::iscsi::parameters::DigestPolicy;

use super::name;
use super::secret::UserDraft;
use crate::config::mistake::{Origin, Slot, Wrong};
use crate::config::section::{Section, boolean, count, list_of, size, text, text_as};
use crate::config::units::parse_duration;
use crate::config::values;
use crate::config::volume::checked_name;
use crate::settings::Portal;

/// `[iscsi]`
#[derive(Default)]
#[allow(missing_docs)]
pub struct IscsiDraft {
    /// `None` for `off`.
    pub portals: Slot<Option<Vec<Portal>>>,
    pub advertise: Slot<Vec<String>>,
    pub prefix: Slot<String>,
    pub every_volume: Slot<bool>,
    pub block_size: Slot<u32>,
    pub portal_group: Slot<u64>,
    pub access: AccessDraft,
    pub discovery: Slot<CredentialsDraft>,
    pub limits: LimitsDraft,
    pub targets: Vec<TargetDraft>,
}

/// Who may log in, and from where.
#[derive(Clone, Default)]
#[allow(missing_docs)]
pub struct AccessDraft {
    pub credentials: CredentialsDraft,
    pub initiators: Slot<Vec<String>>,
    pub allow: Slot<Vec<IpNet>>,
}

/// CHAP in both directions.
#[derive(Clone, Default)]
#[allow(missing_docs)]
pub struct CredentialsDraft {
    pub users: Slot<Vec<UserDraft>>,
    pub mutual: Slot<UserDraft>,
}

/// Bounds, and what is offered in negotiation.
#[derive(Default)]
#[allow(missing_docs)]
pub struct LimitsDraft {
    pub connections_max: Slot<u64>,
    pub login_timeout: Slot<Duration>,
    pub stall_timeout: Slot<Duration>,
    pub ping_interval: Slot<Duration>,
    pub ping_timeout: Slot<Duration>,
    pub queue_depth: Slot<u64>,
    pub inflight_bytes_max: Slot<u64>,
    pub header_digest: Slot<DigestPolicy>,
    pub data_digest: Slot<DigestPolicy>,
    pub initial_r2t: Slot<bool>,
    pub immediate_data: Slot<bool>,
    pub max_outstanding_r2t: Slot<u64>,
    pub max_recv_data_segment_length: Slot<u64>,
    pub max_burst_length: Slot<u64>,
    pub first_burst_length: Slot<u64>,
}

/// `[[iscsi.target]]`
#[allow(missing_docs)]
pub struct TargetDraft {
    pub origin: Origin,
    /// Mistakes in it have been reported.
    pub is_flawed: bool,
    pub name: Slot<String>,
    pub alias: Slot<String>,
    pub access: AccessDraft,
    pub luns: Slot<Vec<LunDraft>>,
}

/// `[[iscsi.target.lun]]`
#[allow(missing_docs)]
pub struct LunDraft {
    pub origin: Origin,
    pub number: Slot<u64>,
    pub volume: Slot<String>,
    pub read_only: Slot<bool>,
    pub removable: Slot<bool>,
    pub block_size: Slot<u32>,
}

impl IscsiDraft {
    /// Adds what `section` says.
    pub fn read(&mut self, mut section: Section<'_>) {
        section.read("portals", &mut self.portals, portals);
        section.read(
            "advertise",
            &mut self.advertise,
            list_of(|value| values::parse_advertised(text(value)?)),
        );
        section.read("iqn_prefix", &mut self.prefix, text_as(name::parse_prefix));
        section.read("every_volume", &mut self.every_volume, boolean);
        section.read("block_size", &mut self.block_size, block_size);
        section.read("portal_group", &mut self.portal_group, count);
        self.access.read(&mut section);
        section.read_table("discovery", "[iscsi.discovery]", &mut self.discovery, |section, _| {
            let mut credentials = CredentialsDraft::default();
            credentials.read(section);
            section.finish();
            credentials
        });
        self.limits.read(&mut section);
        let mut targets = None;
        section.read_tables("target", "[[iscsi.target]]", &mut targets, TargetDraft::read);
        self.targets.extend(targets.into_iter().flat_map(|at| at.value));
        section.finish();
    }
}

impl AccessDraft {
    fn read(&mut self, section: &mut Section<'_>) {
        self.credentials.read(section);
        section.read(
            "initiators",
            &mut self.initiators,
            list_of(|value| name::parse_initiator(text(value)?)),
        );
        section.read("allow", &mut self.allow, list_of(|value| values::parse_network(text(value)?)));
    }
}

impl CredentialsDraft {
    fn read(&mut self, section: &mut Section<'_>) {
        section.read_tables("users", "a CHAP user", &mut self.users, UserDraft::read);
        section.read_table("mutual", "the CHAP user of this node", &mut self.mutual, UserDraft::read);
    }
}

impl LimitsDraft {
    fn read(&mut self, section: &mut Section<'_>) {
        section.read("connections_max", &mut self.connections_max, count);
        section.read("login_timeout", &mut self.login_timeout, text_as(parse_duration));
        section.read("stall_timeout", &mut self.stall_timeout, text_as(parse_duration));
        section.read("ping_interval", &mut self.ping_interval, text_as(parse_duration));
        section.read("ping_timeout", &mut self.ping_timeout, text_as(parse_duration));
        section.read("queue_depth", &mut self.queue_depth, count);
        section.read("inflight_bytes_max", &mut self.inflight_bytes_max, size);
        section.read("header_digest", &mut self.header_digest, text_as(values::parse_digest));
        section.read("data_digest", &mut self.data_digest, text_as(values::parse_digest));
        section.read("initial_r2t", &mut self.initial_r2t, boolean);
        section.read("immediate_data", &mut self.immediate_data, boolean);
        section.read("max_outstanding_r2t", &mut self.max_outstanding_r2t, count);
        let segment = &mut self.max_recv_data_segment_length;
        section.read("max_recv_data_segment_length", segment, size);
        section.read("max_burst_length", &mut self.max_burst_length, size);
        section.read("first_burst_length", &mut self.first_burst_length, size);
    }
}

impl TargetDraft {
    fn read(section: &mut Section<'_>, origin: Origin) -> TargetDraft {
        let already = section.mistakes_so_far();
        let mut draft = TargetDraft {
            origin,
            is_flawed: false,
            name: None,
            alias: None,
            access: AccessDraft::default(),
            luns: None,
        };
        section.read("name", &mut draft.name, |value| text(value).map(str::to_owned));
        section.read("alias", &mut draft.alias, text_as(alias));
        draft.access.read(section);
        section.read_tables("lun", "[[iscsi.target.lun]]", &mut draft.luns, LunDraft::read);
        section.finish();
        draft.is_flawed = section.mistakes_so_far() > already;
        draft
    }
}

impl LunDraft {
    fn read(section: &mut Section<'_>, origin: Origin) -> LunDraft {
        let mut draft = LunDraft {
            origin,
            number: None,
            volume: None,
            read_only: None,
            removable: None,
            block_size: None,
        };
        section.read("number", &mut draft.number, count);
        section.read("volume", &mut draft.volume, text_as(checked_name));
        section.read("read_only", &mut draft.read_only, boolean);
        section.read("removable", &mut draft.removable, boolean);
        section.read("block_size", &mut draft.block_size, block_size);
        section.finish();
        draft
    }
}

fn portals(value: &DeValue<'_>) -> Result<Option<Vec<Portal>>, Wrong> {
    match value.as_str() {
        Some("off") => Ok(None),
        _ => list_of(|value| values::parse_iscsi_portal(text(value)?))(value).map(Some),
    }
}

fn block_size(value: &DeValue<'_>) -> Result<u32, Wrong> {
    match size(value)? {
        512 => Ok(512),
        4096 => Ok(4096),
        other => Err(Wrong::new(format!("a logical block cannot have {other} bytes"), "choose 512 or 4096")),
    }
}

fn alias(text: &str) -> Result<String, Wrong> {
    if text.len() > 255 || text.chars().any(char::is_control) {
        let remedy = "at most 255 bytes without control characters";
        return Err(Wrong::new("the alias is too long or not one line", remedy));
    }
    Ok(text.to_owned())
}
