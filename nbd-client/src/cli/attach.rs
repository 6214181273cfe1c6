//! `attach`: an export becomes a device, or a file through FUSE.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nbd_client::attach::{Attached, Device, End, FuseWish, StateFolder, Wish, attach, detach, serve};
use nbd_client::{ConnectOptions, Uri};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Exit, Failure, print};

/// Makes an export a device of this machine (or a file), and prints its name
///
/// The kernel's nbd driver does the work; nothing runs afterwards, unless --persist is given. Several hosts of
/// one mirrored volume make one device, on which I/O goes on when one of them is lost.
#[derive(Args)]
pub(super) struct AttachArgs {
    /// The export: nbd://HOST/EXPORT, or nbd://A,B,C/EXPORT for several hosts that serve the same volume
    uri: String,
    /// The device, as /dev/nbd0; any free one if left out
    #[arg(conflicts_with = "fuse")]
    device: Option<Device>,
    /// How many connections to make to each host; more than one only where the server allows it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// A request that takes longer counts as lost, and its connection too: it is sent again over another one.
    /// 30, 0.9 or 500ms; left out: 30 s, or 0.9 s with several hosts, where I/O so stalls for less than 2 s
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "fuse")]
    timeout: Option<Duration>,
    /// How long I/O waits when no connection is left, before it fails; left out: 120 s with --persist, else 0
    #[arg(long, value_name = "TIME", value_parser = duration)]
    dead_timeout: Option<Duration>,
    /// Time for a connection to be made
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5")]
    connect_timeout: Duration,
    /// The device's block size: 512, 1024, 2048 or 4096
    #[arg(long, value_name = "BYTES", value_parser = block_size, conflicts_with = "fuse")]
    block_size: Option<u32>,
    /// Write nothing
    #[arg(long)]
    read_only: bool,
    /// Stay, and dial lost connections again until the device is detached
    #[arg(long, conflicts_with = "fuse")]
    persist: bool,
    /// Show the export as a file in the folder DIR instead, and stay until that is unmounted: for kernels
    /// without nbd driver; losetup makes a disk of the file
    #[arg(long, value_name = "DIR")]
    fuse: Option<PathBuf>,
}

pub(super) fn run(args: AttachArgs) -> Result<(), Failure> {
    let uri: Uri = args.uri.parse()?;
    match args.fuse.clone() {
        Some(folder) => show_file(args, uri, folder),
        None => attach_device(args, uri),
    }
}

fn attach_device(args: AttachArgs, uri: Uri) -> Result<(), Failure> {
    let wish = Wish {
        uri,
        uri_text: args.uri,
        device: args.device,
        connections_each: args.connections.into(),
        timeout: args.timeout,
        dead_timeout: args.dead_timeout,
        block_size: args.block_size,
        read_only: args.read_only,
        persist: args.persist,
        connect_timeout: args.connect_timeout,
    };
    // before anything is attached, so that no signal leaves it half done
    let stop = if wish.persist { Some(stop_signals()?) } else { None };
    let folder = StateFolder::default();
    let attached = match Attached::adopt(&wish, &folder) {
        Some(attached) => attached,
        None => attach(&wish, folder.clone())?,
    };
    let device = attached.device();
    attached.warnings.iter().for_each(|warning| tell(&device.to_string(), warning));
    print(&format!("{device}\n"))?;
    let Some(stop) = stop else { return Ok(()) };
    watch(attached, &stop, &folder)
}

fn watch(attached: Attached, stop: &SignalFd, folder: &StateFolder) -> Result<(), Failure> {
    let (device, name) = (attached.device(), attached.device().to_string());
    notify(&[sd_notify::NotifyState::Ready]);
    let end = attached.watch(stop, &mut |news| tell(&name, &news.to_string()))?;
    notify(&[sd_notify::NotifyState::Stopping]);
    match end {
        End::Detached => tell(&name, "it was detached"),
        End::Stopped => match detach(device, folder, false) {
            Ok(()) => tell(&name, "it was detached"),
            Err(error) => {
                let then = "it stays attached, but lost connections are not dialed again until the same command runs";
                return Err(Failure::new(Exit::Busy, format!("{error}; {then}")));
            }
        },
    }
    Ok(())
}

fn show_file(args: AttachArgs, uri: Uri, folder: PathBuf) -> Result<(), Failure> {
    let stop = stop_signals()?;
    let mut options = ConnectOptions {
        connections: args.connections.into(),
        connect_timeout: args.connect_timeout,
        ..ConnectOptions::default()
    };
    options.reconnect_for = args.dead_timeout.unwrap_or(Duration::from_secs(120));
    let wish = FuseWish { uri, uri_text: args.uri, folder, read_only: args.read_only, options };
    let mut printed = Ok(());
    serve(&wish, &StateFolder::default(), &stop, &mut |path| {
        printed = print(&format!("{}\n", path.display()));
        notify(&[sd_notify::NotifyState::Ready]);
    })?;
    printed
}

/// SIGINT and SIGTERM can be read from it from now on, and end nothing by themselves.
fn stop_signals() -> Result<SignalFd, Failure> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    let open = signals.thread_block().and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC));
    open.map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be waited for: {error}")))
}

fn tell(device: &str, text: &str) {
    eprintln!("ringsan-nbd: {device}: {text}");
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd was not told: {error}");
    }
}

/// What the driver can have.
fn block_size(text: &str) -> Result<u32, String> {
    let sizes = [512, 1024, 2048, 4096];
    let size = text.parse().ok().filter(|size| sizes.contains(size));
    size.ok_or_else(|| "write 512, 1024, 2048 or 4096".to_owned())
}

/// `30`, `0.9`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err("write seconds, as 30 or 0.9, or 500ms, or 2m".to_owned()),
    };
    let number: f64 =
        number.parse().map_err(|_| "write seconds, as 30 or 0.9, or 500ms, or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        for (text, milliseconds) in
            [("30", 30_000), ("0.9", 900), ("500ms", 500), ("2m", 120_000), ("1s", 1000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "ms", "-1", "1h", "1.2.3", "1e300", "99999999999999999999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
