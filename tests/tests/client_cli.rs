//! `ringsan-nbd list` and `info` by every scheme; what wrong input is told; what a package has beside the tool:
//! completions, man pages, a systemd unit.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::certificates::Certificates;
use tests::launch::client_binary;
use tests::skip::lacks;
use tests::tool::said;
use tests::{Launch, Scratch, Tool};

const COMMANDS: [&str; 8] = ["list", "info", "attach", "detach", "status", "copy", "bench", "completions"];

fn client(words: &[&str]) -> Result<Tool> {
    Ok(Tool::new(client_binary()?).args(words))
}

/// It must end with this status and one line that has all of `named`.
fn refused(words: &[&str], status: i32, named: &[&str]) -> Result<()> {
    let output = client(words)?.output()?;
    let text = said(&output);
    ensure!(output.status.code() == Some(status), "{words:?} ended with {}\n{text}", output.status);
    for name in named {
        ensure!(text.contains(name), "{words:?} does not say {name:?}:\n{text}");
    }
    ensure!(text.trim().lines().count() == 1, "{words:?} says more than a line:\n{text}");
    Ok(())
}

#[test]
fn every_scheme_reaches_the_same_export() -> Result<()> {
    let scratch = Scratch::new()?;
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let socket = scratch.join("nbd.sock");
    let launch = Launch::new(&scratch).volume("db=memory,size=8M,description=the ledger");
    let launch = launch.portal(format!("unix:{}", socket.display())).tls("allow", &certificates);
    let target = launch.start()?;
    let (address, socket, folder) = (target.address(), socket.display(), certificates.folder().display());
    let trust = format!("tls-certificates={folder}");
    let mut told = Vec::new();
    for uri in [
        format!("nbd://{address}/db"),
        format!("nbds://{address}/db?{trust}"),
        format!("nbd+unix:///db?socket={socket}"),
        format!("nbds+unix:///db?socket={socket}&{trust}&tls-hostname=localhost"),
    ] {
        let listed = client(&["list", &uri])?.ok()?;
        ensure!(
            listed.contains("db") && listed.contains("8 MiB") && listed.contains("the ledger"),
            "{listed}"
        );
        let mut info: Value = serde_json::from_str(&client(&["info", "--json", "--map", &uri])?.ok()?)?;
        ensure!(info["tls"] == uri.starts_with("nbds"), "{uri}: {info}");
        let fields = info.as_object_mut().context("an object")?;
        let _ = ["uri", "tls"].map(|name| fields.remove(name));
        told.push(info);
    }
    ensure!(told.iter().all(|info| *info == told[0]), "{told:#?}");
    let info = &told[0];
    ensure!(info["size_bytes"] == 8 << 20 && info["contexts"][0] == "base:allocation", "{info}");
    ensure!(info["map"][0]["length"] == 8 << 20 && info["map"][0]["hole"] == true, "{info}");
    Ok(())
}

#[test]
fn of_several_hosts_those_that_answer_are_told() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("db=memory,size=8M").start()?;
    let uri = format!("nbd://{},127.0.0.1:1/db", target.address());
    for command in ["list", "info"] {
        let output = client(&[command, &uri])?.output()?;
        let (told, missed) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.code() == Some(3), "{}\n{told}{missed}", output.status);
        ensure!(told.contains("8 MiB") && missed.contains("127.0.0.1:1 cannot be reached"), "{told}{missed}");
        ensure!(missed.lines().count() == 1, "{missed}");
    }
    Ok(())
}

#[test]
fn hosts_that_serve_different_volumes_are_refused_together() -> Result<()> {
    let (first, second) = (Scratch::new()?, Scratch::new()?);
    let one = Launch::new(&first).volume("db=memory,size=8M").volume("log=memory,size=8M").start()?;
    let other = Launch::new(&second).volume("db=memory,size=8M").volume("log=memory,size=4M").start()?;
    let uri = |hosts: &str, export: &str| format!("nbd://{hosts}/{export}");
    let both = format!("{},{}", one.address(), other.address());
    let name = other.address().to_string();
    let copied = first.join("copied").display().to_string();
    for (export, how) in [("db", "is volume"), ("log", "has 4194304 bytes, and 8388608 were expected")] {
        let named = [&name, how, "see that all hosts serve the same volume"];
        refused(&["bench", &uri(&both, export), "--time", "100ms"], 6, &named)?;
        refused(&["copy", &uri(&both, export), &copied], 6, &named)?;
    }
    let half = format!("127.0.0.1:1,{}", one.address());
    client(&["copy", "--quiet", &uri(&half, "db"), &copied])?.ok()?;
    Ok(())
}

#[test]
fn wrong_input_is_one_line_with_thing_cause_and_next_step() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("db=memory,size=8M").volume("logs=memory,size=8M").start()?;
    let (db, none) = (target.uri("db"), target.uri("none"));
    let secure = db.replace("nbd://", "nbds://");
    let psk = format!("{secure}?tls-psk-file=/etc/keys");
    let colour = format!("{db}?colour=red");
    for command in ["list", "info", "attach", "bench"] {
        refused(&[command, "http://host/db"], 2, &["\"http://host/db\"", "none of NBD's", "write nbd://"])?;
        refused(&[command, "host/db"], 2, &["\"host/db\"", "no scheme", "write nbd://"])?;
        refused(&[command, &psk], 2, &[&psk, "pre-shared keys", "use certificates"])?;
        refused(&[command, &colour], 2, &[&colour, "\"colour\" is not known", "known are"])?;
    }
    for scheme in ["nbd+vsock", "nbds+psk"] {
        let uri = format!("{scheme}://1/db");
        refused(&["info", &uri], 2, &[scheme, "not supported here", "write nbd://"])?;
    }
    refused(&["info", "nbd://a,b,a/db"], 2, &["host a:10809 is there twice", "once"])?;
    refused(&["copy", "-", "/dev/null"], 2, &["standard input", "name a file"])?;
    refused(&["bench", &db, "--time", "0"], 2, &["--time", "write 10s"])?;
    refused(&["attach", &db, "--block-size", "100"], 2, &["--block-size", "512, 1024, 2048 or 4096"])?;
    refused(&["info", &format!("{secure}?tls-certificates=/no/such")], 5, &["/no/such", "tls-certificates"])?;
    for command in ["list", "info", "bench"] {
        refused(&[command, "nbd://127.0.0.1:1/db"], 3, &["127.0.0.1:1", "refused", "is the server running"])?;
        refused(
            &[command, "nbd://no.such.host.invalid/db"],
            3,
            &["no.such.host.invalid", "is the name right"],
        )?;
        refused(&[command, &secure], 5, &["no TLS", "switched off", "write nbd://"])?;
    }
    refused(&["info", &target.uri("")], 4, &["no export \"\"", "name one of: \"db\", \"logs\""])?;
    for command in ["info", "bench"] {
        refused(&[command, &none], 4, &["no export \"none\"", "name one of: \"db\", \"logs\""])?;
    }
    refused(&["detach", "/no/such/folder"], 1, &["/no/such/folder", "No such file", "status"])?;
    refused(&["attach", &db, "/dev/sda"], 2, &["/dev/sda is no nbd device", "write /dev/nbd0"])?;
    refused(&["bench", &db, "--svg", "/no/such/folder/c.svg"], 1, &["/no/such/folder/c.svg", "--svg"])?;
    Ok(())
}

#[test]
fn help_says_what_each_command_does() -> Result<()> {
    for (command, words) in [
        ("attach", "the kernel's nbd driver does the work"),
        ("copy", "goes on where it stopped"),
        ("bench", "OVERWRITE"),
    ] {
        let help = client(&[command, "--help"])?.ok()?.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(help.to_lowercase().contains(&words.to_lowercase()), "{command}: {help}");
    }
    Ok(())
}

#[test]
fn completions_load_and_know_every_command() -> Result<()> {
    let scratch = Scratch::new()?;
    for (shell, load) in [
        ("bash", "source SCRIPT && complete -p ringsan-nbd"),
        ("zsh", "autoload -Uz compinit && compinit -u -D && source SCRIPT && print -r $_comps[ringsan-nbd]"),
        ("fish", "source SCRIPT; complete -C 'ringsan-nbd c'"),
    ] {
        let script = client(&["completions", shell])?.ok()?;
        for word in COMMANDS.iter().chain(&["verify", "connections"]) {
            ensure!(script.contains(word), "{shell} does not know {word}");
        }
        let path = scratch.text(shell, &script)?;
        if !lacks(&[shell]) {
            let load = load.replace("SCRIPT", &path.display().to_string());
            let loaded = Tool::new(shell).args(["-c", &load]).ok()?;
            ensure!(loaded.contains("ringsan") || loaded.contains("copy"), "{shell}: {loaded}");
        }
    }
    Ok(())
}

#[test]
fn man_pages_are_there_for_every_command_and_render() -> Result<()> {
    let scratch = Scratch::new()?;
    client(&["man"])?.arg(scratch.path()).ok()?;
    for command in COMMANDS {
        let page = scratch.join(&format!("ringsan-nbd-{command}.1"));
        ensure!(fs::read_to_string(&page)?.contains(".SH SYNOPSIS"), "{command}");
        if !lacks(&["man"]) {
            let output = Tool::new("man").args(["--warnings", "-l"]).arg(&page).output()?;
            ensure!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        }
    }
    let page = fs::read_to_string(scratch.join("ringsan-nbd.1"))?;
    ensure!(page.contains("Exit status"), "{page}");
    Ok(())
}

#[test]
fn the_systemd_unit_is_valid() -> Result<()> {
    if lacks(&["systemd-analyze"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nbd-client/packaging/ringsan-nbd@.service");
    let binary = client_binary()?.display().to_string();
    // the manual's pages and the binary are not where a package puts them
    let text = fs::read_to_string(&unit)?.replace("/usr/bin/ringsan-nbd", &binary);
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("Documentation="))
        .map(|line| format!("{line}\n"))
        .collect();
    let path = scratch.text("ringsan-nbd@nbd0.service", &text)?;
    let output = Tool::new("systemd-analyze").arg("verify").arg(&path).output()?;
    ensure!(output.status.success() && !said(&output).contains("ringsan-nbd"), "{}", said(&output));
    Ok(())
}
