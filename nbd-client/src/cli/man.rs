//! `man`: the manual pages, one for the tool and one for each command, written for whoever packages it.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Cli, Exit, Failure};

/// Writes the man pages into a folder
#[derive(Args)]
pub(super) struct ManArgs {
    /// The folder
    folder: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let folder = &args.folder;
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| {
        let line = format!("{} cannot be written: {error}; name another folder", folder.display());
        Failure::new(Exit::Failed, line)
    })
}
