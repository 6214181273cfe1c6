//! `ringsan-nbd bench`: its figures add up, its chart is drawn, and its exit status tells what went wrong.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::launch::client_binary;
use tests::tool::said;
use tests::{Launch, Scratch, Tool};

#[test]
fn figures_of_reads_and_writes_add_up() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let svg = scratch.join("chart.svg");
    let words = ["--rw", "randrw", "--depth", "8", "--connections", "2", "--threads", "1", "--json"];
    let tool = bench(&target.uri("disk"))?.args(words).args(["--time", "500ms"]).arg("--svg").arg(&svg);
    let report: Value = serde_json::from_str(&tool.ok()?)?;
    let outcome = &report["outcome"];
    let mut sum = 0.0;
    for kind in ["read", "write"] {
        let figures = &outcome[kind];
        let number = |name: &str| figures[name].as_f64().with_context(|| format!("{kind} {name}: {figures}"));
        sum += number("iops")?;
        ensure!(number("requests")? > 0.0);
        ensure!((number("mib_per_second")? - number("iops")? / 256.0).abs() < 0.01, "{figures}");
        let percentiles = figures["latency_us"]["percentiles"].as_array().context("percentiles")?;
        let latencies: Vec<f64> = percentiles.iter().filter_map(|pair| pair[1].as_f64()).collect();
        ensure!(latencies.len() >= 10 && latencies.is_sorted(), "{percentiles:?}");
    }
    ensure!((report["iops"].as_f64().context("iops")? - sum).abs() < 1.0, "{report}");
    ensure!(outcome["iops_over_time"].as_array().is_some_and(|slices| !slices.is_empty()));
    let chart = fs::read_to_string(&svg)?;
    ensure!(chart.starts_with("<svg") && chart.contains("latency in µs"), "{chart}");
    Ok(())
}

#[test]
fn the_table_names_load_rate_and_percentiles() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    for (load, name) in
        [("read", "reads"), ("write", "writes"), ("randread", "reads"), ("randwrite", "writes")]
    {
        let words = ["--rw", load, "--bs", "64k", "--time", "200ms", "--warm-up", "0"];
        let text = bench(&target.uri("disk"))?.args(words).ok()?;
        ensure!(text.contains("64.00 KiB, depth 32, connections 1"), "{text}");
        ensure!(text.contains(name) && text.contains("MiB/s") && text.contains("99.99 %"), "{text}");
    }
    Ok(())
}

#[test]
fn reads_change_nothing_and_writes_are_random_bytes() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.image("disk.img", 1 << 20, 3)?;
    let before = fs::read(&file)?;
    let target = Launch::new(&scratch).volume(format!("disk={},cache=buffered", file.display())).start()?;
    bench(&target.uri("disk"))?.args(["--time", "200ms"]).ok()?;
    ensure!(fs::read(&file)? == before, "reads changed the export");
    bench(&target.uri("disk"))?.args(["--rw", "write", "--bs", "64k", "--time", "500ms"]).ok()?;
    target.stop()?;
    let after = fs::read(&file)?;
    ensure!(after != before, "nothing was written");
    Ok(())
}

#[test]
fn a_signal_ends_it_and_the_figures_are_still_told() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut command = Command::new(client_binary()?);
    command.args(["bench", &target.uri("disk"), "--time", "1h", "--warm-up", "0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    target.await_clients(1)?;
    target.await_status("requests", |status| {
        status["volumes"][0]["operations"]["read"]["requests"].as_u64() > Some(100)
    })?;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{}\n{}", output.status, said(&output));
    ensure!(said(&output).contains("99.99 %"), "{}", said(&output));
    Ok(())
}

#[test]
fn a_signal_ends_it_although_the_server_hangs() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut command = Command::new(client_binary()?);
    command.args(["bench", &target.uri("disk"), "--time", "1h", "--warm-up", "0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    target.await_status("requests", |status| {
        status["volumes"][0]["operations"]["read"]["requests"].as_u64() > Some(100)
    })?;
    target.signal(Signal::SIGSTOP)?;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
    let output = child.wait_with_output()?;
    target.signal(Signal::SIGCONT)?;
    let text = said(&output);
    ensure!(output.status.code() == Some(143), "{}\n{text}", output.status);
    ensure!(text.contains("99.99 %") && text.contains("32 requests got no reply"), "{text}");
    Ok(())
}

#[test]
fn a_server_that_hangs_is_not_waited_for_after_the_time() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut command = Command::new(client_binary()?);
    command.args(["bench", &target.uri("disk"), "--time", "2s", "--warm-up", "0", "--depth", "4"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    target.await_status("requests", |status| {
        status["volumes"][0]["operations"]["read"]["requests"].as_u64() > Some(100)
    })?;
    target.signal(Signal::SIGSTOP)?;
    let output = child.wait_with_output()?;
    target.signal(Signal::SIGCONT)?;
    let text = said(&output);
    ensure!(output.status.code() == Some(3), "{}\n{text}", output.status);
    ensure!(text.contains("99.99 %") && text.contains("4 requests got no reply"), "{text}");
    Ok(())
}

#[test]
fn each_mistake_is_one_line_and_has_its_exit_status() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).volume("disk=memory,size=16M");
    let target = launch.volume("fixed=memory,size=8M,readonly").start()?;
    let (disk, fixed, none) = (target.uri("disk"), target.uri("fixed"), target.uri("nothing"));
    let cases: [(&[&str], i32, &str); 10] = [
        (&[&fixed, "--rw", "randwrite"], 1, "read-only"),
        (&[&disk, "--bs", "32M"], 1, "16777216 bytes only"),
        (&[&disk, "--bs", "33M"], 2, "more than 32M"),
        (&[&disk, "--rw", "sideways"], 2, "sideways"),
        (&[&disk, "--depth", "0"], 2, "0"),
        (&[&disk, "--warm-up", "0", "--write-percent", "20"], 2, "--rw randrw"),
        (&[&disk, "--seed", "x"], 2, "x"),
        (&[&none], 4, "nothing"),
        (&["nbd://127.0.0.1:1/x"], 3, "127.0.0.1:1"),
        (&["disk.img"], 2, "disk.img"),
    ];
    for (words, status, named) in cases {
        let output =
            Tool::new(client_binary()?).arg("bench").args(words).args(["--time", "100ms"]).output()?;
        let text = said(&output);
        ensure!(output.status.code() == Some(status), "{words:?} ended with {}\n{text}", output.status);
        ensure!(text.contains(named), "{words:?} does not name {named}:\n{text}");
        ensure!(text.trim().lines().count() == 1, "{words:?} says more than a line:\n{text}");
    }
    Ok(())
}

fn bench(uri: &str) -> Result<Tool> {
    Ok(Tool::new(client_binary()?).args(["bench", uri]))
}
