//! `copy`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct CopyArgs {}

pub(super) fn run(_args: CopyArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "copy is not there yet"))
}
