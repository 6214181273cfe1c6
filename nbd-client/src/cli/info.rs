//! `info`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct InfoArgs {}

pub(super) fn run(_args: InfoArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "info is not there yet"))
}
