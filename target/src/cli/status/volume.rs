//! `ringsan status VOLUME`: one volume in detail, its replicas above all.
//!
//! Its one rule: what is not known is `-`, never 0.

use super::{latency_cell, mirror_word, operations, size_rounded, state_text, time_text};
use crate::cli::mirror::terms_text;
use crate::cli::table::Table;
use crate::snapshot::Stage;
use crate::status::mirror::{LinkStatus, ReplicaStatus, VerificationStatus};
use crate::status::{Latency, MirrorStatus, Status, VolumeStatus};

/// All of it; `status` has no other volume.
pub(super) fn text(status: &Status, volume: &VolumeStatus) -> String {
    let mirror = volume.mirror.as_ref();
    let sections = [
        head(status, volume),
        mirror.map(replicas).unwrap_or_default(),
        mirror.map(links).unwrap_or_default(),
        operations(status),
        mirror.map(stages).unwrap_or_default(),
        remarks(volume),
    ];
    let sections: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    sections.join("\n")
}

fn head(status: &Status, volume: &VolumeStatus) -> String {
    let (size, how) = match &volume.facts {
        Some(facts) => (size_rounded(facts.size_bytes), facts.io_path.as_str()),
        None => ("size unknown".to_owned(), "NOT SERVED"),
    };
    let mode = if volume.read_only { ", read-only" } else { "" };
    let cpu = volume.cpu.map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
    let mut text = format!(
        "volume {}, {size} on {} ({how}{mode}){cpu}, {}\nUUID {}, declared by {}\n",
        volume.name,
        volume.backing,
        super::counted(volume.connections, "client"),
        volume.uuid,
        volume.declared_at,
    );
    match &volume.mirror {
        Some(mirror) => text += &mirror_head(mirror),
        None => text += &format!("not mirrored: its data is on {} only\n", status.node.name),
    }
    text
}

fn mirror_head(mirror: &MirrorStatus) -> String {
    let names = |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let when = if mirror.current { "" } else { "last known: " };
    let mut text = format!(
        "{when}leader {}, epoch {}, in-sync set {}\nthis node {}: {}; history {}\n",
        mirror.leader.as_deref().unwrap_or("nobody"),
        mirror.epoch,
        names(&mirror.in_sync),
        mirror.own,
        mirror_word(mirror),
        terms_text(&mirror.history),
    );
    if mirror.promised > mirror.epoch {
        text += &format!("promised epoch {}: nothing older is obeyed\n", mirror.promised);
    }
    if let Some(verification) = &mirror.verification {
        text += &format!("{}\n", verification_text(verification));
    }
    text
}

fn verification_text(verification: &VerificationStatus) -> String {
    let (compared, differing) =
        (size_rounded(verification.bytes), size_rounded(verification.differing_bytes));
    let differ = match (verification.differing_bytes, verification.repair) {
        (0, _) => "no differences".to_owned(),
        (_, true) => format!("regions of {differing} differed, mended from the leader"),
        (_, false) => format!("regions of {differing} differ"),
    };
    match (verification.running, &verification.trouble) {
        (true, _) => format!("comparison under way: {compared} so far, {differ}"),
        (false, Some(trouble)) => format!("last comparison: {compared}, {differ}, then ended: {trouble}"),
        (false, None) => format!("last comparison: {compared}, {differ}"),
    }
}

fn replicas(mirror: &MirrorStatus) -> String {
    let headings = ["REPLICA", "STATE", "IN SYNC", "TO RESYNC", "PROGRESS", "PER S", "LEFT", "LAG"];
    let mut table = Table::new(&headings, &[3, 4, 5, 6, 7]);
    for replica in &mirror.replicas {
        let rate = replica.resynced_bytes_per_second;
        table.row(vec![
            replica.name.clone(),
            state_text(&replica.state),
            in_sync_word(mirror.current, replica.in_sync).to_owned(),
            or_dash(replica.resync_bytes.map(size_rounded)),
            or_dash(replica.progress.map(|progress| format!("{:.0} %", progress * 100.0))),
            or_dash(rate.map(|rate| size_rounded(rate as u64))),
            or_dash(time_left(replica)),
            or_dash(
                replica.link.as_ref().filter(|_| mirror.leads()).map(|_| size_rounded(replica.lag_bytes)),
            ),
        ]);
    }
    table.text()
}

fn in_sync_word(current: bool, in_sync: bool) -> &'static str {
    match (current, in_sync) {
        (true, true) => "yes",
        (true, false) => "no",
        (false, true) => "was",
        (false, false) => "was not",
    }
}

/// At the pace of the window.
fn time_left(replica: &ReplicaStatus) -> Option<String> {
    let rate = replica.resynced_bytes_per_second.filter(|rate| *rate > 0.0)?;
    Some(time_text((replica.resync_bytes? as f64 / rate).ceil()))
}

fn links(mirror: &MirrorStatus) -> String {
    let headings = ["LINK TO", "STATE", "MADE", "CORRUPT", "SENT", "RECEIVED"];
    let mut table = Table::new(&headings, &[2, 3, 4, 5]);
    for (replica, link) in
        mirror.replicas.iter().filter_map(|replica| Some((replica, replica.link.as_ref()?)))
    {
        let LinkStatus { up, links, corrupt, sent_bytes, received_bytes, trouble: _ } = link;
        table.row(vec![
            replica.name.clone(),
            if *up { "up" } else { "down" }.to_owned(),
            links.to_string(),
            corrupt.to_string(),
            size_rounded(*sent_bytes),
            size_rounded(*received_bytes),
        ]);
    }
    table.text()
}

fn stages(mirror: &MirrorStatus) -> String {
    let mut table = Table::new(&["STAGE OF WRITES", "P50", "P99", "P99.9", "MAX"], &[1, 2, 3, 4]);
    for stage in Stage::ALL.map(Stage::name) {
        let Some(latency) = mirror.stages.get(stage) else { continue };
        let cell = |read: fn(&Latency) -> f64| latency_cell(Some(latency), read);
        table.row(vec![
            state_text(stage),
            cell(|latency| latency.p50_seconds),
            cell(|latency| latency.p99_seconds),
            cell(|latency| latency.p99_9_seconds),
            cell(|latency| latency.max_seconds),
        ]);
    }
    table.text()
}

fn remarks(volume: &VolumeStatus) -> String {
    let reason = volume.unavailable.iter().map(|reason| format!("not served: {reason}\n"));
    let path = volume.facts.iter().map(|facts| &facts.io_path_reason).filter(|reason| !reason.is_empty());
    let mirror = volume.mirror.iter();
    let fault = mirror.clone().filter_map(|mirror| mirror.last_fault.as_ref());
    reason
        .chain(path.map(|reason| format!("{reason}\n")))
        .chain(fault.map(|fault| format!("last fault: {fault}\n")))
        .chain(mirror.flat_map(|mirror| &mirror.explanation).map(|line| format!("{line}\n")))
        .collect()
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::volume;
    use crate::snapshot::VerificationSnapshot;
    use crate::status::mirror::tests::leading;

    #[test]
    fn replicas_are_shown_with_state_progress_and_lag() {
        let (before, mut now) = (leading(), leading());
        now.status.peers[1].resynced_bytes = 2 << 20;
        let mirror = MirrorStatus::new("db", &now, Some((Some(&before), 1.0)));
        let expected = "\
REPLICA  STATE    IN SYNC  TO RESYNC  PROGRESS  PER S  LEFT    LAG
a        leader   yes            0 B         -      -     -      -
b        in sync  yes            0 B         -      -     -  8 KiB
c        resync   no           3 MiB      40 %  1 MiB   3 s    0 B
";
        assert_eq!(replicas(&mirror), expected);
    }

    #[test]
    fn the_head_names_leader_epoch_and_in_sync_set() {
        let mut volume = volume("db");
        let mut mirror = leading();
        mirror.verification =
            Some(VerificationSnapshot { bytes: 1 << 20, ..VerificationSnapshot::default() });
        volume.mirror = Some(MirrorStatus::new("db", &mirror, None));
        let mirror = volume.mirror.as_ref().expect("just set");
        let expected = "\
leader a, epoch 5, in-sync set a, b
this node a: leader, 2 of 3 in sync; history b 2, a 3 to 5
promised epoch 6: nothing older is obeyed
last comparison: 1 MiB, no differences
";
        assert_eq!(mirror_head(mirror), expected);
        assert!(remarks(&volume).contains("c: is being brought up to date"));
        assert!(
            links(mirror).contains("b        up        2        1  1 MiB     4 KiB\n"),
            "{}",
            links(mirror)
        );
        assert!(stages(mirror).contains("order            9 µs"), "{}", stages(mirror));
    }

    #[test]
    fn what_is_remembered_does_not_look_like_what_is() {
        let mut mirror = leading();
        mirror.status.role = replication::RoleState::Consistent;
        let mirror = MirrorStatus::new("db", &mirror, None);
        let head = mirror_head(&mirror);
        assert!(head.starts_with("last known: leader a, epoch 5"), "{head}");
        assert!(head.contains("this node a: CONSISTENT; "), "{head}");
        assert!(replicas(&mirror).contains("b        in sync     was "), "{}", replicas(&mirror));
    }
}
