//! `simulate`: runs seeds, and says which of them found something wrong and how.
//!
//! Its one rule: a failure prints the line that runs it again.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use simulator::{Arrangement, Options, Report, Statistics, run};

/// Runs the machines of a mirrored volume through crashes, lost power, cut links and failing disks.
///
/// All chance comes from the seed: the same seed with the same options is the same run. Each seed chooses how many
/// nodes there are, who decides, how fast everything is, and which faults happen; in the end the faults stop, and the
/// volume has to be whole again. "Operations" are events that a machine took: messages, ended disk operations,
/// requests, ticks; what happens around the machines is not counted.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Run so many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Begin with this one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many nodes, 2 to 8; otherwise the seed chooses 2, 3 or 5
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: Option<u8>,
    /// Who decides: `continue` or `suspend` (an operator promotes; what a lost peer does to writes), `external`
    #[arg(long, value_parser = arrangement)]
    arrangement: Option<Arrangement>,
    /// Kinds of faults to leave out, separated by commas; `list` prints all
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// A deliberate bug, to see that it is found; `list` prints all
    #[arg(long)]
    sabotage: Option<String>,
    /// So many seeds at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// So many lines of a failure's timeline; 0 for all
    #[arg(long, default_value_t = 120)]
    lines: usize,
    /// Print the timeline while it happens (one seed)
    #[arg(long)]
    trace: bool,
}

fn arrangement(name: &str) -> Result<Arrangement, String> {
    Arrangement::named(name).ok_or_else(|| "continue, suspend or external".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(options) = options(&arguments) else { return ExitCode::from(2) };
    let hook_options = options.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let seed = SEED.get();
        eprintln!("seed {seed}: assertion: {panic}");
        eprintln!("again: {} --trace", hook_options.command_line(seed));
    }));
    if arguments.trace {
        let report = run_one(arguments.seed, &Options { timeline: true, print: true, ..options });
        return summary(&report);
    }
    run_all(&arguments, &options)
}

thread_local! {
    /// What this thread runs: for the line that an assertion prints.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

fn run_one(seed: u64, options: &Options) -> Report {
    SEED.set(seed);
    run(seed, options)
}

fn options(arguments: &Arguments) -> Option<Options> {
    let faults = Options::faults();
    if !arguments.without.iter().all(|name| faults.contains(name)) {
        eprintln!("--without takes some of:\n  {}", faults.join("\n  "));
        return None;
    }
    let sabotage = match arguments.sabotage.as_deref() {
        None => None,
        Some(name) => match Options::sabotages().iter().find(|(known, _)| *known == name) {
            Some(&(_, bug)) => Some(bug),
            None => {
                let names = Options::sabotages().iter().map(|(name, _)| *name).collect::<Vec<_>>();
                eprintln!("--sabotage is one of:\n  {}", names.join("\n  "));
                return None;
            }
        },
    };
    let nodes = arguments.nodes.map(usize::from);
    let (arrangement, without) = (arguments.arrangement, arguments.without.clone());
    Some(Options { nodes, arrangement, without, sabotage, ..Options::default() })
}

/// What all threads share.
struct Progress {
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<(u64, u64, Statistics)>,
}

fn run_all(arguments: &Arguments, options: &Options) -> ExitCode {
    let end = arguments.seed + arguments.seeds;
    let progress = Progress {
        next: AtomicU64::new(arguments.seed),
        stop: AtomicBool::new(false),
        done: Mutex::new((0, 0, Statistics::default())),
    };
    let begun = Instant::now();
    let lines = arguments.lines;
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs)
            .map(|_| scope.spawn(|| work(&progress, end, options, arguments.keep_going, lines)))
            .collect();
        let mut said = Instant::now();
        while !jobs.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                say(&progress, begun, usize::from(arguments.jobs));
            }
        }
    });
    say(&progress, begun, usize::from(arguments.jobs));
    let failed = progress.done.lock().expect("no job has panicked").1;
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(progress: &Progress, end: u64, options: &Options, keep_going: bool, lines: usize) {
    loop {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || progress.stop.load(Ordering::Relaxed) {
            return;
        }
        let report = run_one(seed, options);
        let mut done = progress.done.lock().expect("no job has panicked");
        done.0 += 1;
        done.2.add(&report.statistics);
        if report.failure.is_some() {
            done.1 += 1;
            let again = run_one(seed, &Options { timeline: true, ..options.clone() });
            tell(&again, options, lines);
            if !keep_going {
                progress.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn say(progress: &Progress, begun: Instant, jobs: usize) {
    let done = progress.done.lock().expect("no job has panicked");
    let (seeds, failed, statistics) = *done;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {failed} failed, {:.1} s; {} operations, {:.2} M/s a job; {} requests ({} well), {} faults, \
         {} terms, {} joins, {} roll-backs, {} forced, {} outdated, {} KiB resent, {:.0} h simulated",
        seconds,
        statistics.steps,
        statistics.steps as f64 / seconds / 1e6 / jobs as f64,
        statistics.requests,
        statistics.succeeded,
        statistics.faults,
        statistics.terms,
        statistics.joins,
        statistics.rollbacks,
        statistics.forced,
        statistics.outdated,
        statistics.resent_bytes >> 10,
        statistics.nanoseconds as f64 / 3.6e12
    );
}

/// A failure, with the end of its timeline.
fn tell(report: &Report, options: &Options, lines: usize) {
    let skipped = if lines == 0 { 0 } else { report.timeline.len().saturating_sub(lines) };
    println!("---- seed {}: {}", report.seed, report.plan);
    if skipped > 0 {
        println!("({skipped} lines before these; --lines 0 shows all)");
    }
    println!("world's time  moment  node  what");
    for line in &report.timeline[skipped..] {
        println!("{line}");
    }
    if let Some(failure) = &report.failure {
        println!("seed {}: {}: {}", report.seed, failure.checker, failure.text);
    }
    println!("again: {}", options.command_line(report.seed));
}

fn summary(report: &Report) -> ExitCode {
    match &report.failure {
        None => {
            println!("seed {}: nothing wrong; {:?}", report.seed, report.statistics);
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("seed {}: {}: {}", report.seed, failure.checker, failure.text);
            ExitCode::FAILURE
        }
    }
}
