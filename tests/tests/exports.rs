//! Volumes as clients and operators see them: the default export, allow-lists, and changes while others are served.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::nbd::{Client, OPT_LIST, REP_ACK};
use tests::scratch::random;
use tests::skip::lacks;
use tests::tool::nbdsh;
use tests::{Launch, MIB, Scratch};

#[test]
fn the_default_export_answers_to_the_empty_name() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).volume("a=memory,size=16M").volume("b=memory,size=32M");
    let target = launch.nbd_setting("default_export = \"b\"").start()?;
    assert_eq!(Client::attach(target.address(), "")?.size_bytes, 32 * MIB);
    assert_eq!(Client::attach(target.address(), "a")?.size_bytes, 16 * MIB);
    target.stop()?;
    Ok(())
}

#[test]
fn without_a_default_export_several_volumes_refuse_the_empty_name() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("a=memory,size=16M").volume("b=memory,size=32M").start()?;
    assert!(Client::attach(target.address(), "").is_err());
    target.stop()?;
    Ok(())
}

#[test]
fn an_allow_list_turns_others_away() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let socket = scratch.join("nbd.sock");
    let target = Launch::new(&scratch)
        .volume("far=memory,size=16M,allow=10.0.0.0/8,allow=192.0.2.7")
        .volume("near=memory,size=16M,allow=10.0.0.0/8,allow=127.0.0.0/8")
        .portal(format!("unix:{}", socket.display()))
        .start()?;
    target.assert_serves("near")?;
    assert!(Client::attach(target.address(), "far").is_err(), "127.0.0.1 is not on the list");
    nbdsh(&format!("nbd+unix:///far?socket={}", socket.display()), "h.pwrite(bytes(512), 0)").ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn two_hundred_volumes_keep_their_bytes_apart() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = (0..200).fold(Launch::new(&scratch).two_cores(), |launch, number| {
        launch.volume(format!("volume{number}=memory,size=1M"))
    });
    let target = launch.start()?;
    for number in 0..200 {
        Client::attach(target.address(), &format!("volume{number}"))?.write(0, &random(number, 4096))?;
    }
    for number in 0..200 {
        let read = Client::attach(target.address(), &format!("volume{number}"))?.read(0, 4096)?;
        ensure!(read == random(number, 4096), "volume{number} reads otherwise");
    }
    let mut client = Client::greet(target.address())?;
    client.option(OPT_LIST, &[])?;
    let mut listed = 0;
    while client.option_reply(OPT_LIST)?.kind != REP_ACK {
        listed += 1;
    }
    assert_eq!(listed, 200);
    target.stop()?;
    Ok(())
}

#[test]
fn a_reload_adds_and_removes_volumes_under_running_clients() -> Result<()> {
    reload(|target| target.control(&["reload"])?.ok().map(drop))
}

#[test]
fn sighup_reloads_as_well() -> Result<()> {
    reload(|target| target.signal(Signal::SIGHUP))
}

fn reload(how: impl FnOnce(&tests::Target) -> Result<()>) -> Result<()> {
    let volume = |name: &str, size: &str| {
        format!("[[volume]]\nname = \"{name}\"\nbacking = \"memory\"\nsize = \"{size}\"\n")
    };
    let scratch = Scratch::new()?;
    let before = volume("stays", "16M") + &volume("goes", "16M");
    let target = Launch::new(&scratch).tables(&before).start()?;
    let mut stays = Client::attach(target.address(), "stays")?;
    let mut goes = Client::attach(target.address(), "goes")?;
    stays.write(0, &random(1, 4096))?;
    goes.write(0, &random(2, 4096))?;
    let after = volume("stays", "16M") + &volume("comes", "32M");
    target.launch().clone().tables(&after).write_config()?;
    how(&target)?;
    goes.ended().context("the removed volume's client")?;
    target.await_status("the new volume", |status| {
        status["volumes"]
            .as_array()
            .is_some_and(|volumes| volumes.iter().any(|volume| volume["name"] == "comes"))
    })?;
    ensure!(stays.read(0, 4096)? == random(1, 4096), "the untouched volume's client goes on");
    assert_eq!(Client::attach(target.address(), "comes")?.size_bytes, 32 * MIB);
    assert!(Client::attach(target.address(), "goes").is_err());
    target.stop()?;
    Ok(())
}

#[test]
fn a_reload_of_a_broken_file_changes_nothing() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    fs::write(target.launch().config_path(), "[nbd]\nconnections_max = \"many\"\n")?;
    let said = target.control(&["reload"])?.fails()?;
    ensure!(said.contains("ringsan.toml:2") && said.contains("connections_max"), "{said}");
    client.write(0, &[1; 512])?;
    target.assert_serves("disk")?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_volume_is_made_grown_and_removed_while_another_is_served() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("made.img");
    let path = file.display().to_string();
    let target = Launch::new(&scratch).volume("other=memory,size=16M").start()?;
    let mut witness = Client::attach(target.address(), "other")?;
    target.control(&["volume", "create", "made", "--backing", &path, "--size", "32M"])?.ok()?;
    let mut client = Client::attach(target.address(), "made")?;
    assert_eq!(client.size_bytes, 32 * MIB);
    client.write(31 * MIB, &random(1, 4096))?;
    target.control(&["volume", "resize", "made", "64M"])?.ok()?;
    let mut grown = Client::attach(target.address(), "made")?;
    assert_eq!(grown.size_bytes, 64 * MIB);
    grown.write(63 * MIB, &random(2, 4096))?;
    ensure!(grown.read(31 * MIB, 4096)? == random(1, 4096), "the old bytes");
    client.write(0, &random(3, 4096)).context("the client of before the growth goes on")?;
    assert!(target.control(&["volume", "ls"])?.ok()?.contains("made"));
    let launch = target.stop()?;
    let target = launch.start()?;
    ensure!(
        Client::attach(target.address(), "made")?.read(63 * MIB, 4096)? == random(2, 4096),
        "after the restart"
    );
    let mut client = Client::attach(target.address(), "made")?;
    target.control(&["volume", "rm", "made"])?.ok()?;
    client.ended().context("the removed volume's client")?;
    assert!(Client::attach(target.address(), "made").is_err());
    drop(witness.write(0, &[1; 512]));
    target.assert_serves("other")?;
    target.stop()?;
    Ok(())
}
