//! Wrong input at the command line: one line that names the thing, the right exit status, nothing made or changed.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::launch::binary;
use tests::tool::said;
use tests::{Launch, Scratch, Tool};

#[test]
fn wrong_command_lines_exit_with_2_and_one_line() -> Result<()> {
    let scratch = Scratch::new()?;
    let cases: [(&[&str], &str); 9] = [
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&["no-such-command"], "no-such-command"),
        (&["serve", "--volume", "disk=memory,size=12Q"], "12Q"),
        (&["serve", "--volume", "disk=memory,size=1000"], "1000"),
        (&["serve", "--volume", "disk=memory,size=0"], "zero"),
        (&["serve", "--volume", "disk=memory,size=1G,colour=red"], "colour"),
        (&["serve", "--volume", "=memory,size=1G"], "name"),
        (&["serve", "--nbd", "somewhere:80"], "somewhere:80"),
        (&["serve", "--cores", "1-0"], "1-0"),
    ];
    for (words, named) in cases {
        let output = Tool::new(binary()?).args(words).folder(scratch.path()).seconds(20).output()?;
        let text = said(&output);
        ensure!(output.status.code() == Some(2), "{words:?} ended with {}\n{text}", output.status);
        ensure!(text.contains(named), "{words:?} does not name {named}:\n{text}");
        ensure!(text.trim().lines().count() == 1, "{words:?} says more than a line:\n{text}");
    }
    ensure!(fs::read_dir(scratch.path())?.next().is_none(), "something was made");
    Ok(())
}

#[test]
fn two_volumes_of_one_name_are_refused() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).volume("twin=memory,size=16M");
    let said = launch.volume(format!("twin={},size=16M", scratch.join("twin.img").display())).refused(2)?;
    ensure!(said.contains("twin"), "{said}");
    ensure!(!scratch.join("twin.img").exists(), "a file was made");
    Ok(())
}

#[test]
fn two_volumes_on_one_file_are_refused() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.sparse("disk.img", 1 << 20)?;
    fs::hard_link(&file, scratch.join("other.img"))?;
    let launch = Launch::new(&scratch).volume(format!("a={}", file.display()));
    let said = launch.volume(format!("b={}", scratch.join("other.img").display())).start().map(drop);
    ensure!(said.is_err(), "one file is served as two volumes");
    Ok(())
}

#[test]
fn an_existing_file_of_another_size_is_not_touched() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.text("letters", "these bytes are not a disk\n")?;
    let said = Launch::new(&scratch).volume(format!("disk={},size=64M", file.display())).refused(1)?;
    ensure!(said.contains("letters"), "{said}");
    ensure!(fs::read_to_string(&file)? == "these bytes are not a disk\n", "the file changed");
    Ok(())
}

#[test]
fn a_backing_that_cannot_be_is_refused_by_name() -> Result<()> {
    let scratch = Scratch::new()?;
    for (path, size) in
        [("/no/such/folder/disk.img", ",size=16M"), ("/dev/null", ""), ("/tmp", ""), ("/proc/version", "")]
    {
        let said = Launch::new(&scratch).volume(format!("disk={path}{size}")).refused(1).context(path)?;
        ensure!(said.contains(path), "{said}");
    }
    Ok(())
}

#[test]
fn check_tells_every_mistake_with_its_line_and_starts_nothing() -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch.text(
        "ringsan.toml",
        "[nbd]\nportals = \"nowhere\"\ncolour = \"red\"\n\n[[volume]]\nname = \"disk\"\nbacking = \"memory\"\nsize = 1000\n",
    )?;
    let check =
        Tool::new(binary()?).args(["check", "--config"]).arg(&config).folder(scratch.path()).output()?;
    let text = said(&check);
    ensure!(check.status.code() == Some(1), "{}\n{text}", check.status);
    for place in ["ringsan.toml:2:", "ringsan.toml:3:", "ringsan.toml:8:"] {
        ensure!(text.contains(place), "no mistake at {place}\n{text}");
    }
    ensure!(fs::read_dir(scratch.path())?.count() == 1, "something was made");
    Ok(())
}

#[test]
fn check_accepts_a_right_file_and_makes_nothing() -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch
        .text("ringsan.toml", "[[volume]]\nname = \"disk\"\nbacking = \"disk.img\"\nsize = \"1G\"\n")?;
    Tool::new(binary()?).args(["check", "--config"]).arg(&config).folder(scratch.path()).ok()?;
    ensure!(!scratch.join("disk.img").exists(), "check made the backing");
    Ok(())
}

#[test]
fn the_admin_portal_answers_health_and_metrics() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    target.assert_serves("disk")?;
    target.get("/healthz")?;
    let metrics = target.get("/metrics")?;
    for name in ["_total", "_bucket{", "volume=\"disk\"", "# TYPE"] {
        ensure!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    let status = target.control(&["status", "--json"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    assert_eq!(status["volumes"][0]["name"], "disk");
    assert!(status["volumes"][0]["operations"]["write"]["requests"].as_u64() >= Some(1));
    assert!(target.control(&["status"])?.ok()?.contains("disk"));
    target.stop()?;
    Ok(())
}
