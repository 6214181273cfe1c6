//! The command line.
//!
//! Its one rule: an error is one line on standard error that names the thing, the cause and the remedy;
//! exit code 2 for a wrong command line, 1 for all else.

mod ready;
mod serve;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Anything else; one line each.
    Error(String),
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
    /// Serve volumes until SIGTERM; without arguments a 1 GiB volume `disk0` on 127.0.0.1:10809
    Serve(Box<serve::ServeArgs>),
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
    };
    outcome.map_or_else(report, |()| ExitCode::SUCCESS)
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Usage(format!("--log {filter}: {error}; write info, debug or ringsan=debug"))
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    Ok(())
}

fn report(failure: Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Usage(text) => (text, 2),
        Failure::Error(text) => (text, 1),
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
