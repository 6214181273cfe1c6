//! `detach`: a device or a FUSE file goes away, after a flush, if nobody uses it.

use std::path::PathBuf;

use clap::Args;
use nbd_client::attach::{Device, StateFolder, detach, detach_fuse};

use super::Failure;

/// Undoes an attach: flushes, and lets go of the device, if nobody uses it
///
/// A process that watches the device (attach --persist) ends by itself.
#[derive(Args)]
pub(super) struct DetachArgs {
    /// The device, as /dev/nbd0; or the folder given to attach --fuse
    device: PathBuf,
    /// Detach without a flush, even if it is in use or the server does not answer: its users then get I/O errors
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: DetachArgs) -> Result<(), Failure> {
    let folder = StateFolder::default();
    let text = args.device.to_string_lossy();
    if !args.device.is_dir() && (text.starts_with("/dev/nbd") || text.starts_with("nbd")) {
        return Ok(detach(text.parse::<Device>()?, &folder, args.force)?);
    }
    Ok(detach_fuse(&args.device, &folder, args.force)?)
}
