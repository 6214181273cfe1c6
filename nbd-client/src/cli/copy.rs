//! `copy`: a file, a block device or an export to another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::BinaryBytes;
use nbd_client::copy::{Comparison, Job, Place, Progress, Report, Resume};
use serde_json::json;

use super::interrupt::Interrupt;
use super::meter::Meter;
use super::{Exit, Failure, print, size};

/// Copies a file, a block device or an export to another
///
/// Holes and zeroes are not copied but left or made holes. Everything is flushed at the end. A destination that
/// is a file is made, or overwritten; a device or an export must be as long as the source, and what it has
/// beyond that stays. A copy that is interrupted (by SIGINT, SIGTERM, an error) goes on where it stopped when it
/// is started again, unless source or destination have changed meanwhile.
#[derive(Args)]
pub(super) struct CopyArgs {
    /// From where: a path or an NBD URI
    #[arg(value_name = "SRC", value_hint = clap::ValueHint::AnyPath)]
    source: Place,
    /// To where: a path or an NBD URI
    #[arg(value_name = "DST", value_hint = clap::ValueHint::AnyPath)]
    destination: Place,
    /// Read both sides again and compare them; where they differ, the exit status is 7
    #[arg(long)]
    verify: bool,
    /// Threads, each with its own connections [default: one for each CPU, 4 at most]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Reads and writes of each thread in flight
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=128))]
    depth: u16,
    /// The longest read or write
    #[arg(long, value_name = "SIZE", default_value = "256k", value_parser = piece)]
    piece: u64,
    /// What to make of an earlier copy that was interrupted
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    resume: Wish,
    /// Where to note how far the copy is [default: DST.ringsan-copy; for devices and exports a file in
    /// $XDG_STATE_HOME/ringsan-nbd or ~/.local/state/ringsan-nbd]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    state: Option<PathBuf>,
    /// How often to note it, after a flush
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = size::duration)]
    checkpoint: Duration,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wish {
    /// Go on where that is safe, else begin again and say why
    Auto,
    /// Go on, or fail
    Always,
    /// Begin again
    Never,
}

pub(super) fn run(args: CopyArgs) -> Result<(), Failure> {
    let (quiet, json) = (args.quiet, args.json);
    let progress = Arc::new(Progress::default());
    let stop = Arc::clone(&progress);
    let interrupt = Interrupt::watch(move || stop.stop());
    let begin = Instant::now();
    let job = job(args);
    let meter = (!quiet).then(|| Meter::start(&progress));
    let done = job.run(&progress, &mut |remark| eprintln!("ringsan-nbd: {remark}"));
    drop(meter);
    let report = done?;
    let elapsed = begin.elapsed();
    print(&if json { as_json(&report, elapsed) } else { as_text(&report, elapsed) })?;
    judge(&report, &job, &interrupt)
}

fn job(args: CopyArgs) -> Job {
    let mut job = Job::new(args.source, args.destination);
    job.jobs = args.jobs.map_or(job.jobs, usize::from);
    job.depth = usize::from(args.depth);
    job.piece_bytes = args.piece;
    job.verify = args.verify;
    job.resume = match args.resume {
        Wish::Auto => Resume::Auto,
        Wish::Always => Resume::Demand,
        Wish::Never => Resume::Never,
    };
    job.state = args.state;
    job.checkpoint = args.checkpoint;
    job
}

fn piece(text: &str) -> Result<u64, String> {
    let bytes = size::bytes(text)?;
    let is_right = bytes.is_power_of_two() && (4096..=32 << 20).contains(&bytes);
    if is_right { Ok(bytes) } else { Err("not a power of two from 4k to 32M".into()) }
}

fn as_text(report: &Report, elapsed: Duration) -> String {
    if report.is_interrupted {
        return String::new();
    }
    let rate = (report.size_bytes - report.resumed_bytes) as f64 / elapsed.as_secs_f64();
    let mut text = format!(
        "copied {}: {} of data, {:.1} s, {}/s\n",
        BinaryBytes(report.size_bytes),
        BinaryBytes(report.written_bytes),
        elapsed.as_secs_f64(),
        BinaryBytes(rate as u64),
    );
    if report.beyond_bytes > 0 {
        text += &format!("{} beyond that were left as they are\n", BinaryBytes(report.beyond_bytes));
    }
    if let Some(same) = report.comparison.filter(|comparison| comparison.blocks_differing == 0) {
        text += &format!("verified: both sides have CRC-32C {:08x}\n", same.source);
    }
    text
}

fn as_json(report: &Report, elapsed: Duration) -> String {
    let comparison = report.comparison.map(|comparison| {
        let Comparison { source, destination, blocks_differing, first_difference } = comparison;
        json!({
            "source_crc32c": format!("{source:08x}"),
            "destination_crc32c": format!("{destination:08x}"),
            "blocks_differing": blocks_differing,
            "first_difference": first_difference,
        })
    });
    let report = json!({
        "size_bytes": report.size_bytes,
        "resumed_bytes": report.resumed_bytes,
        "written_bytes": report.written_bytes,
        "beyond_bytes": report.beyond_bytes,
        "seconds": elapsed.as_secs_f64(),
        "interrupted": report.is_interrupted,
        "verify": comparison,
    });
    format!("{report}\n")
}

/// A copy that is not the source is a failure.
fn judge(report: &Report, job: &Job, interrupt: &Interrupt) -> Result<(), Failure> {
    let Job { source, destination, .. } = job;
    if report.is_interrupted {
        let line = format!("{destination}: the copy was interrupted; start it again and it goes on");
        return Err(Failure::new(interrupt.exit(), line));
    }
    match report.comparison {
        Some(Comparison { blocks_differing: count @ 1.., first_difference, .. }) => {
            let first = first_difference.unwrap_or_default();
            let line = format!(
                "{source} and {destination} differ in {count} blocks of 4 KiB, first at byte {first}; \
                 copy again when nothing else writes to them, and mistrust what lies between"
            );
            Err(Failure::new(Exit::Differs, line))
        }
        _ => Ok(()),
    }
}
