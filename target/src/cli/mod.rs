//! The command line.
//!
//! Its one rule: an error is one line on standard error that names the thing, the cause and the remedy;
//! exit code 2 for a wrong command line, 1 for all else.

mod client;
mod explain;
mod mirror;
mod ready;
mod reload;
mod serve;
mod status;
mod table;
mod verify;
mod volume;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Anything else; one line each.
    Error(String),
    /// The target refuses, but would do it if it were told to with force: what may be lost.
    NeedsForce(String),
    /// Mistakes in a file, which each line names itself.
    Mistakes(Vec<String>),
}

#[derive(Parser)]
#[command(name = "ringsan", version, about, long_about = None, disable_help_subcommand = true)]
struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter like `ringsan=debug`
    #[arg(long, global = true, env = "RINGSAN_LOG", value_name = "LEVEL", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve volumes until SIGTERM; without arguments a 1 GiB volume `disk0`, by NBD and iSCSI on 127.0.0.1
    Serve(Box<serve::ServeArgs>),
    /// Read a configuration and tell every mistake in it; starts and makes nothing
    Check(reload::CheckArgs),
    /// Tell what the running target does
    Status(status::StatusArgs),
    /// List, create, resize and remove volumes of the running target
    Volume(volume::VolumeArgs),
    /// Make this node lead a mirrored volume; refused with the reason where that could lose data
    Promote(mirror::PromoteArgs),
    /// Let another node lead a mirrored volume that this one leads
    Demote(mirror::DemoteArgs),
    /// Compare the replicas of a mirrored volume while it is in use
    Verify(verify::VerifyArgs),
    /// Give up one copy of a mirrored volume; after a split brain, the one that is not to be kept
    Discard(mirror::DiscardArgs),
    /// Tell cause and next step for all that is not in sync
    Explain(explain::ExplainArgs),
    /// Let the running target read its configuration anew and apply what changed
    Reload(reload::ReloadArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return parse_failed(&error),
    };
    if let Err(failure) = log_to_stderr(&cli.log) {
        return report(failure);
    }
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Check(args) => reload::check(&args),
        Command::Status(args) => status::run(&args),
        Command::Volume(args) => volume::run(args),
        Command::Promote(args) => mirror::promote(&args),
        Command::Demote(args) => mirror::demote(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Discard(args) => mirror::discard(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Completions { shell } => completions(shell),
    };
    outcome.map_or_else(report, |()| ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringsan", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints to standard output; that its reader has gone is no failure of ours.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Error(format!("standard output cannot be written: {error}; check where it goes")))
        }
        _ => Ok(()),
    }
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    // rustls warns of clients that name an address in SNI, which every client of an address does.
    let filter = EnvFilter::try_new(format!("rustls=error,{filter}")).map_err(|error| {
        Failure::Usage(format!("--log {filter}: {error}; write info, debug or ringsan=debug"))
    })?;
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(ansi).with_target(false);
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().init(),
        None => log.init(),
    }
    Ok(())
}

fn report(failure: Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Usage(text) => (text, 2),
        Failure::Error(text) | Failure::NeedsForce(text) => (text, 1),
        Failure::Mistakes(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return ExitCode::FAILURE;
        }
    };
    for line in text.lines() {
        eprintln!("ringsan: {line}");
    }
    ExitCode::from(code)
}

/// Help and version are no failures; of an error, clap's paragraphs become one line.
fn parse_failed(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    report(Failure::Usage(format!("{}; see --help", line.trim_start_matches("error: "))))
}
