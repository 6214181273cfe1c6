//! What a replica refuses, in words that name nodes; and whether an operator may insist.
//!
//! Its one rule: whatever can be forced says what would be lost.

use replication::{Refusal, ReplicaSet};

use super::mirror::name_of;

/// Why a replica of `volume`, which are on the nodes of these names, refuses; and the next step.
pub fn refusal_text(refusal: &Refusal, volume: &str, names: &[String]) -> String {
    let all = |set: &ReplicaSet| {
        let names: Vec<_> = set.iter().map(|replica| name_of(names, replica)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    match refusal {
        Refusal::LeaderAlive(leader) => format!(
            "{0} leads and is within reach: demote it there first (`ringsan demote {volume}`); with --force it stops at once, \
             and what it wrote while this copy was not in sync is lost",
            name_of(names, *leader)
        ),
        Refusal::NotInSync { since, in_sync } => format!(
            "this copy is not in sync since epoch {since}: it lacks acknowledged writes. Promote one of {}; with \
             --force, all that was written since then is lost",
            all(in_sync)
        ),
        Refusal::MayHaveGoneOn { unreachable } => format!(
            "{} may have gone on without this copy, and cannot be asked: bring it back. If it is down for good, \
             --force: what it acknowledged alone is lost, and its copy must be discarded when it returns",
            all(unreachable)
        ),
        Refusal::NoMajority { reachable, replicas } => format!(
            "only {reachable} of {replicas} replicas are within reach, and a majority must agree: bring another back. \
             With --force, what the others acknowledged without this copy is lost"
        ),
        Refusal::NewAndAlone { unreachable } => format!(
            "this copy is new, and {} cannot be asked whether it holds data: bring it back. With --force the volume \
             begins anew with this copy, and any data there must be discarded",
            all(unreachable)
        ),
        Refusal::CopyLost { by } => format!(
            "{} may have gone on without this copy, and is back without its own (a volume in memory loses it with each \
             restart, a replaced disk has none): with --force this copy leads, and what was acknowledged without it is lost",
            all(by)
        ),
        Refusal::Mixed => {
            "a resync into this copy was cut short: it is half of an old, half of a newer state. Bring \
             back a replica that is in sync; with --force this copy leads although its data is damaged"
                .to_owned()
        }
        Refusal::SplitBrain(peer) => format!(
            "split brain with {0}: both copies hold writes of their own. Discard one (`ringsan discard {volume}@NODE`); \
             with --force this copy leads, and that of {0} must be discarded",
            name_of(names, *peer)
        ),
        Refusal::Unanswered(silent) => {
            format!("{} did not answer in time: try again, or look why it is slow", all(silent))
        }
        Refusal::LeaseOut => {
            "a lease to the leader has not run out: it does within seconds, then try again; with \
             --force, what that leader acknowledges until then may be lost"
                .to_owned()
        }
        Refusal::OtherName(who) => format!(
            "it says that it is {}: two nodes with one name, or a wrong address under [peers]",
            name_of(names, *who)
        ),
        Refusal::Leads => format!(
            "this copy leads: `ringsan demote {volume}` first, and see that another copy is to be kept"
        ),
        other => other.to_string(),
    }
}

/// Whether `force` goes past it.
pub fn can_be_forced(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::LeaderAlive(_)
            | Refusal::LeaseOut
            | Refusal::NotInSync { .. }
            | Refusal::MayHaveGoneOn { .. }
            | Refusal::CopyLost { .. }
            | Refusal::NoMajority { .. }
            | Refusal::NewAndAlone { .. }
            | Refusal::Mixed
            | Refusal::SplitBrain(_)
            | Refusal::Unanswered(_)
    )
}

#[cfg(test)]
mod tests {
    use replication::{Epoch, ReplicaId};

    use super::*;

    #[test]
    fn reasons_name_nodes_and_what_force_loses() {
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let both = ReplicaSet::only(ReplicaId(0)).with(ReplicaId(2));
        for refusal in [
            Refusal::LeaderAlive(ReplicaId(0)),
            Refusal::NotInSync { since: Epoch(4), in_sync: both },
            Refusal::MayHaveGoneOn { unreachable: both },
            Refusal::CopyLost { by: both },
            Refusal::NewAndAlone { unreachable: both },
            Refusal::SplitBrain(ReplicaId(2)),
        ] {
            let text = refusal_text(&refusal, "db", &names);
            assert!(can_be_forced(&refusal) && text.contains("--force"), "{text}");
            assert!(!text.contains("Replica"), "{text}");
        }
        let gone_on = Refusal::MayHaveGoneOn { unreachable: both };
        assert!(refusal_text(&gone_on, "db", &names).starts_with("a, c may have gone on"));
    }

    #[test]
    fn what_force_does_not_help_is_no_reason_to_force() {
        assert!(!can_be_forced(&Refusal::AlreadyLeads) && !can_be_forced(&Refusal::Busy));
    }
}
