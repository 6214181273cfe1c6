//! `status`: what is attached, to whom, and which connections live.

use std::fmt::Write;

use clap::Args;
use indicatif::BinaryBytes;
use nbd_client::attach::{ConnectionReport, Report, StateFolder, status};

use super::{Exit, Failure, print};

/// Tells what is attached, to whom, and which connections live
#[derive(Args)]
pub(super) struct StatusArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: StatusArgs) -> Result<(), Failure> {
    let reports = status(&StateFolder::default());
    if args.json {
        let text = serde_json::to_string_pretty(&reports).expect("names, numbers and texts are JSON");
        return print(&(text + "\n"));
    }
    if reports.is_empty() {
        return print("nothing is attached\n");
    }
    let mut text = String::new();
    for report in &reports {
        describe(report, &mut text).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    }
    print(&text)
}

fn describe(report: &Report, text: &mut String) -> std::fmt::Result {
    let uri = report.uri.as_deref().unwrap_or("another program's");
    write!(text, "{}  {uri}  {}", report.device.display(), BinaryBytes(report.size_bytes))?;
    if report.read_only {
        write!(text, "  read-only")?;
    }
    if let Some(uuid) = report.uuid {
        write!(text, "  volume {uuid}")?;
    }
    writeln!(text, "{}", condition(report))?;
    for connection in &report.connections {
        writeln!(text, "  {}", describe_connection(connection))?;
    }
    Ok(())
}

fn condition(report: &Report) -> String {
    match report {
        Report { ours: false, pid, .. } => format!("  attached by process {pid}, not by ringsan-nbd"),
        Report { watched: false, persist: true, .. } => {
            "  NOT WATCHED: lost connections stay lost; run the same `attach … --persist` again".to_owned()
        }
        Report { watched: true, .. } => "  watched".to_owned(),
        _ => String::new(),
    }
}

fn describe_connection(connection: &ConnectionReport) -> String {
    let state = match connection.live {
        Some(true) => "live",
        Some(false) => "lost",
        None => "unknown",
    };
    let ConnectionReport { host, local, remote, .. } = connection;
    format!("{host:<24} {state:<8} {local} -> {remote}")
}
