//! libiscsi's conformance tests against the daemon: each of them a process and a result of its own, by
//! `judges/iscsi_cu.py`, which may skip only what `judges/iscsi_cu.skips` gives a reason for.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Result, ensure};
use tests::iscsi::target_table;
use tests::skip::lacks;
use tests::tool::said;
use tests::{Launch, MIB, Scratch, Tool, backings};

/// What iscsi-test-cu 1.19 has; later ones have more.
const TESTS_MIN: usize = 230;
const SKIPS_MAX: usize = 12;

#[test]
fn memory_conforms() -> Result<()> {
    judge(0)
}

#[test]
fn a_direct_file_conforms() -> Result<()> {
    judge(1)
}

#[test]
fn few_skips_are_allowed_and_each_has_a_reason() -> Result<()> {
    let list = fs::read_to_string(folder().join("iscsi_cu.skips"))?;
    let skips: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    ensure!(skips.len() <= SKIPS_MAX, "{} skips are allowed", skips.len());
    for skip in skips {
        ensure!(skip.split_whitespace().count() > 3, "without a reason: {skip}");
    }
    Ok(())
}

fn judge(backing: usize) -> Result<()> {
    if lacks(&["iscsi-test-cu"]) {
        return Ok(());
    }
    // one of the suite's tests sleeps for a minute: meanwhile a target of their own has all the others
    let parts = [["--only", "Sanitize.*"], ["--except", "Sanitize.*"]];
    let outputs = std::thread::scope(|scope| {
        let parts = parts.map(|part| scope.spawn(move || run(backing, &part)));
        parts.map(|part| part.join().expect("a judge's thread does not panic"))
    });
    let outputs = outputs.into_iter().collect::<Result<Vec<Output>>>()?;
    let results: String = outputs.iter().map(said).collect();
    tell(&results);
    ensure!(outputs.iter().all(|output| output.status.success()), "{results}");
    let verdicts = results.lines().filter(|line| verdict(line).is_some()).count();
    ensure!(verdicts >= TESTS_MIN, "{verdicts} tests have a result, of {TESTS_MIN}");
    Ok(())
}

fn run(backing: usize, part: &[&str]) -> Result<Output> {
    let scratch = Scratch::new()?;
    let targets = target_table("removable", "", &[("removable", "removable = true")])
        + &target_table("protected", "", &[("protected", "read_only = true")]);
    let paged = scratch.join("paged.img").display().to_string();
    let target = Launch::new(&scratch)
        .iscsi()
        // Sanitize.Reset answers no ping while it sleeps
        .iscsi_setting("ping_timeout = \"2m\"")
        .volume(&backings(&scratch, 128 * MIB)[backing])
        .volume("removable=memory,size=128M")
        .volume("protected=memory,size=128M")
        // its physical blocks are larger than its logical ones
        .volume(format!("paged={paged},size=128M,cache=buffered"))
        .tables(&targets)
        .start()?;
    let output = Tool::new("/usr/bin/python3")
        .arg(folder().join("iscsi_cu.py"))
        .arg("--skips")
        .arg(folder().join("iscsi_cu.skips"))
        .args(part)
        .args(["disk", "removable", "protected", "paged"].map(|volume| target.iscsi_url(volume)))
        .seconds(1200)
        .output()?;
    target.stop()?;
    Ok(output)
}

/// Past the test runner's capture: every test's result, those of one suite in a line.
fn tell(results: &str) {
    let mut suites: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (suite, test, verdict) in results.lines().filter_map(verdict) {
        let mark = if verdict == "PASS" { String::new() } else { format!(" ({verdict})") };
        suites.entry(suite).or_default().push(format!("{test}{mark}"));
    }
    let lines = suites.iter().map(|(suite, tests)| format!("{suite}: {}", tests.join(", ")));
    let skips = results.lines().filter(|line| line.starts_with("SKIP "));
    let count =
        |wanted| results.lines().filter_map(verdict).filter(|(_, _, verdict)| *verdict == wanted).count();
    let sum = format!("{} passed, {} failed, {} skipped", count("PASS"), count("FAIL"), count("SKIP"));
    for line in lines.chain(skips.map(str::to_owned)).chain([sum]) {
        let _ = writeln!(std::io::stderr(), "   judge: {line}");
    }
}

/// Suite, test and verdict of a line of results.
fn verdict(line: &str) -> Option<(&str, &str, &str)> {
    let mut words = line.split_whitespace();
    let verdict = words.next().filter(|word| ["PASS", "SKIP", "FAIL"].contains(word))?;
    let (suite, test) = words.next()?.split_once('.')?;
    Some((suite, test, verdict))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("judges")
}
