//! Changes while initiators are logged in: targets that come and go, volumes that grow, and what `status` tells.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::iscsi::{Client, Data, INITIATOR, Login, target_name, target_table};
use tests::scratch::random;
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

#[test]
fn a_reload_adds_and_removes_targets_under_running_sessions() -> Result<()> {
    let volume =
        |name: &str| format!("[[volume]]\nname = \"{name}\"\nbacking = \"memory\"\nsize = \"16M\"\n");
    let scratch = Scratch::new()?;
    let before = volume("stays") + &volume("goes");
    let target = Launch::new(&scratch).iscsi().tables(&before).start()?;
    let mut stays = Client::attach(target.iscsi_address(), "stays")?;
    let mut goes = Client::attach(target.iscsi_address(), "goes")?;
    stays.write(0, &random(1, 4096))?;
    goes.write(0, &random(2, 4096))?;
    target.launch().clone().tables(&(volume("stays") + &volume("comes"))).write_config()?;
    target.control(&["reload"])?.ok()?;
    goes.ended().context("the removed target's initiator")?;
    Client::attach(target.iscsi_address(), "comes")?.logout()?;
    ensure!(stays.read(0, 8)? == random(1, 4096), "the untouched target's session goes on");
    assert!(Client::attach(target.iscsi_address(), "goes").is_err());
    stays.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_reload_changes_one_target_and_touches_no_other() -> Result<()> {
    let scratch = Scratch::new()?;
    let users = |secret: &str| format!("users = [{{ name = \"alice\", secret = \"{secret}\" }}]");
    let tables = |secret: &str| {
        target_table("changes", &users(secret), &[("one", "")]) + &target_table("stays", "", &[("two", "")])
    };
    let launch = Launch::new(&scratch).iscsi().volume("one=memory,size=16M").volume("two=memory,size=16M");
    let target = launch.tables(&tables("the-first-secret")).start()?;
    let login = Login::to(&target_name("changes"));
    login.clone().chap("alice", "the-first-secret").attach(target.iscsi_address())?.logout()?;
    let mut witness = Client::attach(target.iscsi_address(), "stays")?;
    witness.write(0, &random(1, 4096))?;
    target.launch().clone().tables(&tables("the-second-secret")).write_config()?;
    target.control(&["reload"])?.ok()?;
    let refused = login.clone().chap("alice", "the-first-secret").attempt(target.iscsi_address())?;
    ensure!(refused.is_err(), "the old secret is still good");
    login.chap("alice", "the-second-secret").attach(target.iscsi_address())?.logout()?;
    ensure!(witness.read(0, 8)? == random(1, 4096), "the other target's session goes on");
    witness.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_volume_made_at_run_time_is_a_target_until_it_is_removed() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).iscsi().volume("other=memory,size=16M").start()?;
    let mut witness = Client::attach(target.iscsi_address(), "other")?;
    target.control(&["volume", "create", "made", "--backing", "memory", "--size", "16M"])?.ok()?;
    let mut client = Client::attach(target.iscsi_address(), "made")?;
    client.write(0, &random(1, 4096))?;
    let found = Login::discovery().session(target.iscsi_address())?.text(&[("SendTargets", "All")])?;
    ensure!(found.iter().any(|(_, value)| *value == target_name("made")), "{found:?}");
    target.control(&["volume", "rm", "made"])?.ok()?;
    client.ended().context("the removed volume's initiator")?;
    assert!(Client::attach(target.iscsi_address(), "made").is_err());
    witness.write(0, &[1; 512])?;
    witness.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn growth_is_told_once_and_seen_by_the_next_question() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).iscsi().volume("other=memory,size=16M").start()?;
    let file = scratch.join("file.img").display().to_string();
    for (name, backing) in [("memory", "memory"), ("file", &file)] {
        target.control(&["volume", "create", name, "--backing", backing, "--size", "16M"])?.ok()?;
        let mut client = Client::attach(target.iscsi_address(), name)?;
        assert_eq!(capacity(&mut client)?, 16 * MIB);
        target.control(&["volume", "resize", name, "32M"])?.ok()?;
        let told = client.run(&[0; 6], Data::None, &[])?;
        assert_eq!(told.code(), Some((6, 0x2a, 9)), "{name}: CAPACITY DATA HAS CHANGED");
        client.run(&[0; 6], Data::None, &[])?.good().context("it is told once")?;
        assert_eq!(capacity(&mut client)?, 32 * MIB, "{name}");
        client.write(65535, &random(7, 512))?;
        ensure!(client.read(65535, 1)? == random(7, 512), "{name}: the new last block");
        client.logout()?;
    }
    target.stop()?;
    Ok(())
}

/// By READ CAPACITY (16).
fn capacity(client: &mut Client) -> Result<u64> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    let data = client.run(&cdb, Data::In(32), &[])?.good()?;
    let last = u64::from_be_bytes(data[..8].try_into()?);
    Ok((last + 1) * u64::from(u32::from_be_bytes(data[8..12].try_into()?)))
}

#[test]
fn status_tells_sessions_and_what_was_negotiated() -> Result<()> {
    let scratch = Scratch::new()?;
    let users = "users = [{ name = \"alice\", secret = \"a-secret-of-alice\" }]";
    let launch = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M").volume("other=memory,size=16M");
    let target = launch.tables(&target_table("disk", users, &[("disk", "")])).start()?;
    let login = Login::to(&target_name("disk")).chap("alice", "a-secret-of-alice").digests();
    let mut client = login.key("MaxBurstLength", "65536").attach(target.iscsi_address())?;
    client.write(0, &[1; 8192])?;
    client.read(0, 8)?;
    let client_of = |status: &Value| -> Option<Value> {
        let clients = status["clients"].as_array()?;
        clients.iter().find(|client| client["protocol"] == "iscsi").cloned()
    };
    let is_counted = |status: &Value| {
        client_of(status).is_some_and(|client| client["session"]["luns"][0]["written_bytes"] == 8192)
    };
    target.await_status("what the session wrote", is_counted)?;
    let status: Value = serde_json::from_str(&target.control(&["status", "--json"])?.ok()?)?;
    let session = client_of(&status).context("an iSCSI client")?["session"].clone();
    assert_eq!(session["initiator"], INITIATOR);
    assert_eq!(session["target"], target_name("disk"));
    assert_eq!(session["chap_user"], "alice");
    assert_eq!(session["tsih"], client.tsih);
    assert_eq!(session["luns"][0]["read_bytes"], 4096);
    for (key, value) in [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("MaxBurstLength", "65536")] {
        assert_eq!(session["negotiated"][key], value, "{session}");
    }
    let shown = target.control(&["status"])?.ok()?;
    ensure!(shown.contains(INITIATOR), "{shown}");
    client.logout()?;
    target.await_clients(0)?;
    target.stop()?;
    Ok(())
}

#[test]
fn without_iscsi_nobody_listens() -> Result<()> {
    let scratch = Scratch::new()?;
    let target: Target = Launch::new(&scratch).volume("disk=memory,size=16M").start()?;
    let status: Value = serde_json::from_str(&target.get("/v1/status")?)?;
    let portals = status["portals"].as_array().context("portals")?;
    ensure!(portals.iter().all(|portal| portal["protocol"] != "iscsi"), "{portals:?}");
    target.stop()?;
    Ok(())
}
