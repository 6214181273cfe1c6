//! Task management, logout and reinstatement, above all while the backing hangs: where targets get stuck.

use anyhow::{Context, Result, ensure};
use tests::device::FuseFile;
use tests::iscsi::{
    Client, Data, Login, NO_TAG, function, read_10, response, target_name, target_table, write_10,
};
use tests::skip::{lacks, lacks_root_and};
use tests::target::Target;
use tests::{Launch, Scratch};

/// Function responses (§11.6.1).
const COMPLETE: u8 = 0;
const NO_TASK: u8 = 1;
const NO_LUN: u8 = 2;
const NO_REASSIGN: u8 = 4;

/// A target with a disk that hangs as LUN 0 and memory as LUN 1.
struct Stuck {
    target: Target,
    disk: FuseFile,
    _scratch: Scratch,
}

impl Stuck {
    /// `delays` are settings of nbdkit's filter: how long reads and writes take.
    fn start(delays: &[&str]) -> Result<Option<Stuck>> {
        if lacks(&["nbdfuse", "nbdkit"]) || lacks_root_and(&["/dev/fuse"]) {
            return Ok(None);
        }
        let scratch = Scratch::new()?;
        let words =
            [&["[", "nbdkit", "--exit-with-parent", "--filter=delay", "memory", "64M"], delays, &["]"]]
                .concat();
        let disk = FuseFile::mount(&scratch.join("fuse/disk"), words)?;
        let launch =
            Launch::new(&scratch).two_cores().iscsi().volume(format!("disk={}", disk.path().display()));
        let tables = target_table("both", "", &[("disk", ""), ("other", "")]);
        let target = launch.volume("other=memory,size=16M").tables(&tables).start()?;
        Ok(Some(Stuck { target, disk, _scratch: scratch }))
    }

    fn attach(&self, initiator: &str) -> Result<Client> {
        let name = format!("iqn.2026-11.test:{initiator}");
        Login::to(&target_name("both")).initiator(&name).attach(self.target.iscsi_address())
    }

    /// Nothing but the disk is stuck.
    fn assert_alive(&mut self) -> Result<()> {
        let mut witness = self.attach("witness")?;
        witness.lun = 1;
        witness.await_ready()?;
        witness.write(0, &[7; 4096])?;
        ensure!(witness.read(0, 8)? == [7; 4096], "the other unit reads something else");
        witness.logout()?;
        self.target.assert_serves("other")?;
        self.target.assert_alive()
    }

    /// Frees the disk, which must bring back everybody who waits for it.
    fn finish(mut self) -> Result<()> {
        self.assert_alive()?;
        self.disk.pull()?;
        self.target.await_clients(0).context("once the disk has answered")?;
        self.target.kill()?;
        Ok(())
    }
}

#[test]
fn a_task_is_aborted_while_the_disk_hangs() -> Result<()> {
    let Some(mut stuck) = Stuck::start(&["rdelay=600"])? else { return Ok(()) };
    let mut client = stuck.attach("a")?;
    let read = client.start(&read_10(0, 8), Data::In(4096))?;
    stuck.assert_alive()?;
    ensure!(client.is_quiet()?, "the disk was not stuck");
    assert_eq!(client.manage(function::ABORT_TASK, Some(&read))?, COMPLETE);
    client.ping()?;
    client.run(&[0; 6], Data::None, &[])?.good().context("the next command")?;
    stuck.disk.pull()?;
    client.ping().context("the aborted command is never answered")?;
    client.logout()?;
    stuck.target.await_clients(0)?;
    stuck.target.kill()?;
    Ok(())
}

#[test]
fn a_set_of_tasks_is_aborted_while_the_disk_hangs() -> Result<()> {
    for clears in [function::ABORT_TASK_SET, function::CLEAR_TASK_SET] {
        let Some(stuck) = Stuck::start(&["rdelay=600", "wdelay=600"])? else { return Ok(()) };
        let mut client = stuck.attach("a")?;
        // FUSE takes twelve requests at a time; whoever starts one more sleeps in the kernel
        for lba in 0..4 {
            client.start(&read_10(lba * 8, 8), Data::In(4096))?;
            client.start(&write_10(1000 + lba * 8, 8), Data::Out(4096, &[5; 4096]))?;
        }
        let response = client.manage(clears, None).with_context(|| format!("function {clears}"))?;
        assert_eq!(response, COMPLETE, "function {clears}");
        client.run(&[0; 6], Data::None, &[])?.good()?;
        client.logout()?;
        stuck.finish()?;
    }
    Ok(())
}

#[test]
fn a_reset_of_the_unit_is_done_while_the_disk_hangs_and_others_are_told() -> Result<()> {
    let Some(mut stuck) = Stuck::start(&["rdelay=600"])? else { return Ok(()) };
    let (mut one, mut two) = (stuck.attach("one")?, stuck.attach("two")?);
    one.start(&read_10(0, 8), Data::In(4096))?;
    two.start(&read_10(8, 8), Data::In(4096))?;
    two.ping().context("so that its read has come before the reset")?;
    one.lun = 1;
    one.await_ready()?;
    one.lun = 0;
    assert_eq!(one.manage(function::LUN_RESET, None)?, COMPLETE);
    for client in [&mut one, &mut two] {
        let told = client.run(&[0; 6], Data::None, &[])?;
        ensure!(
            told.code().is_some_and(|(key, code, _)| (key, code) == (6, 0x29)),
            "after the reset: {told:?}"
        );
        client.await_ready()?;
    }
    two.lun = 1;
    two.await_ready().context("the other unit was not reset")?;
    stuck.assert_alive()?;
    one.logout()?;
    two.logout()?;
    stuck.finish()
}

#[test]
fn a_warm_reset_of_the_target_is_done_while_the_disk_hangs() -> Result<()> {
    let Some(stuck) = Stuck::start(&["rdelay=600"])? else { return Ok(()) };
    let (mut one, mut two) = (stuck.attach("one")?, stuck.attach("two")?);
    one.start(&read_10(0, 8), Data::In(4096))?;
    two.start(&read_10(8, 8), Data::In(4096))?;
    two.ping().context("so that its read has come before the reset")?;
    assert_eq!(one.manage(function::WARM_RESET, None)?, COMPLETE);
    let told = two.run(&[0; 6], Data::None, &[])?;
    ensure!(told.code().is_some_and(|(key, code, _)| (key, code) == (6, 0x29)), "after the reset: {told:?}");
    one.await_ready()?;
    two.await_ready()?;
    one.logout()?;
    two.logout()?;
    stuck.finish()
}

#[test]
fn a_cold_reset_of_the_target_ends_its_sessions_while_the_disk_hangs() -> Result<()> {
    let Some(stuck) = Stuck::start(&["rdelay=600"])? else { return Ok(()) };
    let (mut one, mut two) = (stuck.attach("one")?, stuck.attach("two")?);
    one.start(&read_10(0, 8), Data::In(4096))?;
    two.start(&read_10(8, 8), Data::In(4096))?;
    two.ping().context("so that its read has come before the reset")?;
    let asked = one.request_management(function::COLD_RESET, None)?;
    let answer = one.receive_answering()?;
    ensure!(answer.tag_of() == asked.tag_of() && answer.header[2] == COMPLETE, "{answer:?}");
    one.ended()?;
    two.ended()?;
    stuck.attach("one").context("a new session after a cold reset")?.logout()?;
    stuck.finish()
}

#[test]
fn a_logout_is_answered_while_the_disk_hangs() -> Result<()> {
    let Some(stuck) = Stuck::start(&["rdelay=600", "wdelay=600"])? else { return Ok(()) };
    for reason in [0, 1] {
        let mut client = stuck.attach("a")?;
        client.start(&read_10(0, 8), Data::In(4096))?;
        client.start(&write_10(8, 8), Data::Out(4096, &[5; 4096]))?;
        let asked = client.request_logout(reason)?;
        let answer = client.answer(response::LOGOUT, asked.tag_of())?;
        assert_eq!(answer.header[2], 0, "reason {reason}");
        client.ended()?;
    }
    stuck.finish()
}

#[test]
fn a_session_is_replaced_while_the_disk_hangs() -> Result<()> {
    let Some(stuck) = Stuck::start(&["rdelay=600"])? else { return Ok(()) };
    let mut old = stuck.attach("a")?;
    old.start(&read_10(0, 8), Data::In(4096))?;
    let mut new = stuck.attach("a")?;
    old.ended().context("the old session")?;
    new.lun = 1;
    new.await_ready()?;
    new.write(0, &[1; 4096])?;
    new.logout()?;
    stuck.finish()
}

#[test]
fn an_initiator_that_vanishes_while_the_disk_hangs_may_come_back() -> Result<()> {
    let Some(stuck) = Stuck::start(&["rdelay=600", "wdelay=600"])? else { return Ok(()) };
    for _ in 0..5 {
        let mut client = stuck.attach("a")?;
        client.start(&read_10(0, 8), Data::In(4096))?;
        client.start(&write_10(8, 8), Data::Out(4096, &[5; 4096]))?;
        drop(client);
    }
    stuck.finish()
}

#[test]
fn an_aborted_write_does_not_overtake_a_later_one() -> Result<()> {
    let Some(stuck) = Stuck::start(&["wdelay=2"])? else { return Ok(()) };
    let mut client = stuck.attach("a")?;
    let slow = client.start(&write_10(0, 8), Data::Out(4096, &[1; 4096]))?;
    assert_eq!(client.manage(function::ABORT_TASK, Some(&slow))?, COMPLETE);
    client.write(0, &[2; 4096])?;
    let later = client.read(0, 8)?;
    ensure!(later == [2; 4096], "the aborted write lies over the later one");
    client.logout()?;
    stuck.finish()
}

fn start() -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M").start()?;
    Ok((scratch, target))
}

#[test]
fn what_cannot_be_managed_is_answered_so() -> Result<()> {
    let (_scratch, target) = start()?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    // a command of the future (RefCmdSN outside what was sent) that nobody knows
    let never_sent = client.command(&[0; 6], Data::None).word(24, 0x4000_0000);
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    assert_eq!(client.manage(function::ABORT_TASK, Some(&never_sent))?, NO_TASK);
    client.lun = 9;
    assert_eq!(client.manage(function::LUN_RESET, None)?, NO_LUN);
    client.lun = 0;
    assert_eq!(client.manage(function::TASK_REASSIGN, Some(&never_sent))?, NO_REASSIGN);
    client.run(&[0; 6], Data::None, &[])?.good()?;
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn the_data_of_an_aborted_write_is_discarded() -> Result<()> {
    let (_scratch, target) = start()?;
    for aborts in
        [function::ABORT_TASK, function::ABORT_TASK_SET, function::CLEAR_TASK_SET, function::LUN_RESET]
    {
        let mut client = Client::attach(target.iscsi_address(), "disk")?;
        let write = client.start(&write_10(0, 16), Data::Out(8192, &[]))?;
        let r2t = client.answer(response::R2T, write.tag_of())?;
        let first = client.data_out(&write, r2t.word_at(20), 0, 0, &[0xee; 4096]);
        client.send(&first)?;
        let referenced = (aborts == function::ABORT_TASK).then_some(&write);
        assert_eq!(client.manage(aborts, referenced)?, COMPLETE, "function {aborts}");
        let second = client.data_out(&write, r2t.word_at(20), 1, 4096, &[0xee; 4096]).flags(0x80);
        client.send(&second)?;
        client.ping()?;
        client.await_ready()?;
        ensure!(client.read(0, 16)? == [0; 8192], "function {aborts}: the data was written");
        client.write(0, &[1; 512]).context("the session goes on")?;
        client.write(0, &[0; 512])?;
        client.logout()?;
    }
    target.stop()?;
    Ok(())
}

#[test]
fn a_login_with_the_same_name_replaces_the_session() -> Result<()> {
    let (_scratch, target) = start()?;
    let login = Login::to(&target_name("disk"));
    let mut other = login.clone().isid(2).attach(target.iscsi_address())?;
    let mut old = login.attach(target.iscsi_address())?;
    let write = old.start(&write_10(0, 8), Data::Out(4096, &[]))?;
    let r2t = old.answer(response::R2T, write.tag_of())?;
    let mut new = login.attach(target.iscsi_address())?;
    let late = old.data_out(&write, r2t.word_at(20), 0, 0, &[0xee; 4096]).flags(0x80);
    let _ = old.send(&late); // the connection may be gone already
    old.ended()?;
    ensure!(new.read(0, 8)? == [0; 4096], "the old session's write was carried out");
    other.write(0, &[1; 512]).context("another session of the same initiator goes on")?;
    target.await_clients(2)?;
    new.logout()?;
    other.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_login_to_the_same_session_replaces_its_connection() -> Result<()> {
    let (_scratch, target) = start()?;
    let login = Login::to(&target_name("disk"));
    let mut old = login.attach(target.iscsi_address())?;
    let mut new = login.clone().tsih(old.tsih).attach(target.iscsi_address())?;
    old.ended()?;
    new.write(0, &[1; 512])?;
    new.logout()?;
    let missing = login.tsih(0x7777).attempt(target.iscsi_address())?.err();
    let missing = missing.context("a login to a session that is not there")?;
    assert_eq!((missing.class, missing.detail), (2, 0x0a), "session does not exist");
    target.stop()?;
    Ok(())
}

#[test]
fn a_stop_asks_initiators_to_log_out() -> Result<()> {
    const REQUESTS_LOGOUT: u8 = 1;
    let (_scratch, target) = start()?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    client.write(0, &[1; 512])?;
    target.signal(nix::sys::signal::Signal::SIGTERM)?;
    let message = client.receive_answering()?;
    ensure!(message.opcode() == response::ASYNC && message.header[36] == REQUESTS_LOGOUT, "{message:?}");
    ensure!(message.tag_of() == NO_TAG, "{message:?}");
    client.logout()?;
    ensure!(target.await_end()?.success(), "the stop");
    Ok(())
}
