//! `bench`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct BenchArgs {}

pub(super) fn run(_args: BenchArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "bench is not there yet"))
}
