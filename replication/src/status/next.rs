//! What a person may do next about a volume that nobody leads, or whose copies have parted.
//!
//! Its one rule: by force only once nobody is left who could know better.

use super::{PeerState, PeerStatus, RoleState, Status};
use crate::event::Command;
use crate::fault::Refusal;
use crate::id::{ReplicaId, ReplicaSet};

/// A command, and the node where it is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub at: ReplicaId,
    /// What.
    pub command: Command,
}

impl Status {
    /// How somebody gets to lead. None: nobody is needed; or what is not linked has to be brought back first, or a
    /// person has to decide between copies.
    pub fn next_step(&self) -> Option<Step> {
        let promote = |at| Some(Step { at, command: Command::Promote { force: false } });
        let refusal = match self.promotion.as_ref()? {
            Ok(()) => return promote(self.own),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::MayLackUnflushed(peer) => promote(*peer),
            Refusal::NotInSync { in_sync, .. } => {
                self.with_copy(*in_sync).map_or_else(|| self.by_force(), promote)
            }
            Refusal::Mixed => self.with_copy(self.in_sync).map_or_else(|| self.by_force(), promote),
            Refusal::MayHaveGoneOn { .. }
            | Refusal::CopyLost { .. }
            | Refusal::NoMajority { .. }
            | Refusal::NewAndAlone { .. } => self.by_force(),
            _ => None,
        }
    }

    /// Peers whose copies have parted from ours: one of each two has to be discarded.
    pub fn parted(&self) -> impl Iterator<Item = ReplicaId> {
        self.peers.iter().filter(|peer| has_parted(peer)).map(|peer| peer.peer)
    }

    /// One of these that is linked and has a copy.
    fn with_copy(&self, set: ReplicaSet) -> Option<ReplicaId> {
        let has_copy =
            |peer: &&PeerStatus| set.contains(peer.peer) && peer.state != PeerState::Absent && !peer.is_new;
        self.peers.iter().find(has_copy).map(|peer| peer.peer)
    }

    fn by_force(&self) -> Option<Step> {
        let is_asked = |peer: &PeerStatus| peer.state != PeerState::Absent || has_parted(peer);
        let command = Command::Promote { force: true };
        self.peers.iter().all(is_asked).then_some(Step { at: self.latest_copy, command })
    }
}

fn has_parted(peer: &PeerStatus) -> bool {
    let refused = matches!(peer.refusal, Some(Refusal::OtherVolume | Refusal::SplitBrain(_)));
    peer.state == PeerState::SplitBrain || refused
}

/// How somebody gets to lead, in words.
pub(super) fn advice(status: &Status) -> String {
    let Some(Err(refusal)) = &status.promotion else { return String::new() };
    match status.next_step() {
        Some(Step { at, command: Command::Promote { force: true } }) => {
            let whose = if at == status.own {
                "this copy".to_owned()
            } else {
                format!("that of {}", status.name(at))
            };
            format!(
                ". All others are linked, and none has more than {whose}: `ringsan promote --force` on {} makes it \
                 lead; what only lost copies had is lost",
                status.name(at)
            )
        }
        Some(Step { at, .. }) => {
            format!(". `ringsan promote` on {}: its copy may have more", status.name(at))
        }
        None if status.role == RoleState::New => String::new(),
        None => format!(". `ringsan promote` here would be refused: {refusal}"),
    }
}
