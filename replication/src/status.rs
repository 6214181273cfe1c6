//! What a replica says of itself, as values and in words.
//!
//! Its one rule: only `in sync` with every peer in sync sounds like nothing needs doing.

mod next;

pub use self::next::Step;
use self::next::advice;
use crate::config::OnPeerLoss;
use crate::coordinator::Coordination;
use crate::fault::{DiskFault, Fault, Refusal};
use crate::history::{History, Term};
use crate::id::{Epoch, ReplicaId, ReplicaSet};

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleState {
    /// New: it has never been part of the volume.
    New,
    /// It leads, and serves.
    Leads,
    /// It leads but writes wait: a lost peer cannot be removed without a majority, or the coordinator is away.
    Suspended,
    /// It is about to lead: it asks the others, or waits for the record to be in force.
    Begins,
    /// It gives up the lead.
    StepsDown,
    /// It follows a leader, in sync.
    InSync,
    /// It follows a leader that brings it up to date.
    Joining,
    /// It was in sync when it last heard of anybody, and hears of no leader: consistent, not known up to date.
    Consistent,
    /// It is out of date, and hears of no leader.
    Outdated,
    /// Its copy is half of an old, half of a newer state, and it hears of no leader.
    Mixed,
    /// Its history and a peer's have diverged.
    SplitBrain,
    /// Its disk has failed.
    Failed(DiskFault),
}

/// How a peer stands, as a leader sees it (or a follower, who only knows connected or not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// No link.
    Absent,
    /// A link, and nothing agreed yet.
    Connected,
    /// It receives what it lacks.
    Resyncing,
    /// It holds every acknowledged write.
    InSync,
    /// Its history and ours have diverged.
    SplitBrain,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: ReplicaId,
    /// How it stands.
    pub state: PeerState,
    /// Whether the latest record has it in the in-sync set.
    pub in_sync: bool,
    /// It is linked, and has no copy of the volume: it never had one, or has lost it, or given it up.
    pub is_new: bool,
    /// What it may lack.
    pub resync_bytes: u64,
    /// What has been sent of the resync under way.
    pub resynced_bytes: u64,
    /// Bytes of writes on their way to it.
    pub lag_bytes: u64,
    /// Its history, if it has diverged.
    pub diverged: Option<History>,
    /// Why it was last refused, or refused us, if that is how things stand.
    pub refusal: Option<Refusal>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who speaks.
    pub own: ReplicaId,
    /// The names of all replicas.
    pub names: Vec<String>,
    /// What it does.
    pub role: RoleState,
    /// The leader, if known.
    pub leader: Option<ReplicaId>,
    /// The latest epoch known.
    pub epoch: Epoch,
    /// The epoch promised.
    pub promised: Epoch,
    /// Changes when acknowledged writes that nobody had flushed may have been lost. 0: not known yet.
    pub era: u64,
    /// The in-sync set by the latest record known.
    pub in_sync: ReplicaSet,
    /// Our history.
    pub history: History,
    /// Each peer.
    pub peers: Vec<PeerStatus>,
    /// What an operator's wish to promote this replica would come to, as far as is known. None: somebody leads.
    pub promotion: Option<Result<(), Refusal>>,
    /// Who has the latest copy, of those that are linked and ourselves.
    pub latest_copy: ReplicaId,
    /// Requests under way and waiting.
    pub requests: usize,
    /// Extents marked.
    pub active_extents: usize,
    /// The last fault of the machine's own, if any.
    pub last_fault: Option<Fault>,
}

impl Status {
    fn name(&self, replica: ReplicaId) -> &str {
        self.names.get(replica.index()).map_or("?", String::as_str)
    }

    fn names_of(&self, set: ReplicaSet) -> String {
        let names: Vec<&str> = set.iter().map(|replica| self.name(replica)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }
}

/// Cause and next step in words, for all that is not as it should be.
pub(crate) fn explain(status: &Status, coordination: Coordination) -> Vec<String> {
    let mut lines: Vec<String> = own_state(status, coordination).into_iter().collect();
    lines.extend(status.peers.iter().filter_map(|peer| peer_state(status, peer)));
    lines
}

fn own_state(status: &Status, coordination: Coordination) -> Option<String> {
    let next = advice(status);
    let leader = status.leader.map_or("nobody", |leader| status.name(leader));
    let in_sync = status.names_of(status.in_sync);
    let text = match status.role {
        RoleState::Leads | RoleState::InSync => return None,
        RoleState::New => format!(
            "this copy is new and belongs to no volume yet. If another node has the data, it is brought up to date as \
             soon as that one leads and is linked; if none has, `ringsan promote` here begins the volume{next}"
        ),
        RoleState::Suspended => suspended(status, coordination),
        RoleState::Begins => format!(
            "this replica is about to lead and waits for the others to agree; this takes a second or two. If it stays \
             so, look whether the other nodes run and can be reached{next}"
        ),
        RoleState::StepsDown => "this replica is giving up the lead and finishes what is under way; if it stays so, \
             bring the other nodes back, or give this copy up (`ringsan discard`) if another is to be kept"
            .to_owned(),
        RoleState::Joining => format!("this copy lacks writes and receives them from {leader}; nothing needs doing"),
        RoleState::Consistent if next.is_empty() => format!(
            "this copy was in sync at epoch {} (in sync then: {in_sync}; leader: {leader}) and hears of no leader now: \
             whether it still is, is not known. Bring the leader back; or, if it is gone for good, `ringsan promote` here",
            status.epoch
        ),
        RoleState::Consistent => format!(
            "this copy was in sync at epoch {} (in sync then: {in_sync}; leader: {leader}) and hears of no leader now: \
             whether it still is, is not known. Bring the others back{next}",
            status.epoch
        ),
        RoleState::Outdated => format!(
            "this copy is out of date since epoch {} and hears of no leader. In sync are {in_sync}: bring one of them \
             back, and promote it if none leads{next}",
            status.history.last_epoch()
        ),
        RoleState::Mixed => format!(
            "a resync into this copy was cut short: it is half of an old, half of a newer state. Bring one of \
             {in_sync} back; this copy then continues where it stopped{next}"
        ),
        RoleState::SplitBrain => "this copy and another hold writes of their own that the other lacks; nothing is \
             overwritten. Decide which copy is to be kept, `ringsan discard` the other, and if nobody leads then, \
             `ringsan promote` on the node whose copy is kept"
            .to_owned(),
        RoleState::Failed(fault) => format!(
            "the local disk has failed ({fault}): this copy is out. Look at the system's log; replace or mend the \
             disk, then restart the node: the copy is brought up to date"
        ),
    };
    Some(text)
}

fn suspended(status: &Status, coordination: Coordination) -> String {
    if coordination == Coordination::External {
        return "writes wait: a lost replica can be left out only when the coordinator agrees. See that it runs and can \
                be reached"
            .to_owned();
    }
    let majority = "writes wait: a lost replica can be left out only when a majority of all replicas agrees. Bring another \
                    replica back, or restore the network between them";
    match status.names.len() <= OnPeerLoss::RECONFIGURED_MAX {
        true => {
            format!("{majority}; or give the volume `on_peer_loss = \"continue\"` and run `ringsan reload`")
        }
        false => majority.to_owned(),
    }
}

fn peer_state(status: &Status, peer: &PeerStatus) -> Option<String> {
    let name = status.name(peer.peer);
    let leads = matches!(status.role, RoleState::Leads | RoleState::Suspended | RoleState::StepsDown);
    if let Some(refusal) = &peer.refusal {
        return Some(format!("{name}: refused: {refusal}"));
    }
    match peer.state {
        PeerState::InSync => None,
        PeerState::SplitBrain => Some(format!(
            "{name}: split brain. Our history: {}. Its history: {}. Decide which copy is to be kept, and on the other \
             node run `ringsan discard`",
            terms(status, &status.history),
            peer.diverged.as_ref().map_or_else(String::new, |history| terms(status, history))
        )),
        PeerState::Resyncing => Some(format!(
            "{name}: is being brought up to date: {} bytes left, {} sent; nothing needs doing",
            peer.resync_bytes, peer.resynced_bytes
        )),
        PeerState::Connected if leads => Some(format!(
            "{name}: linked, and about to be brought up to date; if it stays so, see its own log"
        )),
        PeerState::Connected => None,
        PeerState::Absent if leads => Some(format!(
            "{name}: not linked; it will lack {} bytes. Look whether the node runs, and whether its address under \
             [peers] can be reached; it is brought up to date when it comes back",
            peer.resync_bytes
        )),
        PeerState::Absent => Some(format!(
            "{name}: not linked. Look whether the node runs, and whether its address can be reached"
        )),
    }
}

fn terms(status: &Status, history: &History) -> String {
    let terms = history.terms().iter();
    let text = |term: &Term| match (status.name(term.leader), term.first, term.last) {
        (leader, first, last) if first == last => format!("{leader} led epoch {first}"),
        (leader, first, last) => format!("{leader} led epochs {first} to {last}"),
    };
    let terms: Vec<String> = terms.map(text).collect();
    if terms.is_empty() { "none".to_owned() } else { terms.join(", ") }
}
