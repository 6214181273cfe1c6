//! What a run prints: the machine, a table for each scenario, and the verdicts as a table for a README.

use crate::compare::{Outcome, Record};
use crate::contest::{Part, Showing};
use crate::judgement::{ANY, best_peer};
use crate::sample::Sample;
use crate::statistics::Spread;
use crate::verdict::Verdict;

/// The columns of a scenario's table: title, unit, width.
const COLUMNS: [(&str, &str, usize); 12] = [
    ("IOPS", "1/s", 10),
    ("MiB/s", "", 8),
    ("p50", "µs", 9),
    ("p99", "µs", 9),
    ("p99.9", "µs", 9),
    ("CPU", "µs/IO", 8),
    ("busy", "%", 6),
    ("calls", "/IO", 8),
    ("instr.", "/IO", 8),
    ("peak", "MiB", 6),
    ("IOPS", "/ best peer", 18),
    ("IOPS", "/ floor", 18),
];
const NAME_WIDTH: usize = 20;

/// The machine, the settings, the programs.
pub fn print_head(record: &Record) {
    let (plan, method) = (&record.plan, &record.plan.method);
    println!("{}", record.machine.line());
    println!(
        "server on CPU {}, client on CPU {}, {} rounds of {:?} after {:?}, volumes of {} MiB over loopback TCP",
        method.server_cpu,
        method.client_cpu,
        plan.rounds,
        method.sample,
        method.warm_up,
        plan.size_bytes >> 20,
    );
    for program in &record.programs {
        match &program.version {
            Ok(version) => println!("{:<6}{:<20} {version}", program.protocol.name(), program.name),
            Err(reason) => println!("SKIP  {:<20} {reason}", program.name),
        }
    }
}

/// One scenario.
pub fn print_outcome(outcome: &Outcome, verdicts: &[Verdict]) {
    let scenario = &outcome.scenario;
    println!("\n{}: {}", scenario.id(), describe(outcome));
    println!("{}", row("server", COLUMNS.map(|(title, _, _)| title.into())));
    println!("{}", row("", COLUMNS.map(|(_, unit, _)| unit.into())));
    let best = best_of_the_peers(&outcome.showings);
    let floor = outcome.showings.iter().find(|showing| showing.part == Part::Floor);
    for showing in &outcome.showings {
        println!("{}{}", line(showing, best, floor), remarks(showing));
    }
    for verdict in verdicts {
        println!("  {}", sentence(verdict));
    }
}

/// All verdicts, as Markdown.
pub fn print_verdicts(record: &Record) {
    let samples =
        || record.outcomes.iter().flat_map(|outcome| &outcome.showings).flat_map(|showing| &showing.samples);
    let disturbed = samples().filter(|sample| !sample.is_clean()).count();
    if disturbed > 0 {
        println!(
            "\n{disturbed} of {} samples were disturbed by other work on these cores.",
            samples().count()
        );
    }
    println!("\n| case | measure | median (middle half) | goal | |\n| --- | --- | --- | --- | --- |");
    for verdict in &record.verdicts {
        let Verdict { case, measure, kind, goal, outcome, .. } = verdict;
        println!("| {case} | {measure} | {} | {kind} {goal} | {outcome} |", value(verdict.value));
    }
}

fn describe(outcome: &Outcome) -> String {
    let load = &outcome.scenario.load;
    let direction = match load.write_percent {
        0 => "reads".into(),
        100 => "writes".into(),
        percent => format!("{percent} % writes"),
    };
    format!(
        "{:?} {direction} of {} KiB, depth {}, {} connection, {} backing",
        load.order,
        load.block_bytes >> 10,
        load.depth,
        load.connections,
        outcome.scenario.backing.name()
    )
}

/// The peer that ringsan finds hardest to beat, or without ringsan the fastest.
fn best_of_the_peers(showings: &[Showing]) -> Option<&Showing> {
    let mut peers = showings.iter().filter(|showing| showing.part == Part::Peer);
    let subject =
        showings.iter().find(|showing| showing.part == Part::Subject && !showing.samples.is_empty());
    match subject {
        Some(subject) => {
            let (name, _) = best_peer(subject, showings, ANY, |sample| sample.iops, true)?;
            peers.find(|peer| peer.name == name)
        }
        None => peers.max_by(|one, other| iops(one).total_cmp(&iops(other))),
    }
}

fn iops(showing: &Showing) -> f64 {
    median(showing, |sample| sample.iops).unwrap_or(0.0)
}

fn line(showing: &Showing, best: Option<&Showing>, floor: Option<&Showing>) -> String {
    let dash = || String::from("–");
    let figure = |of: fn(&Sample) -> f64, digits: usize| {
        let known = median(showing, of).filter(|median| !median.is_nan());
        known.map_or_else(dash, |median| format!("{median:.digits$}"))
    };
    let counted =
        |count: Option<f64>, digits: usize| count.map_or_else(dash, |count| format!("{count:.digits$}"));
    let cells = [
        figure(|sample| sample.iops, 0),
        figure(|sample| sample.mib_per_s, 0),
        figure(|sample| sample.latency.p50_us, 1),
        figure(|sample| sample.latency.p99_us, 1),
        figure(|sample| sample.latency.p999_us, 1),
        figure(|sample| sample.server_cpu_us, 2),
        figure(|sample| 100.0 * sample.server_busy, 0),
        counted(showing.counts.system_calls, 3),
        counted(showing.counts.instructions, 0),
        if showing.peak_bytes > 0 { (showing.peak_bytes >> 20).to_string() } else { dash() },
        against(showing, best),
        against(showing, floor),
    ];
    row(&showing.name, cells)
}

fn row(name: &str, cells: [String; COLUMNS.len()]) -> String {
    let cells = cells.iter().zip(COLUMNS).map(|(cell, (_, _, width))| format!(" {cell:>width$}"));
    format!("  {name:<NAME_WIDTH$}{}", cells.collect::<String>())
}

fn against(showing: &Showing, other: Option<&Showing>) -> String {
    let of = |sample: &Sample| sample.iops;
    value(other.and_then(|other| Spread::of_ratios(&showing.series(of), &other.series(of))))
}

fn median(showing: &Showing, of: impl Fn(&Sample) -> f64) -> Option<f64> {
    Some(Spread::of(showing.series(of))?.median)
}

fn remarks(showing: &Showing) -> String {
    let disturbed = showing.samples.iter().filter(|sample| !sample.is_clean()).count();
    let errors: u64 = showing.samples.iter().map(|sample| sample.errors).sum();
    let mut remarks = String::new();
    if disturbed > 0 {
        remarks += &format!("  {disturbed} of {} disturbed", showing.samples.len());
    }
    if errors > 0 {
        remarks += &format!("  {errors} ERRORS");
    }
    if let Some(failure) = &showing.failure {
        remarks += &format!("  FAILED: {failure}");
    }
    remarks
}

fn sentence(verdict: &Verdict) -> String {
    let Verdict { measure, kind, goal, outcome, .. } = verdict;
    format!("{kind:<4} {measure} {goal}: {} {outcome}", value(verdict.value))
}

fn value(value: Option<Spread>) -> String {
    let Some(Spread { median, low, high }) = value else { return "–".into() };
    let digits = if median.abs() < 0.1 { 3 } else { 2 };
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
}
