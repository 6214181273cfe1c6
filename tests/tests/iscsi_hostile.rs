//! Initiators that break the protocol get what RFC 7143 says, or lose their connection; nobody else notices, and
//! nothing that they should not have sent is written.

use std::net::Shutdown;

use anyhow::{Context, Result, bail, ensure};
use tests::iscsi::{
    BLOCK, Client, Data, INITIATOR, Login, NO_TAG, Pdu, Refusal, Taken, read_10, request, response,
    target_name, write_10,
};
use tests::scratch::random;
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

/// What must never be found on the disk.
const BAD: u8 = 0xee;

fn start(settings: &[&str]) -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M");
    let launch = settings.iter().fold(launch, |launch, line| launch.iscsi_setting(line));
    Ok((scratch, launch.start()?))
}

fn bounded(target: &mut Target, before: u64) -> Result<()> {
    target.assert_alive()?;
    target.assert_serves_iscsi("disk")?;
    let after = target.resident_bytes()?;
    ensure!(after < before + 32 * MIB, "resident memory grew from {before} to {after} bytes");
    Ok(())
}

#[test]
fn garbage_instead_of_a_login_ends_only_that_connection() -> Result<()> {
    let (_scratch, mut target) = start(&["login_timeout = \"2s\""])?;
    let mut witness = Login::to(&target_name("disk")).isid(9).attach(target.iscsi_address())?;
    let before = target.resident_bytes()?;
    for seed in 0..200 {
        let mut client = Client::connect(target.iscsi_address())?;
        let mut garbage = random(seed, 4096);
        if seed % 4 == 0 {
            garbage[0] = request::LOGIN | request::IMMEDIATE;
            garbage[4] = 0;
        }
        // the target may close before all of it is sent
        let _ = client.send_bytes(&garbage);
        let _ = client.stream().shutdown(Shutdown::Write);
        client.ended().with_context(|| format!("seed {seed}"))?;
        witness.write(seed as u32, &[7; 512])?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn garbage_in_a_session_ends_at_most_that_session() -> Result<()> {
    let (_scratch, mut target) = start(&["ping_interval = \"500ms\"", "ping_timeout = \"1s\""])?;
    let before = target.resident_bytes()?;
    for seed in 0..200 {
        let mut client = Client::attach(target.iscsi_address(), "disk")?;
        let mut garbage = random(seed, 8192);
        if seed % 2 == 0 {
            // a known request with any other fields, and no more than a little data
            garbage[0] = [0, 1, 2, 4, 5, 6, 0x10][seed as usize / 2 % 7] | (seed as u8 & 0x40);
            garbage[4..7].fill(0);
        }
        let _ = client.send_bytes(&garbage);
        if seed % 8 != 0 {
            let _ = client.stream().shutdown(Shutdown::Write);
        }
        client.ended().with_context(|| format!("seed {seed}"))?;
        target.assert_serves("disk")?;
    }
    target.await_clients(0)?;
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn requests_that_cannot_be_right_are_rejected_or_end_the_session() -> Result<()> {
    const PROTOCOL_ERROR: u8 = 4;
    const NOT_SUPPORTED: u8 = 5;
    const INVALID_FIELD: u8 = 9;
    let (_scratch, mut target) = start(&[])?;
    let unknown = |client: &mut Client| client.request(0x1d).flags(0x80);
    let snack = |client: &mut Client| client.request(request::SNACK | request::IMMEDIATE).flags(0x80);
    let login = |client: &mut Client| client.request(request::LOGIN | request::IMMEDIATE).flags(0x87);
    let target_opcode = |client: &mut Client| client.request(response::DATA_IN).flags(0x80);
    let long_cdb = |client: &mut Client| {
        // additional headers that are announced and not there
        client.command(&[0; 6], Data::None).byte(4, 1).data(b"\0\xff\x09zzz".to_vec())
    };
    type Make = dyn Fn(&mut Client) -> Pdu;
    let cases: [(&str, &Make, &[u8]); 5] = [
        ("an unknown opcode", &unknown, &[NOT_SUPPORTED, PROTOCOL_ERROR]),
        ("a SNACK", &snack, &[3, NOT_SUPPORTED, PROTOCOL_ERROR]),
        ("a login in a session", &login, &[PROTOCOL_ERROR, NOT_SUPPORTED]),
        ("an opcode of targets", &target_opcode, &[NOT_SUPPORTED, PROTOCOL_ERROR]),
        (
            "an additional header of an unknown kind",
            &long_cdb,
            &[PROTOCOL_ERROR, NOT_SUPPORTED, INVALID_FIELD],
        ),
    ];
    for (what, make, reasons) in cases {
        let mut client = Client::attach(target.iscsi_address(), "disk")?;
        let pdu = make(&mut client);
        client.send(&pdu)?;
        match client.taken().context(what)? {
            Taken::Ended => {}
            Taken::Rejected(reason) => ensure!(reasons.contains(&reason), "{what}: reason {reason}"),
            taken => bail!("{what}: {taken:?}"),
        }
        target.assert_alive()?;
    }
    target.assert_serves_iscsi("disk")?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_segment_longer_than_the_target_takes_costs_no_memory() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let before = target.resident_bytes()?;
    for number in 0..20 {
        let login = Login::to(&target_name("disk")).isid(20 + number);
        let mut client = login.attach(target.iscsi_address())?;
        let pdu = client.command(&write_10(0, 8), Data::Out(4096, &[]));
        let mut frame = client.frame(&pdu);
        frame[5..8].fill(0xff);
        client.send_bytes(&frame)?;
        let _ = client.send_bytes(&vec![BAD; 1 << 20]);
        let _ = client.stream().shutdown(Shutdown::Write);
        client.ended()?;
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn text_without_end_costs_no_memory() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let before = target.resident_bytes()?;
    for number in 0..20 {
        let login = Login::to(&target_name("disk")).isid(20 + number);
        let mut client = login.attach(target.iscsi_address())?;
        let mut transfer_tag = NO_TAG;
        for _ in 0..1000 {
            let pdu = client
                .request(request::TEXT)
                .flags(0x40)
                .tag(5)
                .word(20, transfer_tag)
                .data(vec![b'X'; 8192]);
            if client.send(&pdu).is_err() {
                break;
            }
            let Ok(answer) = client.receive_answering() else { break };
            if answer.opcode() == response::REJECT {
                break;
            }
            transfer_tag = answer.word_at(20);
        }
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_login_without_end_is_refused() -> Result<()> {
    let (_scratch, mut target) = start(&["login_timeout = \"3s\""])?;
    let before = target.resident_bytes()?;
    let login = Login::to(&target_name("disk"));
    for _ in 0..20 {
        let mut client = Client::connect(target.iscsi_address())?;
        let more = login.request(&client, 0x44).data(vec![b'X'; 8000]);
        let mut status = 0;
        for _ in 0..10_000 {
            let answer = client.send(&more).and_then(|()| client.receive());
            let Ok(answer) = answer else { break };
            status = answer.header[36];
            if status != 0 {
                break;
            }
        }
        client.ended()?;
        ensure!(status != 3, "not the target's fault");
    }
    bounded(&mut target, before)?;
    target.stop()?;
    Ok(())
}

#[test]
fn logins_that_cannot_be_right_are_refused() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let names =
        format!("InitiatorName={INITIATOR}\0SessionType=Normal\0TargetName={}\0", target_name("disk"));
    let with = |more: &str| [names.as_bytes(), more.as_bytes()].concat();
    let cases: [(&str, u8, Vec<u8>, &[u8]); 7] = [
        ("no initiator's name", 0x87, b"SessionType=Discovery\0".to_vec(), &[0, 7]),
        ("no target's name", 0x87, format!("InitiatorName={INITIATOR}\0").into_bytes(), &[0, 7]),
        ("a key twice", 0x87, with("MaxBurstLength=512\0MaxBurstLength=512\0"), &[0]),
        ("text that is no pair", 0x87, with("MaxBurstLength\0"), &[0]),
        ("a number that is none", 0x87, with("MaxBurstLength=many\0"), &[0]),
        ("a stage that does not exist", 0x8b, with(""), &[0, 0x0b]),
        ("the next stage is an earlier one", 0x84, with(""), &[0, 0x0b]),
    ];
    for (what, flags, data, details) in cases {
        let mut client = Client::connect(target.iscsi_address())?;
        let login = Login::to(&target_name("disk"));
        let pdu = login.request(&client, flags).data(data);
        client.send(&pdu)?;
        let Ok(answer) = client.receive() else { continue }; // closed without a word: lawful as well
        let refusal = Refusal { class: answer.header[36], detail: answer.header[37] };
        // a number that is none may be answered with Reject, by which the key keeps its default
        let is_rejected_key = answer.data.windows(7).any(|window| window == b"=Reject");
        let is_refused = refusal.class == 2 && details.contains(&refusal.detail);
        ensure!(is_refused || is_rejected_key, "{what}: {refusal:?}");
        if is_refused {
            client.ended().context(what)?;
        }
    }
    let mut client = Client::connect(target.iscsi_address())?;
    let version = Login::to(&target_name("disk")).request(&client, 0x87).byte(2, 1).byte(3, 1).data(with(""));
    client.send(&version)?;
    let answer = client.receive()?;
    assert_eq!((answer.header[36], answer.header[37]), (2, 5), "a version that does not exist");
    target.assert_serves_iscsi("disk")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn unknown_keys_are_not_understood_and_do_no_harm() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let login =
        Login::to(&target_name("disk")).key("X-org.example.colour", "blue").key("MaxBurstLength", "1024");
    let mut client = login.attach(target.iscsi_address())?;
    assert_eq!(client.key("X-org.example.colour"), Some("NotUnderstood"));
    assert_eq!(client.key("MaxBurstLength"), Some("1024"));
    let data = random(1, 32 * BLOCK);
    client.write(0, &data)?;
    ensure!(client.read(0, 32)? == data, "bursts of 1024 bytes");
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn anything_but_a_login_before_it_ends_the_connection() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    for opcode in
        [request::NOP_OUT, request::COMMAND, request::MANAGEMENT, request::TEXT, request::DATA_OUT, 0x3f]
    {
        let mut client = Client::connect(target.iscsi_address())?;
        let pdu = client.request(opcode).flags(0x80).data(vec![BAD; 512]);
        client.send(&pdu)?;
        client.ended().with_context(|| format!("opcode {opcode:#x}"))?;
    }
    target.assert_serves_iscsi("disk")?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn cdbs_that_cannot_be_right_are_checked() -> Result<()> {
    const ILLEGAL_REQUEST: u8 = 5;
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let inquiry = [0x12, 0, 0x80, 0, 255, 0]; // a page without EVPD
    type Case<'a> = (&'a str, &'a [u8], (u8, u8), Option<u16>);
    let cases: [Case<'_>; 4] = [
        ("an unknown operation", &[0xfe, 0, 0, 0, 0, 0], (0x20, 0), None),
        ("a read beyond the end", &read_10(32768, 1), (0x21, 0), None),
        ("a read across the end", &read_10(32767, 2), (0x21, 0), None),
        ("a field", &inquiry, (0x24, 0), Some(2)),
    ];
    for (what, cdb, (code, qualifier), byte) in cases {
        let answer = client.run(cdb, Data::In(1024), &[])?;
        ensure!(answer.code() == Some((ILLEGAL_REQUEST, code, qualifier)), "{what}: {answer:?}");
        if let Some(byte) = byte {
            // sense key specific data of the fixed format: valid, in the CDB, and which byte
            ensure!(
                answer.sense.get(15).is_some_and(|flags| flags & 0xc0 == 0xc0),
                "{what}: {:x?}",
                answer.sense
            );
            ensure!(answer.sense[16..18] == byte.to_be_bytes(), "{what}: {:x?}", answer.sense);
        }
    }
    client.lun = 7;
    let answer = client.run(&[0; 6], Data::None, &[])?;
    assert_eq!(answer.code(), Some((ILLEGAL_REQUEST, 0x25, 0)), "a unit that is not there");
    client.lun = 0;
    client.write(0, &[1; 512])?;
    client.logout()?;
    target.stop()?;
    Ok(())
}

#[test]
fn cut_frames_at_every_byte_do_no_harm() -> Result<()> {
    let (_scratch, mut target) = start(&[])?;
    let login = Login::to(&target_name("disk"));
    let mut client = Client::connect(target.iscsi_address())?;
    let text = format!("InitiatorName={INITIATOR}\0SessionType=Discovery\0").into_bytes();
    let first = login.request(&client, 0x87).data(text).frame(false, false);
    for cut in 0..first.len() {
        client.send_bytes(&first[..cut])?;
        client = Client::connect(target.iscsi_address())?;
    }
    for cut in (0..48 + 512).step_by(7) {
        let mut client = login.attach(target.iscsi_address())?;
        let write = client.command(&write_10(0, 1), Data::Out(512, &[BAD; 512]));
        let frame = client.frame(&write);
        client.send_bytes(&frame[..cut])?;
    }
    target.assert_serves_iscsi("disk")?;
    ensure!(login.attach(target.iscsi_address())?.read(0, 1)? == [0; 512], "half a write was carried out");
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}
