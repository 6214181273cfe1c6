//! What the machine notices, as log lines that an operator can act on.

use replication::{History, Notice, ReplicaId, ReplicaSet, Term};

use super::Mirror;

impl Mirror {
    pub(super) fn notice(&self, notice: Notice) {
        let volume = &self.name;
        match notice {
            Notice::InForce(record) => {
                let leader = record.leader.map_or_else(|| "nobody".to_owned(), |leader| self.name_of(leader));
                let (epoch, in_sync) = (record.epoch.0, self.names_of(record.in_sync));
                tracing::info!(volume, epoch, leader, in_sync, "a new epoch is in force");
            }
            Notice::Leads(epoch) => tracing::info!(volume, epoch = epoch.0, "this node leads"),
            Notice::Follows { leader, epoch } => {
                tracing::info!(volume, leader = self.name_of(leader), epoch = epoch.0, "this node follows");
            }
            Notice::Left { peer, bytes } => {
                let peer = self.name_of(peer);
                tracing::warn!(
                    volume,
                    peer,
                    bytes,
                    "a replica is no longer in sync; it is brought up to date when it returns"
                );
            }
            Notice::Resyncs { peer, bytes } => {
                tracing::info!(
                    volume,
                    peer = self.name_of(peer),
                    bytes,
                    "a replica is being brought up to date"
                );
            }
            Notice::Joined { peer, bytes } => {
                tracing::info!(volume, peer = self.name_of(peer), sent_bytes = bytes, "a replica is in sync");
            }
            Notice::SplitBrain { peer, own, its } => {
                let peer = self.name_of(peer);
                tracing::error!(
                    volume,
                    peer,
                    ours = self.words_of(&own),
                    its = self.words_of(&its),
                    "split brain: both copies hold writes that the other lacks; decide which is to be kept, and run `ringsan discard {volume}@NODE` for the other"
                );
            }
            Notice::PeerRefused { peer, reason } => {
                tracing::warn!(volume, peer = self.name_of(peer), "a peer is refused: {reason}");
            }
            Notice::DiskFailed(fault) => tracing::error!(
                volume,
                "the local disk has failed ({fault}): this copy is out; replace or mend the disk, then restart the node"
            ),
            Notice::Suspended { missing } => tracing::warn!(
                volume,
                missing = self.names_of(missing),
                "writes wait: too few replicas are within reach; bring one back, or restore the network between them"
            ),
            Notice::Differs { peer, range, repaired } => {
                let peer = self.name_of(peer);
                self.commands.differs(&peer, range.start, range.bytes);
                tracing::warn!(
                    volume,
                    peer,
                    offset = range.start,
                    bytes = range.bytes,
                    repaired,
                    "replicas differ"
                );
            }
            Notice::Verified { bytes, differing_bytes } => {
                self.commands.verified(bytes, differing_bytes);
                tracing::info!(volume, bytes, differing_bytes, "replicas have been compared");
            }
        }
    }

    pub(super) fn name_of(&self, replica: ReplicaId) -> String {
        let settings = self.settings.borrow();
        settings.replicas.get(replica.index()).cloned().unwrap_or_else(|| replica.to_string())
    }

    /// Whose writes a copy holds, epoch by epoch.
    fn words_of(&self, history: &History) -> String {
        let term = |term: &Term| format!("{} {} to {}", self.name_of(term.leader), term.first, term.last);
        history.terms().iter().map(term).collect::<Vec<_>>().join(", ")
    }

    fn names_of(&self, replicas: ReplicaSet) -> String {
        replicas.iter().map(|replica| self.name_of(replica)).collect::<Vec<_>>().join(", ")
    }
}
