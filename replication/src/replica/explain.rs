//! What a replica says of itself.

use super::{Replica, Role};
use crate::candidate::{Candidate, latest_copy};
use crate::fault::Refusal;
use crate::id::{ReplicaId, VolumeId};
use crate::status::{self, PeerState, PeerStatus, RoleState, Status};

impl Replica {
    /// What it is doing.
    pub fn status(&self) -> Status {
        let superblock = self.base.journal.superblock();
        let record = self.base.record();
        let own_history = match &self.role {
            Role::Primary(primary) => primary.history(),
            Role::Secondary(_) => self.base.journal.history(),
        };
        Status {
            own: self.base.own(),
            names: self.base.config.names.clone(),
            role: self.role_state(),
            leader: record.and_then(|record| record.leader),
            epoch: record.map_or(superblock.promised, |record| record.epoch),
            promised: superblock.promised,
            era: superblock.era,
            in_sync: record.map_or(crate::id::ReplicaSet::EMPTY, |record| record.in_sync),
            history: own_history,
            peers: self.base.peers().iter().map(|peer| self.peer_status(peer)).collect(),
            promotion: self.promotion(),
            latest_copy: latest_copy(&self.base),
            requests: match &self.role {
                Role::Primary(primary) => primary.requests(),
                Role::Secondary(_) => self.forward.count(),
            },
            active_extents: self.base.journal.activity.count(),
            last_fault: self.base.last_fault,
        }
    }

    /// Whether this replica leads, or is about to.
    #[inline]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Primary(_))
    }

    /// Whether clients' requests are carried out here, not forwarded.
    #[inline]
    pub fn serves_here(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.serves())
    }

    /// The volume that this copy belongs to; None while it belongs to none.
    #[inline]
    pub fn volume(&self) -> Option<VolumeId> {
        self.base.journal.superblock().joined_volume()
    }

    /// Changes when acknowledged, unflushed writes may be lost; 0 while unknown.
    #[inline]
    pub fn era(&self) -> u64 {
        self.base.journal.superblock().era
    }

    /// Cause and next step in words, for every state that is not `in sync`; empty if all is well.
    pub fn explain(&self) -> Vec<String> {
        status::explain(&self.status(), self.base.config.coordination)
    }

    /// What a wish to promote would come to, where nobody leads.
    fn promotion(&self) -> Option<Result<(), Refusal>> {
        let Role::Secondary(secondary) = &self.role else { return None };
        let is_led = secondary.following(&self.base).is_some() || self.base.disk_failed.is_some();
        (!is_led).then(|| Candidate::rehearse(&self.base))
    }

    fn role_state(&self) -> RoleState {
        let diverged = self.base.links.iter().flatten().any(|link| link.diverged.is_some());
        if let Some(fault) = self.base.disk_failed {
            return RoleState::Failed(fault);
        }
        match &self.role {
            Role::Primary(primary) => primary.role_state(),
            Role::Secondary(_) if self.candidate.is_some() => RoleState::Begins,
            Role::Secondary(secondary) => {
                let superblock = self.base.journal.superblock();
                let is_member =
                    superblock.record.is_some_and(|record| record.in_sync.contains(self.base.own()));
                match (secondary.following(&self.base).is_some(), is_member) {
                    (true, true) => RoleState::InSync,
                    (true, false) => RoleState::Joining,
                    (false, _) if diverged => RoleState::SplitBrain,
                    (false, _) if superblock.joined_volume().is_none() => RoleState::New,
                    (false, true) => RoleState::Consistent,
                    (false, false) if superblock.mixed => RoleState::Mixed,
                    (false, false) => RoleState::Outdated,
                }
            }
        }
    }

    fn peer_status(&self, peer: ReplicaId) -> PeerStatus {
        let link = self.base.link(peer);
        let diverged = link.and_then(|link| link.diverged.clone());
        let state = match &self.role {
            _ if diverged.is_some() => PeerState::SplitBrain,
            Role::Primary(primary) => primary.peer_state(peer).unwrap_or(match link {
                Some(_) => PeerState::Connected,
                None => PeerState::Absent,
            }),
            Role::Secondary(_) if link.is_some() => PeerState::Connected,
            Role::Secondary(_) => PeerState::Absent,
        };
        let lack = self.base.journal.lack(peer);
        let (resynced_bytes, lag_bytes) = match &self.role {
            Role::Primary(primary) => primary.progress(peer),
            Role::Secondary(_) => (0, 0),
        };
        PeerStatus {
            peer,
            state,
            in_sync: self.base.record().is_some_and(|record| record.in_sync.contains(peer)),
            is_new: self.base.hello(peer).is_some_and(|hello| hello.record.is_none()),
            resync_bytes: lack.dirty().count() * self.base.geometry().region_bytes,
            resynced_bytes,
            lag_bytes,
            diverged,
            refusal: self.base.refusals[peer.index()].clone(),
        }
    }
}
