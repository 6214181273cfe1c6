//! `simulate-nodes`: runs seeds, and tells of the first that fails how to run it again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use ringsan::sabotage::Sabotage;
use simulation::{Outcome, hear_panics, run, timeline};

/// Lines of the timeline that are shown of a failure.
const LINES_MAX: usize = 400;

/// Runs whole nodes over a simulated machine.
#[derive(Parser)]
#[command(name = "simulate-nodes", version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes; otherwise the seed decides.
    #[arg(long)]
    nodes: Option<usize>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Goes on after a failure, and says one line of each.
    #[arg(long)]
    keep_going: bool,
    /// With this deliberate bug.
    #[arg(long, value_parser = bug)]
    sabotage: Option<Sabotage>,
    /// Shows the whole timeline of every run.
    #[arg(long)]
    trace: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let next = AtomicU64::new(arguments.seed);
    let failed = AtomicBool::new(false);
    let (events, answered, simulated) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    hear_panics();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                Sabotage::set(arguments.sabotage);
                while arguments.keep_going || !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seed + arguments.seeds {
                        return;
                    }
                    let outcome = if arguments.trace {
                        traced(seed, &arguments, usize::MAX)
                    } else {
                        run(seed, arguments.nodes)
                    };
                    events.fetch_add(outcome.events, Ordering::Relaxed);
                    answered.fetch_add(outcome.answered[0], Ordering::Relaxed);
                    simulated.fetch_add(outcome.simulated, Ordering::Relaxed);
                    if let Some(failure) = outcome.failure {
                        failed.store(true, Ordering::Relaxed);
                        if arguments.keep_going {
                            println!("seed {seed}: {}", failure.lines().next().unwrap_or_default());
                            continue;
                        }
                        if !arguments.trace {
                            traced(seed, &arguments, LINES_MAX);
                        }
                        println!("seed {seed}: {failure}");
                        let nodes =
                            arguments.nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
                        let bug =
                            arguments.sabotage.map_or(String::new(), |bug| format!(" --sabotage {bug:?}"));
                        println!("again: simulate-nodes --seeds 1 --seed {seed}{nodes}{bug} --trace");
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (events, answered) = (events.into_inner(), answered.into_inner());
    println!(
        "{} seeds, {events} events, {answered} requests answered, {:.0} s simulated in {seconds:.1} s: {:.0} events and {:.0} requests a second",
        next.into_inner().min(arguments.seed + arguments.seeds) - arguments.seed,
        simulated.into_inner() as f64 / 1e9,
        events as f64 / seconds,
        answered as f64 / seconds,
    );
    std::process::exit(i32::from(failed.into_inner()));
}

fn bug(name: &str) -> Result<Sabotage, String> {
    let known = Sabotage::ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("one of {:?}", Sabotage::ALL))
}

fn traced(seed: u64, arguments: &Arguments, lines_max: usize) -> Outcome {
    timeline::start();
    let outcome = tracing::subscriber::with_default(timeline::Listener, || run(seed, arguments.nodes));
    let lines = timeline::take();
    for line in &lines[lines.len().saturating_sub(lines_max)..] {
        println!("{line}");
    }
    outcome
}
