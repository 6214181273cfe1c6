//! `ringsan promote`, `demote` and `discard`: who leads a mirrored volume, and which copy yields.
//!
//! Its one rule: nothing is lost before it has been said what.

use clap::Args;
use serde_json::json;
use ureq::http::Method;

use super::client::ClientArgs;
use super::volume::path_of;
use super::{Failure, print};
use crate::status::mirror::{PromoteRequest, ReplicaStatus, TermStatus};
use crate::status::{MirrorStatus, VolumeStatus};

/// The flags of `promote`.
#[derive(Args)]
pub struct PromoteArgs {
    /// The volume
    name: String,
    /// Lead even where that loses data; says first what
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// The flags of `demote`.
#[derive(Args)]
pub struct DemoteArgs {
    /// The volume
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// The flags of `discard`.
#[derive(Args)]
pub struct DiscardArgs {
    /// The volume and the node whose copy yields, as in db@b
    #[arg(value_name = "VOLUME@NODE", value_parser = parse_copy)]
    copy: Copy,
    #[command(flatten)]
    client: ClientArgs,
}

/// One copy of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    volume: String,
    node: String,
}

/// Makes the node that is asked lead.
pub fn promote(args: &PromoteArgs) -> Result<(), Failure> {
    let client = args.client.client()?;
    let path = format!("{}/promote", path_of(&args.name));
    let ask = |force| client.send_json(Method::POST, &path, &PromoteRequest { force });
    let volume: VolumeStatus = match ask(false) {
        Err(Failure::NeedsForce(reason)) if args.force => {
            eprintln!("ringsan: forced although refused: {reason}");
            ask(true)?
        }
        answer => answer?,
    };
    print(&format!("{}: {}\n", args.name, leads_text(mirror_of(&volume)?)))
}

/// Ends its lead.
pub fn demote(args: &DemoteArgs) -> Result<(), Failure> {
    let volume: VolumeStatus = args.client.client()?.post(&format!("{}/demote", path_of(&args.name)))?;
    let mirror = mirror_of(&volume)?;
    let own = &mirror.own;
    let now = match mirror.leader.as_deref().filter(|leader| leader != own) {
        Some(_) => leads_text(mirror),
        None => "nobody leads until another node is promoted or takes over".to_owned(),
    };
    print(&format!("{}: {own} no longer leads; {now}\n", args.name))
}

/// Gives a copy up.
pub fn discard(args: &DiscardArgs) -> Result<(), Failure> {
    let Copy { volume: name, node } = &args.copy;
    let client = args.client.client()?;
    let volume: VolumeStatus = client.get(&path_of(name))?;
    let mirror = mirror_of(&volume)?;
    check_copy(mirror, &args.copy, client.base())?;
    print(&format!("{name}: {}\n", given_up(mirror)))?;
    let _: serde_json::Value =
        client.send_json(Method::POST, &format!("{}/discard", path_of(name)), &json!({}))?;
    print(&format!(
        "{name}: the copy on {node} has yielded; see how it comes into sync: ringsan status {name}\n"
    ))
}

/// The volume's mirror, or why there is none to speak of.
pub(super) fn mirror_of(volume: &VolumeStatus) -> Result<&MirrorStatus, Failure> {
    let name = &volume.name;
    volume.mirror.as_ref().ok_or_else(|| match &volume.unavailable {
        Some(reason) => Failure::Error(format!("volume `{name}` is not served: {reason}")),
        None => Failure::Error(format!(
            "volume `{name}` is not mirrored: it has no replicas; list those that are with `ringsan explain`"
        )),
    })
}

/// A copy is given up only on its own node, where nobody can mean another one by mistake, and not while it leads, unless
/// that is disputed.
fn check_copy(mirror: &MirrorStatus, copy: &Copy, base: &str) -> Result<(), Failure> {
    let Copy { volume, node } = copy;
    if mirror.replica(node).is_none() {
        let names: Vec<_> = mirror.replicas.iter().map(|replica| replica.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::Error(format!(
            "volume `{volume}` has no replica on {node}; it has them on {names}"
        )));
    }
    if mirror.own != *node {
        let asked = &mirror.own;
        return Err(Failure::Error(format!(
            "{base} is node {asked}, not {node}: run `ringsan discard {volume}@{node}` on {node}, or give --admin of \
             {node}"
        )));
    }
    if mirror.leads() && !mirror.replicas.iter().any(is_disputed) {
        return Err(Failure::Error(format!(
            "volume `{volume}`: the copy on {node} leads: `ringsan demote {volume}` first, if another is to be kept"
        )));
    }
    if !mirror.replicas.iter().any(is_within_reach) {
        return Err(Failure::Error(format!(
            "volume `{volume}`: no other copy is within reach of {node} that could take the place of this one: bring \
             back the node whose copy is to be kept, then discard"
        )));
    }
    Ok(())
}

/// Its copy does not go with ours: a leader may yield to it.
fn is_disputed(replica: &ReplicaStatus) -> bool {
    !replica.diverged.is_empty() || replica.refusal.is_some() && is_within_reach(replica)
}

/// Linked, or it was and the copies do not go together.
fn is_within_reach(replica: &ReplicaStatus) -> bool {
    replica.link.as_ref().is_some_and(|link| link.up || replica.refusal.is_some())
}

fn leads_text(mirror: &MirrorStatus) -> String {
    let leader = mirror.leader.as_deref().unwrap_or("nobody");
    format!("{leader} leads at epoch {}; in sync on {}", mirror.epoch, mirror.in_sync.join(", "))
}

/// What a discarded copy loses, as far as this node can tell.
fn given_up(mirror: &MirrorStatus) -> String {
    let own = &mirror.own;
    let history = terms_text(&mirror.history);
    let diverged = mirror.replicas.iter().filter(|replica| !replica.diverged.is_empty());
    let others: Vec<_> = diverged
        .map(|replica| format!("that of {} {}", replica.name, terms_text(&replica.diverged)))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join("; ")) };
    format!(
        "giving up the copy on {own}: what it holds beyond the others is lost (its history is {history}{others}), \
         and the leader's bytes take its place"
    )
}

/// Whose writes a copy holds: `a 1..=4, b 5..=9`.
pub(super) fn terms_text(terms: &[TermStatus]) -> String {
    let text = |term: &TermStatus| match (term.first_epoch, term.last_epoch) {
        (first, last) if first == last => format!("{} {first}", term.leader),
        (first, last) => format!("{} {first} to {last}", term.leader),
    };
    let texts: Vec<_> = terms.iter().map(text).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn parse_copy(text: &str) -> Result<Copy, String> {
    match text.rsplit_once('@') {
        Some((volume, node)) if !volume.is_empty() && !node.is_empty() => {
            Ok(Copy { volume: volume.to_owned(), node: node.to_owned() })
        }
        _ => Err("name the volume and the node whose copy is given up, as in db@b".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::mirror::tests::leading;

    #[test]
    fn a_copy_is_named_by_volume_and_node() {
        let copy = |volume: &str, node: &str| Ok(Copy { volume: volume.into(), node: node.into() });
        assert_eq!(parse_copy("db@b"), copy("db", "b"));
        assert_eq!(parse_copy("a@b@c"), copy("a@b", "c"));
        assert!(parse_copy("db").is_err() && parse_copy("db@").is_err() && parse_copy("@b").is_err());
    }

    #[test]
    fn giving_up_a_copy_shows_both_histories() {
        let mut mirror = MirrorStatus::new("db", &leading(), None);
        mirror.replicas[1].diverged = vec![TermStatus { leader: "b".into(), first_epoch: 2, last_epoch: 7 }];
        let text = given_up(&mirror);
        assert!(text.contains("on a: ") && text.contains("b 2, a 3 to 5; that of b b 2 to 7"), "{text}");
    }

    #[test]
    fn only_a_following_copy_of_the_node_that_is_asked_is_given_up_and_not_the_last_within_reach() {
        let mut snapshot = leading();
        snapshot.status.role = replication::RoleState::SplitBrain;
        let mirror = MirrorStatus::new("db", &snapshot, None);
        let refusal = |mirror: &MirrorStatus, node: &str| {
            let copy = Copy { volume: "db".into(), node: node.into() };
            match check_copy(mirror, &copy, "http://a") {
                Err(Failure::Error(text)) => text,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(refusal(&mirror, "a"), "Ok(())");
        assert!(refusal(&mirror, "b").contains("run `ringsan discard db@b` on b, or give --admin of b"));
        assert!(refusal(&mirror, "x").contains("no replica on x; it has them on a, b, c"));
        let leader = MirrorStatus::new("db", &leading(), None);
        assert!(refusal(&leader, "a").contains("`ringsan demote db` first"));
        snapshot.links.iter_mut().for_each(|link| link.is_up = false);
        let alone = MirrorStatus::new("db", &snapshot, None);
        assert!(refusal(&alone, "a").contains("no other copy is within reach"));
        snapshot.status.peers[0].refusal = Some(replication::Refusal::OtherVolume);
        let refused = MirrorStatus::new("db", &snapshot, None);
        assert_eq!(refusal(&refused, "a"), "Ok(())");
    }

    #[test]
    fn who_leads_is_told_with_epoch_and_in_sync_set() {
        let mirror = MirrorStatus::new("db", &leading(), None);
        assert_eq!(leads_text(&mirror), "a leads at epoch 5; in sync on a, b");
    }
}
