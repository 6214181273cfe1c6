//! Writes whose data comes in another way than was agreed: too much, too early, too late, for somebody else, in
//! another order. What should not have been sent is never written.

use anyhow::{Context, Result, ensure};
use tests::iscsi::{
    BLOCK, Client, Data, Login, NO_TAG, Pdu, Taken, read_10, request, response, target_name, write_10,
};
use tests::scratch::{Random, random};
use tests::target::Target;
use tests::{Launch, Scratch};

/// What a test writes by rights, and what must never be found on the disk.
const OLD: u8 = 0x11;
const BAD: u8 = 0xee;

fn start(settings: &[&str]) -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M");
    let launch = settings.iter().fold(launch, |launch, line| launch.iscsi_setting(line));
    Ok((scratch, launch.start()?))
}

/// A write of 16 blocks over 0x11, broken by `breaks`; the session may end, and nothing bad may be written.
fn broken_write(
    target: &Target,
    login: &Login,
    what: &str,
    breaks: impl FnOnce(&mut Client, &Pdu, &Pdu) -> Result<()>,
) -> Result<Taken> {
    let mut witness = Login::to(&target_name("disk")).isid(9).attach(target.iscsi_address())?;
    witness.write(0, &[OLD; 64 * BLOCK])?;
    let mut client = login.attach(target.iscsi_address()).context("the one that breaks rules")?;
    let write = client.start(&write_10(16, 16), Data::Out(16 * BLOCK as u32, &[]))?;
    let r2t = client.answer(response::R2T, write.tag_of())?;
    ensure!((r2t.word_at(40), r2t.word_at(44)) == (0, 16 * BLOCK as u32), "one R2T asks for all: {r2t:?}");
    breaks(&mut client, &write, &r2t)?;
    // what was asked for: a target may end the task only when no more data is due
    let proper = client.data_out(&write, r2t.word_at(20), 0, 0, &[OLD; 16 * BLOCK]).flags(0x80);
    let _ = client.send(&proper); // the connection may be gone already
    let taken = client.taken().with_context(|| what.to_owned())?;
    drop(client);
    ensure!(witness.read(0, 64)?.iter().all(|byte| *byte != BAD), "{what}: {taken:?}, and it was written");
    witness.logout()?;
    Ok(taken)
}

#[test]
fn data_that_was_not_asked_for_is_never_written() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let login = Login::to(&target_name("disk"));
    let all = [BAD; 16 * BLOCK];
    let cases: [(&str, u32, u32, u32, &[u8]); 6] = [
        ("a transfer tag that was never given", 0x4000_0000, 0, 0, &all),
        ("no transfer tag", 0, 0, 0, &all),
        ("a data number that is not the next", 0, 1, 0, &all),
        ("before its place", 0, 0, 4096, &all[..4096]),
        ("beyond the burst", 0, 0, 16 * BLOCK as u32, &all),
        ("far beyond the burst", 0, 0, 0xffff_f000, &all),
    ];
    for (what, tag_change, data_sn, offset, data) in cases {
        let taken = broken_write(&target, &login, what, |client, write, r2t| {
            let tag = if what == "no transfer tag" { NO_TAG } else { r2t.word_at(20) ^ tag_change };
            let pdu = client.data_out(write, tag, data_sn, offset, data).flags(0x80);
            client.send(&pdu)
        })?;
        ensure!(taken != Taken::Status(0), "{what}: the write succeeded");
    }
    let taken = broken_write(&target, &login, "more than was asked for", |client, write, r2t| {
        let pdu = client.data_out(write, r2t.word_at(20), 0, 0, &[BAD; 17 * BLOCK]).flags(0x80);
        client.send(&pdu)
    })?;
    ensure!(taken != Taken::Status(0), "more than was asked for, and the write succeeded");
    broken_write(&target, &login, "another initiator task tag", |client, write, r2t| {
        let pdu = client.data_out(write, r2t.word_at(20), 0, 0, &all).flags(0x80);
        // for a task that is not there: it may be passed over
        client.send(&pdu.tag(0x5555))
    })?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_burst_that_ends_early_does_not_succeed() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let login = Login::to(&target_name("disk"));
    let taken = broken_write(&target, &login, "final too early", |client, write, r2t| {
        let pdu = client.data_out(write, r2t.word_at(20), 0, 0, &[OLD; 4096]).flags(0x80);
        client.send(&pdu)
    })?;
    ensure!(taken != Taken::Status(0), "the write succeeded");
    target.assert_serves_iscsi("disk")?;
    target.stop()?;
    Ok(())
}

#[test]
fn unsolicited_data_beyond_what_was_agreed_is_never_written() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let login = Login::to(&target_name("disk"));
    let cases = [
        ("immediate data where it is off", login.clone().key("ImmediateData", "No"), 4096, 4096),
        ("immediate data beyond the first burst", login.clone().key("FirstBurstLength", "4096"), 8192, 8192),
        ("immediate data beyond the command's length", login.clone(), 4096, 8192),
    ];
    for (what, login, expected, sent) in cases {
        let mut client = login.attach(target.iscsi_address())?;
        let data = vec![BAD; sent];
        client.start(&write_10(0, (expected / BLOCK) as u16), Data::Out(expected as u32, &data))?;
        let taken = client.taken().context(what)?;
        ensure!(taken != Taken::Status(0), "{what}: the write succeeded");
    }
    let mut client = login.attach(target.iscsi_address())?;
    ensure!(client.key("InitialR2T") == Some("Yes"), "{:?}", client.keys);
    let write = client.command(&write_10(0, 16), Data::Out(8192, &[]));
    // not final: more unsolicited data follows, which InitialR2T forbids
    client.send(&write.clone().flags(write.header[1] & 0x7f))?;
    let data = client.data_out(&write, NO_TAG, 0, 0, &[BAD; 8192]).flags(0x80);
    client.send(&data)?;
    let taken = client.taken().context("unsolicited data after InitialR2T=Yes")?;
    ensure!(taken != Taken::Status(0), "unsolicited data after InitialR2T=Yes was written");
    let mut witness = login.isid(9).attach(target.iscsi_address())?;
    ensure!(witness.read(0, 64)?.iter().all(|byte| *byte != BAD), "bad bytes were written");
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn unsolicited_data_within_the_first_burst_is_written() -> Result<()> {
    let (_scratch, target) = start(&["initial_r2t = false"])?;
    let login = Login::to(&target_name("disk")).key("InitialR2T", "No").key("FirstBurstLength", "16384");
    let mut client = login.attach(target.iscsi_address())?;
    ensure!(client.key("InitialR2T") == Some("No"), "{:?}", client.keys);
    let data = random(1, 64 * BLOCK);
    let write = client.command(&write_10(0, 64), Data::Out(data.len() as u32, &data[..4096]));
    let write = write.clone().flags(write.header[1] & 0x7f);
    client.send(&write)?;
    for (data_sn, at) in [4096, 8192, 12288].into_iter().enumerate() {
        let flags = if at == 12288 { 0x80 } else { 0 };
        let pdu = client.data_out(&write, NO_TAG, data_sn as u32, at as u32, &data[at..at + 4096]);
        client.send(&pdu.flags(flags))?;
    }
    client.finish(&write, &data)?.good()?;
    ensure!(client.read(0, 64)? == data, "what was written reads otherwise");
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn late_data_is_passed_over() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let write = client.start(&write_10(0, 8), Data::Out(4096, &[]))?;
    let r2t = client.answer(response::R2T, write.tag_of())?;
    let data = client.data_out(&write, r2t.word_at(20), 0, 0, &[OLD; 4096]).flags(0x80);
    client.send(&data)?;
    client.finish(&write, &[])?.good()?;
    let late = client.data_out(&write, r2t.word_at(20), 1, 0, &[BAD; 4096]).flags(0x80);
    client.send(&late)?;
    client.ping()?;
    ensure!(client.read(0, 8)? == [OLD; 4096], "late data was written");
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn commands_wait_for_those_that_were_sent_before_them() -> Result<()> {
    const ORDERED: u8 = 2;
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let ordered = |pdu: Pdu| {
        let flags = pdu.header[1] & 0xf8 | ORDERED;
        pdu.flags(flags)
    };
    let first = ordered(client.command(&write_10(0, 1), Data::Out(512, &[1; 512])));
    let second = ordered(client.command(&write_10(0, 1), Data::Out(512, &[2; 512])));
    let third = ordered(client.command(&read_10(0, 1), Data::In(512)));
    for pdu in [&third, &second] {
        client.send(pdu)?;
    }
    let ping = client.request(request::NOP_OUT | request::IMMEDIATE).flags(0x80).word(20, NO_TAG);
    client.send(&ping)?;
    client.answer(response::NOP_IN, ping.tag_of()).context("nothing runs before the first has come")?;
    client.send(&first)?;
    for command in [&first, &second] {
        client.finish(command, &[])?.good()?;
    }
    ensure!(client.finish(&third, &[])?.good()? == [2; 512], "ordered commands were not run in their order");
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn numbers_used_before_and_beyond_the_window_are_ignored() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let write = client.start(&write_10(0, 1), Data::Out(512, &[OLD; 512]))?;
    client.finish(&write, &[])?.good()?;
    let again = client.command(&write_10(0, 1), Data::Out(512, &[BAD; 512])).word(24, write.word_at(24));
    let beyond = client.command(&write_10(0, 1), Data::Out(512, &[BAD; 512])).word(24, 0x1000_0000);
    client.send(&again)?;
    client.send(&beyond)?;
    let ping = client.request(request::NOP_OUT | request::IMMEDIATE).flags(0x80).word(20, NO_TAG);
    client.send(&ping)?;
    client.answer(response::NOP_IN, ping.tag_of()).context("both are ignored")?;
    drop(client);
    ensure!(Client::attach(target.iscsi_address(), "disk")?.read(0, 1)? == [OLD; 512]);
    target.stop()?;
    Ok(())
}

#[test]
fn a_task_tag_in_use_is_rejected_and_its_owner_goes_on() -> Result<()> {
    const TASK_IN_PROGRESS: u8 = 7;
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let write = client.start(&write_10(0, 8), Data::Out(4096, &[]))?;
    let r2t = client.answer(response::R2T, write.tag_of())?;
    let second = client.command(&read_10(0, 8), Data::In(4096)).tag(write.tag_of());
    client.send(&second)?;
    let reject = client.receive_answering()?;
    ensure!(reject.opcode() == response::REJECT && reject.header[2] == TASK_IN_PROGRESS, "{reject:?}");
    ensure!(reject.data.starts_with(&second.header[..4]), "a reject carries the header that it refuses");
    client.send_data(&write, &r2t, &[OLD; 4096])?;
    client.finish(&write, &[])?.good()?;
    ensure!(client.read(0, 8)? == [OLD; 4096]);
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn frames_in_pieces_are_put_together() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut client = Login::to(&target_name("disk")).digests().attach(target.iscsi_address())?;
    let mut numbers = Random(5);
    for round in 0..20 {
        let data = random(round, 16 * BLOCK);
        let write = client.command(&write_10(8, 16), Data::Out(data.len() as u32, &data));
        let read = client.command(&read_10(8, 16), Data::In(data.len() as u32));
        let bytes = [client.frame(&write), client.frame(&read)].concat();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + numbers.below(900) as usize).min(rest.len()));
            client.send_bytes(piece)?;
            rest = after;
        }
        client.finish(&write, &[])?.good()?;
        client.finish(&read, &[])?.good()?; // in flight with the write: either bytes
        ensure!(client.read(8, 16)? == data, "round {round}");
    }
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn long_writes_come_in_many_bursts() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let usual = Login::to(&target_name("disk"));
    let logins = [
        usual.clone(),
        usual.clone().key("InitialR2T", "No").key("FirstBurstLength", "262144"),
        usual.clone().key("MaxOutstandingR2T", "8").key("MaxBurstLength", "65536"),
        usual.digests().key("MaxBurstLength", "16384").key("MaxRecvDataSegmentLength", "4096"),
    ];
    for (round, login) in logins.into_iter().enumerate() {
        let mut client = login.attach(target.iscsi_address())?;
        let first_burst: usize = client.key("FirstBurstLength").unwrap_or("65536").parse()?;
        for (blocks, immediate) in
            [(100, 0), (1024, 8192), (1920, 0), (2048, first_burst), (4097, 4096), (8192, 0)]
        {
            let data = random(blocks as u64 + round as u64, blocks * BLOCK);
            let immediate = &data[..immediate.min(first_burst)];
            let out = Data::Out(data.len() as u32, immediate);
            client.run(&write_10(3, blocks as u16), out, &data)?.good()?;
            let read = client.read(3, blocks as u16)?;
            let wrong = read.iter().zip(&data).position(|(read, written)| read != written);
            ensure!(wrong.is_none(), "round {round}, {blocks} blocks: wrong from byte {wrong:?} on");
        }
        client.logout()?;
    }
    target.stop()?;
    Ok(())
}
