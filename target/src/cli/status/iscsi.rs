//! The part of `ringsan status` that speaks of iSCSI: targets with their logical units, and sessions.

use super::count_text;
use crate::cli::table::Table;
use crate::config::units::size_rounded;
use crate::settings::Protocol;
use crate::status::{ClientStatus, LunStatus, LunTraffic, SessionStatus, Status, TargetStatus};

/// A row for each logical unit of each target.
pub(super) fn targets(status: &Status) -> String {
    if status.iscsi.targets.is_empty() || !is_on(status) {
        return String::new();
    }
    let [commands, read, written] = traffic_headings(status);
    let headings = ["TARGET", "LUN", "VOLUME", "BLOCK", "LOGIN", "SESSIONS", commands, read, written];
    let mut table = Table::new(&headings, &[1, 3, 5, 6, 7, 8]);
    for target in &status.iscsi.targets {
        if target.luns.is_empty() {
            table.row(row(target, "-".into(), "none is served".into(), "-".into(), &LunTraffic::default()));
        }
        for lun in &target.luns {
            let block = lun.block_bytes.to_string();
            table.row(row(target, lun.lun.to_string(), volume_text(lun), block, &lun.traffic));
        }
    }
    table.text()
}

/// A row for each session and logical unit that it has used, and the keys that sessions have agreed on.
pub(super) fn sessions(status: &Status) -> String {
    let sessions: Vec<_> =
        status.clients.iter().filter_map(|client| Some((client, client.session.as_ref()?))).collect();
    if sessions.is_empty() {
        return String::new();
    }
    let [commands, read, written] = traffic_headings(status);
    let headings =
        ["SESSION", "INITIATOR", "FROM", "CHAP", "TARGET", "LUN", commands, read, written, "INFLIGHT"];
    let mut table = Table::new(&headings, &[0, 5, 6, 7, 8, 9]);
    for (client, session) in &sessions {
        let mut used = session.luns.iter().filter(|lun| lun.traffic.commands > 0).peekable();
        if used.peek().is_none() {
            table.row(session_row(client, session, "-".into(), &LunTraffic::default()));
        }
        for lun in used {
            table.row(session_row(client, session, lun.lun.to_string(), &lun.traffic));
        }
    }
    table.text() + &keys(&sessions)
}

/// Whether there is a portal for it.
pub(super) fn is_on(status: &Status) -> bool {
    status.portals.iter().any(|portal| portal.protocol == Protocol::Iscsi)
}

fn traffic_headings(status: &Status) -> [&'static str; 3] {
    match status.window_seconds {
        Some(_) => ["PER S", "READ/S", "WRITTEN/S"],
        None => ["COMMANDS", "READ", "WRITTEN"],
    }
}

fn traffic_columns(traffic: &LunTraffic) -> [String; 3] {
    let rate = |rate: Option<f64>, total: u64| rate.unwrap_or(total as f64);
    [
        count_text(rate(traffic.commands_per_second, traffic.commands)),
        size_rounded(rate(traffic.read_bytes_per_second, traffic.read_bytes) as u64),
        size_rounded(rate(traffic.written_bytes_per_second, traffic.written_bytes) as u64),
    ]
}

fn row(
    target: &TargetStatus,
    lun: String,
    volume: String,
    block: String,
    traffic: &LunTraffic,
) -> Vec<String> {
    let login = if target.initiators.is_empty() && target.allow.is_empty() { "" } else { ", restricted" };
    let login = format!("{}{login}", login_text(&target.authentication));
    let mut row = vec![target.name.clone(), lun, volume, block, login, target.sessions.to_string()];
    row.extend(traffic_columns(traffic));
    row
}

fn login_text(authentication: &str) -> &str {
    match authentication {
        "none" => "open",
        "mutual_chap" => "mutual CHAP",
        _ => "CHAP",
    }
}

fn volume_text(lun: &LunStatus) -> String {
    let read_only = if lun.read_only { ", read-only" } else { "" };
    let removable = if lun.removable { ", removable" } else { "" };
    format!("{}{read_only}{removable}", lun.volume)
}

fn session_row(
    client: &ClientStatus,
    session: &SessionStatus,
    lun: String,
    traffic: &LunTraffic,
) -> Vec<String> {
    let target = if session.target.is_empty() { "discovery" } else { &session.target };
    let mut row = vec![
        session.tsih.to_string(),
        session.initiator.clone(),
        client.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
        session.chap_user.clone().unwrap_or_else(|| "-".to_owned()),
        target.to_owned(),
        lun,
    ];
    row.extend(traffic_columns(traffic));
    row.push(client.requests_inflight.to_string());
    row
}

/// A line for each set of keys that some sessions have agreed on.
fn keys(sessions: &[(&ClientStatus, &SessionStatus)]) -> String {
    let mut agreed: Vec<(String, Vec<String>)> = Vec::new();
    for (_, session) in sessions {
        let pairs = session.negotiated.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        match agreed.iter_mut().find(|(earlier, _)| *earlier == pairs) {
            Some((_, same)) => same.push(session.tsih.to_string()),
            None => agreed.push((pairs, vec![session.tsih.to_string()])),
        }
    }
    let line = |(pairs, sessions): &(String, Vec<String>)| {
        let noun = if sessions.len() == 1 { "session" } else { "sessions" };
        format!("{noun} {}:{pairs}\n", sessions.join(", "))
    };
    agreed.iter().filter(|(pairs, _)| !pairs.is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(tsih: u16, digest: &str) -> SessionStatus {
        let keys = [("HeaderDigest", digest), ("MaxBurstLength", "262144")];
        SessionStatus {
            initiator: "iqn.1993-08.org.debian:01:host".into(),
            initiator_alias: String::new(),
            target: "iqn.2026-11.io.ringsan:a".into(),
            tsih,
            isid: "00023d000001".into(),
            chap_user: None,
            negotiated: keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            luns: Vec::new(),
        }
    }

    fn client(session: &SessionStatus) -> ClientStatus {
        ClientStatus {
            protocol: Protocol::Iscsi,
            address: None,
            volume: String::new(),
            cpu: 0,
            tls: false,
            requests_inflight: 3,
            requests: 5,
            session: Some(session.clone()),
        }
    }

    #[test]
    fn sessions_that_agreed_on_the_same_share_a_line() {
        let sessions = [session(1, "None"), session(2, "CRC32C"), session(7, "None")];
        let clients: Vec<_> = sessions.iter().map(client).collect();
        let pairs: Vec<_> = clients.iter().zip(&sessions).collect();
        let text = keys(&pairs);
        assert_eq!(
            text,
            "sessions 1, 7: HeaderDigest=None MaxBurstLength=262144\n\
             session 2: HeaderDigest=CRC32C MaxBurstLength=262144\n"
        );
    }

    #[test]
    fn rates_take_the_place_of_totals_where_there_are_some() {
        let mut traffic = LunTraffic { commands: 50_000, read_bytes: 4096, ..LunTraffic::default() };
        assert_eq!(traffic_columns(&traffic), ["50.0 k", "4 KiB", "0 B"]);
        traffic.commands_per_second = Some(12.0);
        assert_eq!(traffic_columns(&traffic)[0], "12");
    }
}
