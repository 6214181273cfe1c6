//! `completions`: what a shell needs to complete our commands, options and files.

use clap::{Args, CommandFactory};

use super::{Cli, Failure, print};

/// Prints completions for a shell
#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ringsan-nbd", &mut script);
    print(&String::from_utf8_lossy(&script))
}
