//! `ringsan status`: what the target does now, short enough to read.

mod iscsi;
mod volume;

use std::time::Duration;

use clap::Args;

use super::client::ClientArgs;
use super::table::Table;
use super::{Failure, print};
use crate::clients::LINK_REFUSED;
use crate::config::units::{duration_text, parse_duration, size_rounded};
use crate::settings::Protocol;
use crate::status::{Latency, MirrorStatus, Status, VolumeStatus};

/// The flags of `status`.
#[derive(Args)]
pub struct StatusArgs {
    /// Only this volume, in detail
    volume: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The time that rates and latencies are taken over; 0s for totals since the start
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    over: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// Asks and prints.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let path = format!("/v1/status?window={}", duration_text(args.over));
    let client = args.client.client()?;
    match (&args.volume, args.json) {
        (None, false) => print(&text(&client.get(&path)?)),
        (None, true) => print(&format!("{:#}\n", client.get::<serde_json::Value>(&path)?)),
        (Some(name), json) => {
            let mut status: Status = client.get(&path)?;
            status.volumes.retain(|volume| volume.name == *name);
            let Some(volume) = status.volumes.first() else {
                return Err(Failure::Error(format!(
                    "there is no volume `{name}`; list them with `ringsan volume ls`"
                )));
            };
            print(&if json { json_of(volume) } else { volume::text(&status, volume) })
        }
    }
}

fn json_of(volume: &VolumeStatus) -> String {
    let json = serde_json::to_value(volume).expect("it was read from JSON");
    format!("{json:#}\n")
}

fn text(status: &Status) -> String {
    let sections = [
        head(status),
        volumes(&status.volumes),
        operations(status),
        iscsi::targets(status),
        iscsi::sessions(status),
        cores(status),
        remarks(status),
    ];
    let sections: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    sections.join("\n")
}

fn head(status: &Status) -> String {
    let node = &status.node;
    let portals = |protocol| {
        let portals = status.portals.iter().filter(|portal| portal.protocol == protocol);
        portals.map(|portal| portal.address.as_str()).collect::<Vec<_>>().join(", ")
    };
    let iscsi = match portals(Protocol::Iscsi) {
        none if none.is_empty() => "off".to_owned(),
        portals => format!("on {portals}"),
    };
    let mirror = match portals(Protocol::Mirror) {
        none if none.is_empty() => String::new(),
        portals => format!("mirror on {portals}\n"),
    };
    let verified = if status.tls.client_ca.is_some() { " with client certificates" } else { "" };
    format!(
        "ringsan {} on {}, up {}, process {}\nNBD on {}; TLS {}{verified}\niSCSI {iscsi}\n{mirror}{}\n",
        node.version,
        node.name,
        time_text(node.uptime_seconds),
        node.process,
        portals(Protocol::Nbd),
        status.tls.mode,
        counted(status.clients.len(), "client"),
    )
}

fn volumes(volumes: &[VolumeStatus]) -> String {
    let mut headings = vec!["VOLUME", "SIZE", "BACKING", "HOW", "CPU", "CLIENTS"];
    let has_mirrors = volumes.iter().any(|volume| volume.mirror.is_some());
    headings.extend(has_mirrors.then_some("MIRROR"));
    let mut table = Table::new(&headings, &[4, 5]);
    for volume in volumes {
        let (size, mut how) = match &volume.facts {
            Some(facts) => (size_rounded(facts.size_bytes), facts.io_path.clone()),
            None => ("-".to_owned(), "NOT SERVED".to_owned()),
        };
        if volume.read_only {
            how += ", read-only";
        }
        let cpu = volume.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
        let connections = volume.connections.to_string();
        let mut row = vec![volume.name.clone(), size, volume.backing.clone(), how, cpu, connections];
        row.extend(has_mirrors.then(|| volume.mirror.as_ref().map_or_else(|| "-".to_owned(), mirror_word)));
        table.row(row);
    }
    table.text()
}

/// What this node is to the volume, and how many hold every acknowledged write, as far as that is known.
fn mirror_word(mirror: &MirrorStatus) -> String {
    let (in_sync, all) = (mirror.in_sync.len(), mirror.replicas.len());
    let role = match (mirror.role.as_str(), &mirror.leader) {
        ("in_sync", Some(leader)) => format!("follows {leader}"),
        (role, _) => state_text(role),
    };
    if mirror.current { format!("{role}, {in_sync} of {all} in sync") } else { role.to_uppercase() }
}

/// `split_brain` for people.
fn state_text(state: &str) -> String {
    state.replace('_', " ")
}

fn operations(status: &Status) -> String {
    let windowed = status.window_seconds.is_some();
    let rate_headings = if windowed { ["PER S", "BYTES/S"] } else { ["REQUESTS", "BYTES"] };
    let headings =
        ["VOLUME", "OPERATION", rate_headings[0], rate_headings[1], "P50", "P99", "P99.9", "ERRORS"];
    let mut table = Table::new(&headings, &[2, 3, 4, 5, 6, 7]);
    for volume in &status.volumes {
        for (name, operation) in &volume.operations {
            let requests = operation.requests_per_second.unwrap_or(operation.requests as f64);
            let bytes = operation.bytes_per_second.unwrap_or(operation.bytes as f64);
            let latency = |read: fn(&Latency) -> f64| latency_cell(operation.latency.as_ref(), read);
            table.row(vec![
                volume.name.clone(),
                name.clone(),
                count_text(requests),
                size_rounded(bytes as u64),
                latency(|latency| latency.p50_seconds),
                latency(|latency| latency.p99_seconds),
                latency(|latency| latency.p99_9_seconds),
                operation.errors.to_string(),
            ]);
        }
    }
    table.text()
}

fn cores(status: &Status) -> String {
    let headings = ["CPU", "POLL", "VOLUMES", "CLIENTS", "CALLS/IO", "POLLS/IO", "SLEEPS", "BUFFERS"];
    let mut table = Table::new(&headings, &[0, 2, 3, 4, 5, 6, 7]);
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for core in &status.cores {
        table.row(vec![
            core.cpu.to_string(),
            core.poll.clone(),
            core.volumes.to_string(),
            core.connections.to_string(),
            ratio(core.system_calls_per_request),
            ratio(core.polls_per_request),
            count_text(core.sleeps as f64),
            format!("{} of {}", size_rounded(core.arena_used_bytes), size_rounded(core.arena_bytes)),
        ]);
    }
    table.text()
}

/// What an operator should know and no table has room for.
fn remarks(status: &Status) -> String {
    let mut text = String::new();
    if let Some(reason) = &status.iscsi.unavailable {
        text += &format!("iSCSI is off: {reason}; `ringsan reload` tries again\n");
    }
    for remark in status.iscsi.remarks.iter().filter(|_| iscsi::is_on(status)) {
        text += &format!("iSCSI: {remark}\n");
    }
    for remark in &status.remarks {
        text += &format!("{remark}\n");
    }
    for volume in &status.volumes {
        for line in volume.mirror.iter().flat_map(|mirror| &mirror.explanation) {
            text += &format!("volume {}: {line}\n", volume.name);
        }
        if let Some(reason) = &volume.unavailable {
            text += &format!("volume {} is not served: {reason}\n", volume.name);
        }
        if let Some(facts) = volume.facts.as_ref().filter(|facts| !facts.io_path_reason.is_empty()) {
            text += &format!("volume {}: {}\n", volume.name, facts.io_path_reason);
        }
    }
    let mut seen: Vec<&Vec<String>> = Vec::new();
    for core in status.cores.iter().filter(|core| !core.features.is_empty()) {
        if !seen.contains(&&core.features) {
            text += &format!("kernel: {}\n", core.features.join(", "));
            seen.push(&core.features);
        }
    }
    let links = status.dropped.get(LINK_REFUSED).copied().unwrap_or_default();
    let dropped = status.dropped.iter().filter(|(reason, count)| **count > 0 && *reason != LINK_REFUSED);
    let dropped: Vec<_> = dropped.map(|(reason, count)| format!("{count} by {reason}")).collect();
    if !dropped.is_empty() {
        text += &format!("clients dropped: {}\n", dropped.join(", "));
    }
    if links > 0 {
        text += &format!("links of other nodes refused: {links}\n");
    }
    text
}

fn latency_cell(latency: Option<&Latency>, read: fn(&Latency) -> f64) -> String {
    latency.map_or_else(|| "-".to_owned(), |latency| latency_text(read(latency)))
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn count_text(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{:.1} G", value / 1e9),
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

fn latency_text(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

fn time_text(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::message::VolumeFacts;
    use crate::status::mirror::tests::leading;

    /// A volume that is served, and has no clients.
    pub(in crate::cli) fn volume(name: &str) -> VolumeStatus {
        let facts = VolumeFacts {
            size_bytes: 20 << 30,
            block_bytes: 512,
            preferred_bytes: 4096,
            io_path: "io_uring O_DIRECT".into(),
            io_path_reason: String::new(),
            can_discard: true,
            can_fast_zero: true,
        };
        VolumeStatus {
            name: name.into(),
            uuid: Uuid::nil(),
            backing: "/srv/db.img".into(),
            kind: "file".into(),
            read_only: false,
            allow: Vec::new(),
            description: String::new(),
            declared_at: "the admin API".into(),
            unavailable: None,
            cpu: Some(1),
            facts: Some(facts),
            connections: 0,
            operations: BTreeMap::new(),
            mirror: None,
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(count_text(170_234.0), "170.2 k");
        assert_eq!(count_text(999.4), "999");
        assert_eq!(latency_text(0.000_090), "90 µs");
        assert_eq!(latency_text(0.0123), "12.3 ms");
        assert_eq!(time_text(93_784.0), "1 d 2 h");
    }

    #[test]
    fn mirrors_have_a_column_only_where_there_are_any() {
        let mut all = vec![volume("a"), volume("db")];
        assert!(!volumes(&all).contains("MIRROR"));
        all[1].mirror = Some(MirrorStatus::new("db", &leading(), None));
        let text = volumes(&all);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with("CLIENTS  MIRROR") && lines[1].ends_with("0  -"), "{text}");
        assert!(lines[2].ends_with("0  leader, 2 of 3 in sync"), "{text}");
    }
}
