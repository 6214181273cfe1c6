//! `bench`: load for an export, and how it bears it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use nbd_client::bench::{self, Figures, Load, Outcome, Pattern};
use nbd_client::{ConnectOptions, Uri};
use serde_json::json;

use super::interrupt::Interrupt;
use super::{Exit, Failure, print, size};

/// Puts load on an export and tells how it bears it
///
/// Loads that write OVERWRITE the export with random bytes. A latency is counted from the request handed to the
/// client to its result.
#[derive(Args)]
pub(super) struct BenchArgs {
    /// The export
    #[arg(value_name = "URI", value_hint = clap::ValueHint::Url)]
    uri: Uri,
    /// The load: randread, randwrite, randrw, read, write or rw
    #[arg(long, value_name = "LOAD", default_value = "randread")]
    rw: Pattern,
    /// With randrw and rw: of a hundred requests so many are writes
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    write_percent: Option<u8>,
    /// Length of each request
    #[arg(long, value_name = "SIZE", default_value = "4k", value_parser = block)]
    bs: u32,
    /// Requests of each connection in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Threads that share the connections [default: one for each connection, as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    time: Duration,
    /// Before that, run for so long without counting
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = size::duration)]
    warm_up: Duration,
    /// The same seed asks for the same blocks
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Draw a chart into this file
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    svg: Option<PathBuf>,
    /// Print what came out as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<(), Failure> {
    let load = load(&args)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let interrupt = Interrupt::watch(move || stopped.store(true, Ordering::Relaxed));
    args.svg.as_deref().map_or(Ok(()), prove_writable)?;
    let ran = bench::run(&args.uri, &load, &stop);
    let is_stopped = stop.load(Ordering::Relaxed);
    let outcome = match ran {
        Err(error) if is_stopped => {
            return Err(Failure::new(interrupt.exit(), format!("interrupted, without figures: {error}")));
        }
        ran => ran?,
    };
    print(&if args.json { as_json(&load, &outcome) } else { as_text(&load, &outcome) })?;
    if let Some(path) = &args.svg {
        bench::draw(&outcome, &title(&load), path)?;
    }
    let owed = match outcome.unanswered {
        0 => String::new(),
        count => format!("; {count} requests got no reply"),
    };
    if is_stopped {
        let line = format!("interrupted: the figures are those until then{owed}");
        return Err(Failure::new(interrupt.exit(), line));
    }
    match owed.strip_prefix("; ") {
        None => Ok(()),
        Some(owed) => {
            let line =
                format!("{}: {owed}, and the figures leave them out; see if the server hangs", args.uri);
            Err(Failure::new(Exit::Unreachable, line))
        }
    }
}

/// Better said before the load than after it; what is there stays until then.
fn prove_writable(path: &Path) -> Result<(), Failure> {
    let is_new = !path.exists();
    let proof = OpenOptions::new().append(true).create(true).open(path).and_then(|_| match is_new {
        true => fs::remove_file(path),
        false => Ok(()),
    });
    proof.map_err(|error| {
        let line = format!("{} cannot be written: {error}; name another file with --svg", path.display());
        Failure::new(Exit::Failed, line)
    })
}

fn load(args: &BenchArgs) -> Result<Load, Failure> {
    let mut pattern = args.rw;
    if let Some(percent) = args.write_percent {
        if !(1..100).contains(&pattern.write_percent) {
            let line =
                format!("--write-percent means nothing to --rw {}; use --rw randrw or rw", pattern.name());
            return Err(Failure::new(Exit::Usage, line));
        }
        pattern.write_percent = percent;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let connections = usize::from(args.connections);
    Ok(Load {
        pattern,
        block_bytes: args.bs,
        depth: usize::from(args.depth),
        connections,
        threads: args.threads.map_or(cpus.min(connections), usize::from),
        time: args.time.max(Duration::from_millis(10)),
        warm_up: args.warm_up,
        seed: args.seed,
        connect: ConnectOptions { reconnect_for: Duration::ZERO, ..ConnectOptions::default() },
    })
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = size::duration(text)?;
    if time.is_zero() { Err("no time at all; write 10s or 500ms".into()) } else { Ok(time) }
}

fn block(text: &str) -> Result<u32, String> {
    let bytes = size::bytes(text)?;
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= 32 << 20).ok_or_else(|| "more than 32M".into())
}

fn title(load: &Load) -> String {
    let Load { pattern, block_bytes, depth, connections, .. } = load;
    format!(
        "{pattern} of {}, depth {depth}, connections {connections}",
        indicatif::BinaryBytes(u64::from(*block_bytes))
    )
}

fn as_text(load: &Load, outcome: &Outcome) -> String {
    let mut text = format!("{}, {:.1} s\n", title(load), outcome.seconds);
    for (name, figures) in [("reads", &outcome.read), ("writes", &outcome.write)] {
        text += &figures.as_ref().map(|figures| table(name, figures)).unwrap_or_default();
    }
    text
}

fn table(name: &str, figures: &Figures) -> String {
    let Figures { requests, iops, mib_per_second, latency_us } = figures;
    let mut text = format!("{name:<7} {requests}, {iops:.0} a second, {mib_per_second:.1} MiB/s\n");
    text += &format!("  latency in µs: shortest {:.1}, mean {:.1}", latency_us.min, latency_us.mean);
    text += &format!(", longest {:.1}\n", latency_us.max);
    for (percent, us) in &latency_us.percentiles {
        text += &format!("  {percent:>6} %  {us:>10.1}\n");
    }
    text
}

fn as_json(load: &Load, outcome: &Outcome) -> String {
    let report = json!({
        "load": {
            "rw": load.pattern.name(),
            "write_percent": load.pattern.write_percent,
            "block_bytes": load.block_bytes,
            "depth": load.depth,
            "connections": load.connections,
            "threads": load.threads,
        },
        "iops": outcome.iops(),
        "outcome": outcome,
    });
    format!("{report}\n")
}
