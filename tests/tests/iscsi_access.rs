//! Who may see which target, and who may log in: discovery, CHAP both ways, names, addresses, read-only units.
//! Secrets are nowhere to be read.

use anyhow::{Context, Result, ensure};
use tests::iscsi::{Client, Data, Login, Refusal, target_name, target_table, write_10};
use tests::qemu::{iscsi_tool, lacks_iscsi};
use tests::skip::lacks;
use tests::target::Target;
use tests::{Launch, Scratch, Tool};

const SECRET: &str = "a-secret-of-alice";
const OTHER_SECRET: &str = "the-targets-own-secret";
/// Initiator error: authentication failure (§11.13.5).
const AUTHENTICATION: Refusal = Refusal { class: 2, detail: 1 };
/// Initiator error: not allowed access to the target.
const AUTHORIZATION: Refusal = Refusal { class: 2, detail: 2 };
/// Initiator error: no such target.
const NOT_FOUND: Refusal = Refusal { class: 2, detail: 3 };

/// Targets: open to all, after CHAP, after mutual CHAP, to one initiator, to a network far away, for reading.
fn start(scratch: &Scratch) -> Result<Target> {
    let users = format!("users = [{{ name = \"alice\", secret = \"{SECRET}\" }}]");
    let mutual = format!("{users}\nmutual = {{ name = \"target\", secret = \"{OTHER_SECRET}\" }}");
    let tables = [
        target_table("chap", &users, &[("chap", "")]),
        target_table("mutual", &mutual, &[("mutual", "")]),
        target_table("named", "initiators = [\"iqn.2026-11.test:known\"]", &[("named", "")]),
        target_table("far", "allow = [\"10.0.0.0/8\", \"192.0.2.7\"]", &[("far", "")]),
        target_table("near", "allow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]", &[("near", "")]),
        target_table("protected", "", &[("protected", "read_only = true")]),
    ];
    let volumes = ["open", "chap", "mutual", "named", "far", "near", "protected"];
    let launch = volumes.iter().fold(Launch::new(scratch).iscsi(), |launch, volume| {
        launch.volume(format!("{volume}=memory,size=16M"))
    });
    launch.tables(&tables.concat()).start()
}

fn refusal(login: &Login, target: &Target) -> Result<Option<Refusal>> {
    Ok(login.attempt(target.iscsi_address())?.err())
}

#[test]
fn chap_lets_in_who_knows_the_secret() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let login = Login::to(&target_name("chap"));
    let mut client = login.clone().chap("alice", SECRET).attach(target.iscsi_address())?;
    client.write(0, &[1; 512])?;
    client.logout()?;
    let wrong = refusal(&login.clone().chap("alice", OTHER_SECRET), &target)?;
    let unknown = refusal(&login.clone().chap("mallory", SECRET), &target)?;
    assert_eq!(wrong, Some(AUTHENTICATION), "a wrong secret");
    assert_eq!(unknown, wrong, "an unknown user is told the same as one with a wrong secret");
    assert_eq!(refusal(&login, &target)?.map(|refusal| refusal.class), Some(2), "without CHAP");
    let warnings = target.log().lines().filter(|line| line.contains("127.0.0.1")).count();
    ensure!(warnings >= 3, "each refused login is a line with the address:\n{}", target.log());
    target.stop()?;
    Ok(())
}

#[test]
fn mutual_chap_proves_the_target_too() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let login = Login::to(&target_name("mutual")).chap("alice", SECRET);
    let mut client = login.clone().mutual("target", OTHER_SECRET).attach(target.iscsi_address())?;
    client.write(0, &[1; 512])?;
    client.logout()?;
    let disbelieved =
        login.clone().mutual("target", "something-else-altogether").attempt(target.iscsi_address());
    ensure!(
        disbelieved.is_err_and(|error| error.to_string().contains("proof is wrong")),
        "anything is believed"
    );
    login.session(target.iscsi_address()).context("the initiator need not ask for a proof")?.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn libiscsi_and_qemu_log_in_with_chap() -> Result<()> {
    if lacks_iscsi() || lacks(&["iscsi-inq"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let with = |credentials: &str, volume| {
        target.iscsi_url(volume).replace("iscsi://", &format!("iscsi://{credentials}@"))
    };
    let right = with(&format!("alice%{SECRET}"), "chap");
    Tool::new("iscsi-inq").arg(&right).ok()?;
    iscsi_tool("qemu-io")
        .args(["-f", "raw", "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M"])
        .arg(&right)
        .ok()?;
    Tool::new("iscsi-inq").arg(with(&format!("alice%{OTHER_SECRET}"), "chap")).fails()?;
    Tool::new("iscsi-inq").arg(target.iscsi_url("chap")).fails()?;
    let mutual = with(&format!("alice%{SECRET}"), "mutual");
    let proof = format!("?target_user=target&target_password={OTHER_SECRET}");
    Tool::new("iscsi-inq").arg(format!("{mutual}{proof}")).ok()?;
    let lie = "?target_user=target&target_password=something-else-altogether";
    Tool::new("iscsi-inq").arg(format!("{mutual}{lie}")).fails()?;
    target.stop()?;
    Ok(())
}

#[test]
fn secrets_are_nowhere_to_be_read() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let login = Login::to(&target_name("mutual")).chap("alice", SECRET).mutual("target", OTHER_SECRET);
    let client = login.attach(target.iscsi_address())?;
    refusal(&Login::to(&target_name("chap")).chap("alice", "one-that-is-wrong"), &target)?;
    target.control(&["reload"])?.ok()?;
    let said = [
        target.get("/v1/status")?,
        target.get("/metrics")?,
        target.control(&["status"])?.ok()?,
        target.control(&["status", "--json"])?.ok()?,
        target.log(),
    ];
    for text in &said {
        for secret in [SECRET, OTHER_SECRET, "one-that-is-wrong"] {
            ensure!(!text.contains(secret), "{secret} is in:\n{text}");
        }
    }
    ensure!(said[0].contains("alice"), "the status names the user");
    drop(client);
    target.stop()?;
    Ok(())
}

#[test]
fn a_list_of_initiators_turns_others_away() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let login = Login::to(&target_name("named"));
    login.clone().initiator("iqn.2026-11.test:known").attach(target.iscsi_address())?.logout()?;
    login.clone().initiator("IQN.2026-11.test:Known").attach(target.iscsi_address())?.logout()?;
    assert_eq!(refusal(&login, &target)?, Some(AUTHORIZATION));
    target.stop()?;
    Ok(())
}

#[test]
fn a_list_of_networks_turns_others_away() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    Client::attach(target.iscsi_address(), "near")?.logout()?;
    assert_eq!(refusal(&Login::to(&target_name("far")), &target)?, Some(AUTHORIZATION));
    target.stop()?;
    Ok(())
}

#[test]
fn an_unknown_target_is_said_to_be_unknown() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    assert_eq!(refusal(&Login::to(&target_name("nothing")), &target)?, Some(NOT_FOUND));
    target.stop()?;
    Ok(())
}

#[test]
fn a_read_only_unit_refuses_writes() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let mut client = Client::attach(target.iscsi_address(), "protected")?;
    let answer = client.run(&write_10(0, 1), Data::Out(512, &[]), &[1; 512])?;
    assert_eq!(answer.code(), Some((7, 0x27, 0)), "DATA PROTECT, WRITE PROTECTED");
    assert_eq!(client.read(0, 1)?, [0; 512]);
    client.logout()?;
    target.assert_serves("protected").context("the volume itself is not read-only")?;
    if !lacks_iscsi() {
        let url = target.iscsi_url("protected");
        iscsi_tool("qemu-io").args(["-r", "-f", "raw", "-c", "read 0 1M"]).arg(&url).ok()?;
        iscsi_tool("qemu-io").args(["-f", "raw", "-c", "write 0 4k"]).arg(&url).fails()?;
    }
    target.stop()?;
    Ok(())
}

#[test]
fn discovery_names_every_target_and_where_it_is() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    let mut session = Login::discovery().session(target.iscsi_address())?;
    let found = session.text(&[("SendTargets", "All")])?;
    let address = format!("{},1", target.iscsi_address());
    for volume in ["open", "chap", "mutual", "near", "protected"] {
        let at = found.iter().position(|pair| *pair == ("TargetName".to_owned(), target_name(volume)));
        let next = at.and_then(|at| found.get(at + 1)).with_context(|| format!("{volume}: {found:?}"))?;
        assert_eq!(*next, ("TargetAddress".to_owned(), address.clone()));
    }
    let one = session.text(&[("SendTargets", &target_name("open"))])?;
    assert_eq!(
        one,
        [("TargetName".to_owned(), target_name("open")), ("TargetAddress".to_owned(), address.clone())]
    );
    session.logout()?;
    let mut session = Client::attach(target.iscsi_address(), "open")?;
    assert_eq!(session.text(&[("SendTargets", "")])?, one, "a normal session asks for its own target");
    session.logout()?;
    if !lacks(&["iscsi-ls"]) {
        let listed = Tool::new("iscsi-ls").arg(format!("iscsi://{}", target.iscsi_address())).ok()?;
        let open = format!("Target:{} Portal:{address}", target_name("open"));
        ensure!(listed.lines().any(|line| line == open), "{listed}");
    }
    target.stop()?;
    Ok(())
}

#[test]
fn discovery_names_the_advertised_portal() -> Result<()> {
    let scratch = Scratch::new()?;
    let setting = "advertise = [\"192.0.2.1:13260\", \"[2001:db8::1]:3260\"]";
    let target =
        Launch::new(&scratch).iscsi().iscsi_setting(setting).volume("disk=memory,size=16M").start()?;
    let found = Login::discovery().session(target.iscsi_address())?.text(&[("SendTargets", "All")])?;
    let addresses: Vec<&str> = found.iter().skip(1).map(|(_, value)| value.as_str()).collect();
    assert_eq!(addresses, ["192.0.2.1:13260,1", "[2001:db8::1]:3260,1"]);
    target.stop()?;
    Ok(())
}

#[test]
fn many_targets_are_discovered_in_pieces() -> Result<()> {
    let scratch = Scratch::new()?;
    let launch = (0..300).fold(Launch::new(&scratch).iscsi(), |launch, number| {
        launch.volume(format!("volume-{number:03}-of-a-long-name=memory,size=1M"))
    });
    let target = launch.start()?;
    let login = Login::discovery().key("MaxRecvDataSegmentLength", "1024");
    let found = login.session(target.iscsi_address())?.text(&[("SendTargets", "All")])?;
    let names: Vec<&String> =
        found.iter().filter(|(key, _)| key == "TargetName").map(|(_, name)| name).collect();
    let expected: Vec<String> =
        (0..300).map(|number| target_name(&format!("volume-{number:03}-of-a-long-name"))).collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
    target.stop()?;
    Ok(())
}

#[test]
fn discovery_can_need_chap_as_well() -> Result<()> {
    let scratch = Scratch::new()?;
    let tables = format!("[iscsi.discovery]\nusers = [{{ name = \"finder\", secret = \"{SECRET}\" }}]\n");
    let target = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M").tables(&tables).start()?;
    assert_eq!(refusal(&Login::discovery(), &target)?.map(|refusal| refusal.class), Some(2));
    assert_eq!(refusal(&Login::discovery().chap("finder", OTHER_SECRET), &target)?, Some(AUTHENTICATION));
    let mut session = Login::discovery().chap("finder", SECRET).session(target.iscsi_address())?;
    ensure!(session.text(&[("SendTargets", "All")])?.len() == 2, "one target, one address");
    Client::attach(target.iscsi_address(), "disk").context("the target itself needs none")?.logout()?;
    target.stop()?;
    Ok(())
}
