//! What `[[volume]]`, a flag or the admin API says of a volume's replicas.
//!
//! Its one rule: the list stands as it was written: every node must have the same one, in the same order.

use std::time::Duration;

use replication::{OnPeerLoss, ReplicaId};

use super::{MirrorDeclaration, PEER_TIMEOUT};
use crate::config::draft::node_name;
use crate::config::mistake::{At, Mistake, Origin, Slot, Wrong};
use crate::config::section::{Section, list_of, text, text_as};
use crate::config::units::{duration_text, parse_duration};
use crate::config::values::{on_peer_loss_name, parse_on_peer_loss};
use crate::config::volume::VolumeSpec;
use crate::settings::MirrorSettings;

const TIMEOUT_MIN: Duration = Duration::from_millis(50);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A volume's replicas, of which only the single values have been checked.
#[derive(Clone, Debug, Default)]
pub struct ReplicasDraft {
    replicas: Slot<Vec<String>>,
    on_peer_loss: Slot<OnPeerLoss>,
    peer_timeout: Slot<Duration>,
}

impl ReplicasDraft {
    /// Reads what `[[volume]]` has.
    pub fn read(&mut self, section: &mut Section<'_>) {
        section.read("replicas", &mut self.replicas, |value| {
            checked_replicas(list_of(|name| text(name).map(str::to_owned))(value)?)
        });
        section.read("on_peer_loss", &mut self.on_peer_loss, text_as(parse_on_peer_loss));
        section.read("peer_timeout", &mut self.peer_timeout, text_as(parse_timeout));
    }

    /// Takes an option of `--volume`, if it is one of these.
    pub fn set_option(&mut self, key: &str, value: Option<&str>, origin: &Origin) -> Result<bool, Wrong> {
        let needed =
            || value.ok_or_else(|| Wrong::new(format!("`{key}` has no value"), format!("write {key}=…")));
        match key {
            "replicas" => {
                let names = needed()?.split('+').map(str::to_owned).collect();
                self.replicas = at(checked_replicas(names)?, origin);
            }
            "on_peer_loss" => self.on_peer_loss = at(parse_on_peer_loss(needed()?)?, origin),
            "peer_timeout" => self.peer_timeout = at(parse_timeout(needed()?)?, origin),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The same from a request to the admin API or a record in the state directory.
    pub fn from_spec(spec: &VolumeSpec, origin: &Origin) -> Result<ReplicasDraft, Wrong> {
        let mut draft = ReplicasDraft::default();
        if !spec.replicas.is_empty() {
            draft.replicas = at(checked_replicas(spec.replicas.clone())?, origin);
        }
        if let Some(choice) = &spec.on_peer_loss {
            draft.on_peer_loss = at(parse_on_peer_loss(choice)?, origin);
        }
        if let Some(time) = &spec.peer_timeout {
            draft.peer_timeout = at(parse_timeout(time)?, origin);
        }
        Ok(draft)
    }

    /// Puts the values together; `None` where there are no replicas.
    pub fn declare(self, volume: &str, read_only: bool) -> Result<Option<MirrorDeclaration>, Mistake> {
        let Some(replicas) = self.replicas else {
            let lone = |slot: Option<Origin>, key: &str| {
                slot.map(|origin| {
                    let cause = format!("volume `{volume}` has `{key}` and no replicas");
                    Wrong::new(cause, "add replicas = [\"…\", \"…\"], or remove it").at(&origin)
                })
            };
            let lone = lone(self.on_peer_loss.map(|at| at.origin), "on_peer_loss")
                .or(lone(self.peer_timeout.map(|at| at.origin), "peer_timeout"));
            return lone.map_or(Ok(None), Err);
        };
        if read_only {
            let cause =
                format!("volume `{volume}` is read-only and has replicas, which nothing could be written to");
            return Err(Wrong::new(cause, "remove one of the two settings").at(&replicas.origin));
        }
        Ok(Some(MirrorDeclaration {
            replicas,
            on_peer_loss: self.on_peer_loss.map(|at| at.value).unwrap_or_default(),
            peer_timeout: self.peer_timeout.map_or(PEER_TIMEOUT, |at| at.value),
        }))
    }
}

impl MirrorDeclaration {
    /// The settings of a running mirror by this declaration of its replicas.
    pub fn apply_to(&self, running: &MirrorSettings) -> MirrorSettings {
        let (on_peer_loss, peer_timeout) = (self.on_peer_loss, self.peer_timeout);
        MirrorSettings { on_peer_loss, peer_timeout, ..running.clone() }
    }

    /// Enters it into what the admin API and the state directory have.
    pub fn write_to(&self, spec: &mut VolumeSpec) {
        spec.replicas.clone_from(&self.replicas.value);
        spec.on_peer_loss = Some(on_peer_loss_name(self.on_peer_loss).to_owned());
        spec.peer_timeout = Some(duration_text(self.peer_timeout));
    }
}

fn checked_replicas(names: Vec<String>) -> Result<Vec<String>, Wrong> {
    let names = names.iter().map(|name| node_name(name)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        let remedy = "name the nodes that hold a copy each, or leave the setting out";
        return Err(Wrong::new("no replica is named", remedy));
    }
    if names.len() > ReplicaId::COUNT_MAX {
        let cause =
            format!("{} replicas are named; a volume has at most {}", names.len(), ReplicaId::COUNT_MAX);
        return Err(Wrong::new(cause, "name fewer nodes"));
    }
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        Some((_, twice)) => {
            Err(Wrong::new(format!("the replica `{twice}` is named twice"), "name each node once"))
        }
        None => Ok(names),
    }
}

/// How long a client's write may wait for a silent peer.
fn parse_timeout(text: &str) -> Result<Duration, Wrong> {
    let time = parse_duration(text)?;
    if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&time) {
        return Err(Wrong::new(
            format!("{} is out of bounds", duration_text(time)),
            "choose from 50ms to 60s",
        ));
    }
    Ok(time)
}

fn at<T>(value: T, origin: &Origin) -> Slot<T> {
    Some(At::new(value, origin.clone()))
}
