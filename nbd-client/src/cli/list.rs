//! `list`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct ListArgs {}

pub(super) fn run(_args: ListArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "list is not there yet"))
}
