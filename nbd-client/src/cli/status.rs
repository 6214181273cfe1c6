//! `status`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct StatusArgs {}

pub(super) fn run(_args: StatusArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "status is not there yet"))
}
