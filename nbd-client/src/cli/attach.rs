//! `attach`: to come.

use clap::Args;

use super::{Exit, Failure};

/// To come.
#[derive(Args)]
pub(super) struct AttachArgs {}

pub(super) fn run(_args: AttachArgs) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "attach is not there yet"))
}
