//! `ringsan reload` and `ringsan check`: the configuration brought into force, or only read.

use std::path::PathBuf;

use clap::Args;

use super::client::ClientArgs;
use super::{Failure, print};
use crate::config;
use crate::status::ReloadReport;

/// The flags of `reload`.
#[derive(Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// The flags of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The file; ringsan.d/*.toml beside it are read too
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Asks the target to read its configuration anew.
pub fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let report: ReloadReport = args.client.client()?.post("/v1/reload")?;
    let lines: Vec<_> =
        report.changed.iter().chain(&report.needs_restart).map(|line| format!("{line}\n")).collect();
    print(if lines.is_empty() { "nothing changed\n".to_owned() } else { lines.concat() }.as_str())?;
    if report.failed.is_empty() { Ok(()) } else { Err(Failure::Error(report.failed.join("\n"))) }
}

/// Reads a configuration and tells every mistake in it.
pub fn check(args: &CheckArgs) -> Result<(), Failure> {
    let (config, mistakes) = config::examine(&args.config);
    if mistakes.is_empty() {
        let (files, volumes) = (config.files.len(), config.volumes.len());
        let remarks: String = config.remarks().iter().map(|remark| format!("note: {remark}\n")).collect();
        return print(&format!(
            "{}: no mistakes (files: {files}, volumes: {volumes})\n{remarks}",
            args.config.display()
        ));
    }
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    Err(Failure::Mistakes(lines))
}
