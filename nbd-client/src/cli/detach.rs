//! `detach`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct DetachArgs {}

pub(super) fn run(_args: DetachArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "detach is not there yet"))
}
