//! The command line of `ringsan-nbd`: what there is, and how a failure is told.
//!
//! Its one rule: an error is one line on standard error that names the thing, the cause and the next step, and
//! the exit status says which kind it is (`exit.rs`).

mod attach;
mod bench;
mod completions;
mod copy;
mod detach;
mod exit;
mod info;
mod interrupt;
mod list;
mod man;
mod meter;
mod size;
mod status;

use std::error::Error as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub(crate) use exit::{Exit, Failure};

/// Works with NBD exports: lists and describes them, attaches them as devices, copies and measures them
///
/// An export is named by an NBD URI: nbd://HOST[:PORT]/EXPORT, nbds:// with TLS,
/// nbd+unix:///EXPORT?socket=PATH and nbds+unix://. Several hosts that serve the same volume are separated by
/// commas: nbd://a,b,c/EXPORT.
#[derive(Parser)]
#[command(name = "ringsan-nbd", version, disable_help_subcommand = true, after_long_help = exit::TABLE)]
struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter like `nbd_client=debug`
    #[arg(long, global = true, env = "RINGSAN_NBD_LOG", value_name = "LEVEL", default_value = "warn")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

/// Each says what it does where its arguments are.
#[derive(Subcommand)]
enum Command {
    List(list::ListArgs),
    Info(info::InfoArgs),
    Attach(attach::AttachArgs),
    Detach(detach::DetachArgs),
    Status(status::StatusArgs),
    Copy(Box<copy::CopyArgs>),
    Bench(Box<bench::BenchArgs>),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return parse_failed(&error),
    };
    let outcome = log_to_stderr(&cli.log).and_then(|()| match cli.command {
        Command::List(args) => list::run(args),
        Command::Info(args) => info::run(args),
        Command::Attach(args) => attach::run(args),
        Command::Detach(args) => detach::run(args),
        Command::Status(args) => status::run(args),
        Command::Copy(args) => copy::run(*args),
        Command::Bench(args) => bench::run(*args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    });
    outcome.map_or_else(report, |()| ExitCode::SUCCESS)
}

/// Prints to standard output; that its reader has gone is no failure of ours.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let line = format!("standard output cannot be written: {error}; check where it goes");
            Err(Failure::new(Exit::Failed, line))
        }
        _ => Ok(()),
    }
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(Exit::Usage, format!("--log {filter}: {error}; write info, debug or nbd_client=debug"))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    Ok(())
}

fn report(failure: Failure) -> ExitCode {
    for line in failure.text().lines() {
        eprintln!("ringsan-nbd: {line}");
    }
    failure.exit().into()
}

/// Help and version are no failures; of an error, clap's paragraphs become one line.
fn parse_failed(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::Usage.into();
    }
    if let Some(ours) = error.source().and_then(|source| source.downcast_ref::<nbd_client::Error>()) {
        return report(Failure::new(Exit::Usage, ours.to_string()));
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let line = format!("{}; see --help", line.trim_start_matches("error: "));
    report(Failure::new(Exit::Usage, line))
}
