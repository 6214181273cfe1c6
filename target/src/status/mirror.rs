//! The mirror of a volume as JSON: names instead of numbers, and words for every state.
//!
//! Its one rule: `explanation` is empty only when every replica is in sync and nothing needs doing.

mod explanation;

use std::collections::BTreeMap;

use replication::{History, PeerState, PeerStatus, ReplicaId, RoleState};
use serde::{Deserialize, Serialize};

use super::Latency;
use super::refusal::refusal_text;
use crate::snapshot::{LinkSnapshot, MirrorSnapshot, Stage, VerificationSnapshot};

/// The mirror of one volume, as this node knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// This node's name in the list of replicas.
    pub own: String,
    /// What its replica does: `leader`, `suspended`, `in_sync`, `resync`, `consistent`, `split_brain`, …
    pub role: String,
    /// Whether leader, epoch and in-sync set hold now. If not, they are what was so when this node last heard.
    pub current: bool,
    /// Who leads, as far as is known.
    pub leader: Option<String>,
    /// The latest epoch known.
    pub epoch: u64,
    /// Nothing older is obeyed.
    pub promised: u64,
    /// The in-sync set.
    pub in_sync: Vec<String>,
    /// Whose writes its copy holds, oldest first.
    pub history: Vec<TermStatus>,
    /// All replicas, this node's among them, in the order of the configuration.
    pub replicas: Vec<ReplicaStatus>,
    /// Requests under way and waiting.
    pub requests: usize,
    /// Extents that the activity log marks.
    pub active_extents: usize,
    /// The last fault of the machine's own.
    pub last_fault: Option<String>,
    /// Parts of the latency of writes that it led, by stage; those without a write are left out.
    pub stages: BTreeMap<String, Latency>,
    /// The last comparison of replicas that was asked for here.
    pub verification: Option<VerificationStatus>,
    /// Cause and next step in words, for all that is not in sync.
    pub explanation: Vec<String>,
}

/// The epochs of one run of one leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TermStatus {
    pub leader: String,
    pub first_epoch: u64,
    pub last_epoch: u64,
}

/// One replica, as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its node.
    pub name: String,
    /// This node's own: as `role`. Of a peer: `in_sync`, `resync`, `connected`, `absent`, `split_brain`, `leader`.
    pub state: String,
    /// Whether it is in the in-sync set.
    pub in_sync: bool,
    /// What it may lack, and has yet to receive; `None` where this node cannot know.
    pub resync_bytes: Option<u64>,
    /// What it has received of the resync under way.
    pub resynced_bytes: u64,
    /// How far that is, from 0 to 1.
    pub progress: Option<f64>,
    /// How fast, over the window.
    pub resynced_bytes_per_second: Option<f64>,
    /// Bytes of writes on their way to it.
    pub lag_bytes: u64,
    /// Its history, if it has diverged from ours.
    pub diverged: Vec<TermStatus>,
    /// Why it was refused, or refused us.
    pub refusal: Option<String>,
    /// The link to it; `None` for this node's own.
    pub link: Option<LinkStatus>,
}

/// The link to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// There is one now.
    pub up: bool,
    /// Links made since the start.
    pub links: u64,
    /// Links that ended by a corrupt or foreign frame.
    pub corrupt: u64,
    /// Bytes sent, frames and payload.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Why there is none.
    pub trouble: Option<String>,
}

/// A comparison of replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationStatus {
    /// It is under way.
    pub running: bool,
    /// Differing ranges were, or are, to be mended from the leader.
    pub repair: bool,
    /// Bytes compared so far.
    pub bytes: u64,
    /// Bytes of regions that differed.
    pub differing_bytes: u64,
    /// The first of the ranges that differed.
    pub differences: Vec<DifferenceStatus>,
    /// Why it ended before all was compared.
    pub trouble: Option<String>,
}

/// A range that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DifferenceStatus {
    pub replica: String,
    pub offset_bytes: u64,
    pub length_bytes: u64,
}

/// `POST /v1/volumes/{name}/promote`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// Even where that may lose writes.
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/volumes/{name}/verify`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Send the leader's bytes where they differ.
    #[serde(default)]
    pub repair: bool,
}

impl MirrorStatus {
    /// What is so of `volume` `now`; with the moment `before` it and the seconds in between, rates too.
    pub fn new(
        volume: &str,
        now: &MirrorSnapshot,
        before: Option<(Option<&MirrorSnapshot>, f64)>,
    ) -> MirrorStatus {
        let status = &now.status;
        let name = |replica: ReplicaId| name_of(&status.names, replica);
        MirrorStatus {
            own: name(status.own),
            role: role_name(status.role).to_owned(),
            current: is_current(status.role),
            leader: status.leader.map(name),
            epoch: status.epoch.0,
            promised: status.promised.0,
            in_sync: status.in_sync.iter().map(name).collect(),
            history: terms(&status.names, &status.history),
            replicas: replicas(volume, now, before),
            requests: status.requests,
            active_extents: status.active_extents,
            last_fault: status.last_fault.map(|fault| fault.to_string()),
            stages: stages(now, before.and_then(|(earlier, _)| earlier)),
            verification: now.verification.as_ref().map(VerificationStatus::from),
            explanation: explanation::lines(volume, now),
        }
    }

    /// Whether this node leads the volume.
    pub fn leads(&self) -> bool {
        self.current && self.leader.as_ref() == Some(&self.own)
    }

    /// A replica by its node's name.
    pub fn replica(&self, name: &str) -> Option<&ReplicaStatus> {
        self.replicas.iter().find(|replica| replica.name == name)
    }
}

impl From<&VerificationSnapshot> for VerificationStatus {
    fn from(snapshot: &VerificationSnapshot) -> VerificationStatus {
        let difference = |(replica, offset, length): &(String, u64, u64)| DifferenceStatus {
            replica: replica.clone(),
            offset_bytes: *offset,
            length_bytes: *length,
        };
        VerificationStatus {
            running: snapshot.is_running,
            repair: snapshot.repairs,
            bytes: snapshot.bytes,
            differing_bytes: snapshot.differing_bytes,
            differences: snapshot.differences.iter().map(difference).collect(),
            trouble: Some(snapshot.trouble.clone()).filter(|trouble| !trouble.is_empty()),
        }
    }
}

/// Whether a replica of this role hears of whatever changes.
fn is_current(role: RoleState) -> bool {
    leads(role) || matches!(role, RoleState::InSync | RoleState::Joining)
}

/// Whether a replica of this role is the leader.
pub fn leads(role: RoleState) -> bool {
    matches!(role, RoleState::Leads | RoleState::Suspended | RoleState::StepsDown)
}

/// The label of a role in status and metrics.
pub fn role_name(role: RoleState) -> &'static str {
    match role {
        RoleState::New => "new",
        RoleState::Leads => "leader",
        RoleState::Suspended => "suspended",
        RoleState::Begins => "begins_to_lead",
        RoleState::StepsDown => "gives_up_lead",
        RoleState::InSync => "in_sync",
        RoleState::Joining => "resync",
        RoleState::Consistent => "consistent",
        RoleState::Outdated => "out_of_date",
        RoleState::Mixed => "mixed",
        RoleState::SplitBrain => "split_brain",
        RoleState::Failed(_) => "failed",
    }
}

/// The label of a peer's state in status and metrics.
pub fn peer_state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Absent => "absent",
        PeerState::Connected => "connected",
        PeerState::Resyncing => "resync",
        PeerState::InSync => "in_sync",
        PeerState::SplitBrain => "split_brain",
    }
}

/// The name of a replica's node.
pub fn name_of(names: &[String], replica: ReplicaId) -> String {
    names.get(replica.index()).cloned().unwrap_or_else(|| replica.to_string())
}

fn terms(names: &[String], history: &History) -> Vec<TermStatus> {
    let term = |term: &replication::Term| TermStatus {
        leader: name_of(names, term.leader),
        first_epoch: term.first.0,
        last_epoch: term.last.0,
    };
    history.terms().iter().map(term).collect()
}

fn replicas(
    volume: &str,
    now: &MirrorSnapshot,
    before: Option<(Option<&MirrorSnapshot>, f64)>,
) -> Vec<ReplicaStatus> {
    let status = &now.status;
    let all = (0..status.names.len() as u8).map(ReplicaId);
    let replica = |replica: ReplicaId| match status.peers.iter().find(|peer| peer.peer == replica) {
        Some(peer) => {
            let rate = before.and_then(|(earlier, seconds)| resync_rate(earlier?, peer, seconds));
            ReplicaStatus { resynced_bytes_per_second: rate, ..peer_status(volume, now, peer) }
        }
        None => own_status(now, replica),
    };
    all.map(replica).collect()
}

fn own_status(now: &MirrorSnapshot, own: ReplicaId) -> ReplicaStatus {
    let status = &now.status;
    let is_whole = leads(status.role) || status.role == RoleState::InSync;
    ReplicaStatus {
        name: name_of(&status.names, own),
        state: role_name(status.role).to_owned(),
        in_sync: status.in_sync.contains(own),
        resync_bytes: is_whole.then_some(0),
        resynced_bytes: 0,
        progress: None,
        resynced_bytes_per_second: None,
        lag_bytes: 0,
        diverged: Vec::new(),
        refusal: None,
        link: None,
    }
}

fn peer_status(volume: &str, now: &MirrorSnapshot, peer: &PeerStatus) -> ReplicaStatus {
    let status = &now.status;
    let name = name_of(&status.names, peer.peer);
    let is_leader = status.leader == Some(peer.peer) && peer.state == PeerState::Connected;
    let all_bytes = peer.resynced_bytes + peer.resync_bytes;
    let is_resyncing = peer.state == PeerState::Resyncing && all_bytes > 0;
    let link = now.links.iter().find(|link| link.peer == name).map(link_status);
    ReplicaStatus {
        state: if is_leader { role_name(RoleState::Leads) } else { peer_state_name(peer.state) }.to_owned(),
        in_sync: peer.in_sync,
        resync_bytes: Some(peer.resync_bytes),
        resynced_bytes: peer.resynced_bytes,
        progress: is_resyncing.then(|| peer.resynced_bytes as f64 / all_bytes as f64),
        resynced_bytes_per_second: None,
        lag_bytes: peer.lag_bytes,
        diverged: peer.diverged.as_ref().map(|history| terms(&status.names, history)).unwrap_or_default(),
        refusal: peer.refusal.as_ref().map(|refusal| refusal_text(refusal, volume, &status.names)),
        link,
        name,
    }
}

fn link_status(link: &LinkSnapshot) -> LinkStatus {
    LinkStatus {
        up: link.is_up,
        links: link.links,
        corrupt: link.corrupt,
        sent_bytes: link.sent_bytes,
        received_bytes: link.received_bytes,
        trouble: Some(link.trouble.clone()).filter(|trouble| !trouble.is_empty()),
    }
}

/// Bytes a second, if both moments belong to one resync.
fn resync_rate(earlier: &MirrorSnapshot, now: &PeerStatus, seconds: f64) -> Option<f64> {
    let earlier = earlier.status.peers.iter().find(|peer| peer.peer == now.peer)?;
    let bytes = now.resynced_bytes.checked_sub(earlier.resynced_bytes)?;
    (now.state == PeerState::Resyncing && earlier.state == now.state).then_some(bytes as f64 / seconds)
}

fn stages(now: &MirrorSnapshot, earlier: Option<&MirrorSnapshot>) -> BTreeMap<String, Latency> {
    let since = |(index, stage): (usize, &Stage)| {
        let all = now.stages.get(index)?;
        let mut recent = all.clone();
        if let Some(before) = earlier.and_then(|earlier| earlier.stages.get(index)) {
            // Only a restarted volume has counted less than before; then its own counts are the difference.
            if recent.subtract(before).is_err() {
                recent = all.clone();
            }
        }
        Some((stage.name().to_owned(), Latency::of(&recent)?))
    };
    Stage::ALL.iter().enumerate().filter_map(since).collect()
}

#[cfg(test)]
pub(crate) mod tests;
