//! Requests that meet each other within one turn of the target: what was aborted before it began, answered before
//! its data was judged, or stopped before its data was asked for. Nothing of it may cost more than its own session.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::device::FuseFile;
use tests::iscsi::{
    Client, Data, Login, NO_TAG, Pdu, Taken, function, read_10, request, response, target_name, target_table,
    write_10,
};
use tests::skip::{lacks, lacks_root_and};
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

/// TEST UNIT READY.
const READY: [u8; 6] = [0; 6];
const BEYOND: u32 = 0x7fff_0000;

fn start(settings: &[&str]) -> Result<(Scratch, Target)> {
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).iscsi().volume("disk=memory,size=16M");
    let launch = settings.iter().fold(launch, |launch, line| launch.iscsi_setting(line));
    Ok((scratch, launch.start()?))
}

fn fine(mut target: Target) -> Result<()> {
    target.assert_alive()?;
    target.assert_serves_iscsi("disk")?;
    target.stop()?;
    Ok(())
}

/// Sends requests in the order of their numbers but for the first, which comes last.
fn send_late(client: &mut Client, requests: &[Pdu]) -> Result<()> {
    let (first, others) = requests.split_first().context("there are some")?;
    others.iter().chain([first]).try_for_each(|request| client.send(request))
}

fn manage(client: &mut Client, function: u8, referenced: &Pdu, immediate: u8) -> Pdu {
    let request = client.request(request::MANAGEMENT | immediate).flags(0x80 | function);
    request.word(20, referenced.tag_of()).word(32, referenced.word_at(24))
}

#[test]
fn a_command_that_is_refused_before_its_data_is_judged_ends_once() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    for key in ["Yes", "No"] {
        let login = Login::to(&target_name("disk")).key("ImmediateData", "No").key("InitialR2T", key);
        let mut client = login.attach(target.iscsi_address())?;
        for cdb in [write_10(BEYOND, 1), write_10(0, 0), read_10(0, 1)] {
            let command = client.start(&cdb, Data::Out(512, &[1; 512]))?;
            let taken = client.taken()?;
            ensure!(taken == Taken::Status(2) || cdb[0] == 0x28, "{command:?}: {taken:?}");
        }
        client.ping()?;
    }
    fine(target)
}

#[test]
fn commands_that_are_aborted_in_the_turn_in_which_they_begin_do_not_run() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    for function in [function::ABORT_TASK, function::ABORT_TASK_SET, function::LUN_RESET] {
        for immediate in [0, request::IMMEDIATE] {
            let mut client = Client::attach(target.iscsi_address(), "disk")?;
            let first = client.command(&READY, Data::None);
            let read = client.command(&read_10(0, 8), Data::In(4096));
            let write = client.command(&write_10(0, 1), Data::Out(512, &[1; 512]));
            let refused = client.command(&write_10(BEYOND, 1), Data::Out(512, &[1; 512]));
            let management = manage(&mut client, function, &read, immediate);
            let mut answered = vec![management.tag_of()];
            if function == function::ABORT_TASK {
                answered.extend([first.tag_of(), write.tag_of(), refused.tag_of()]);
            }
            send_late(&mut client, &[first, read, write, refused, management])?;
            while !answered.is_empty() {
                let pdu = client.receive_answering()?;
                let at = answered.iter().position(|tag| *tag == pdu.tag_of());
                answered.remove(at.with_context(|| format!("an answer to nobody: {pdu:?}"))?);
            }
            client.ping().context("the session goes on")?;
        }
    }
    fine(target)
}

#[test]
fn a_logout_ends_commands_that_begin_in_its_turn() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let mut client = Client::attach(target.iscsi_address(), "disk")?;
    let first = client.command(&READY, Data::None);
    let read = client.command(&read_10(0, 8), Data::In(4096));
    let logout = client.request(request::LOGOUT).flags(0x80);
    send_late(&mut client, &[first, read, logout])?;
    client.ended()?;
    fine(target)
}

#[test]
fn pings_that_nobody_reads_the_answers_of_are_not_buffered() -> Result<()> {
    let (_scratch, mut target) = start(&["stall_timeout = \"30s\""])?;
    let client = Client::attach(target.iscsi_address(), "disk")?;
    let before = target.resident_bytes()?;
    let ping = Pdu::new(request::NOP_OUT | request::IMMEDIATE).flags(0x80).tag(7).word(20, NO_TAG);
    let frame = client.frame(&ping.data(vec![5; 256 << 10]));
    client.stream().set_write_timeout(Some(Duration::from_millis(200)))?;
    let mut sent = 0;
    while sent < 256 * MIB && (&mut client.stream()).write_all(&frame).is_ok() {
        sent += frame.len() as u64;
    }
    let after = target.resident_bytes()?;
    ensure!(after < before + 48 * MIB, "{sent} bytes of pings: memory grew from {before} to {after}");
    drop(client);
    target.await_clients(0)?;
    target.assert_alive()?;
    fine(target)
}

#[test]
fn a_stop_does_not_wait_for_data_that_nobody_will_ask_for() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let login = Login::to(&target_name("disk")).key("InitialR2T", "No");
    let mut client = login.attach(target.iscsi_address())?;
    // one waits for its unsolicited data, one behind it in order, two for their turn to be collected
    let mut unsolicited = client.command(&write_10(0, 16), Data::Out(8192, &[]));
    unsolicited.header[1] &= 0x7f;
    let mut ordered = client.command(&write_10(0, 16), Data::Out(8192, &[]));
    ordered.header[1] = ordered.header[1] & !7 | 2;
    client.send(&unsolicited)?;
    client.send(&ordered)?;
    for _ in 0..2 {
        let mut verify = write_10(0, 256);
        (verify[0], verify[1]) = (0x2f, 2);
        let mut command = client.command(&verify, Data::Out(256 * 512, &[]));
        command.header[1] = command.header[1] & !7 | 3;
        client.send(&command)?;
    }
    client.ping().ok();
    let began = Instant::now();
    target.stop()?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(7), "the stop took {took:?}");
    Ok(())
}

#[test]
fn only_a_clear_or_a_reset_ends_the_tasks_of_another_initiator() -> Result<()> {
    let (_scratch, target) = start(&[])?;
    let attach = |number| Login::to(&target_name("disk")).isid(number).attach(target.iscsi_address());
    let (mut one, mut two) = (attach(1)?, attach(2)?);
    two.start(&write_10(0, 1), Data::Out(512, &[]))?;
    two.ping().err().context("it is asked for its data first")?;
    ensure!(one.manage(function::ABORT_TASK_SET, None)? == 0, "the function is done");
    two.write(8, &[7; 512])?;
    ensure!(one.manage(function::CLEAR_TASK_SET, None)? == 0, "the function is done");
    let told = two.run(&READY, Data::None, &[])?;
    ensure!(told.code() == Some((6, 0x2f, 0)), "commands were cleared: {told:?}");
    drop((one, two));
    fine(target)
}

/// A target whose second unit lives on another core, or nowhere.
fn two_units(scratch: &Scratch) -> Result<Target> {
    let launch = Launch::new(scratch).two_cores().iscsi().volume("disk=memory,size=64M");
    let tables = target_table("both", "", &[("disk", ""), ("far", "")]);
    launch.volume("far=memory,size=256M").tables(&tables).start()
}

#[test]
fn long_reads_of_a_far_unit_that_nobody_takes_are_not_buffered() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = two_units(&scratch)?;
    let mut client = Login::to(&target_name("both")).session(target.iscsi_address())?;
    client.lun = 1;
    client.await_ready()?;
    let before = target.resident_bytes()?;
    for _ in 0..60 {
        client.start(&read_10(0, 32768), Data::In(16 << 20))?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let after = target.resident_bytes()?;
    ensure!(after < before + 160 * MIB, "memory grew from {before} to {after} bytes");
    client.await_ready().ok();
    drop(client);
    target.await_clients(0)?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn no_more_data_is_asked_for_than_a_command_can_take() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut target = two_units(&scratch)?;
    let mut client = Login::to(&target_name("both")).session(target.iscsi_address())?;
    client.lun = 1;
    client.await_ready()?;
    let command = client.start(&READY, Data::Out(u32::MAX, &[]))?;
    let data = vec![3; 1 << 20];
    let mut asked = 0;
    loop {
        let pdu = client.receive_answering()?;
        if pdu.opcode() != response::R2T {
            break;
        }
        let bytes = pdu.word_at(44);
        asked += u64::from(bytes);
        ensure!(asked <= 40 * MIB, "{asked} bytes were asked for");
        let (offset, transfer) = (pdu.word_at(40), pdu.word_at(20));
        for (number, piece) in data[..bytes as usize].chunks(128 << 10).enumerate() {
            let at = number * (128 << 10);
            let flags = if at + piece.len() == bytes as usize { 0x80 } else { 0 };
            let out = client.data_out(&command, transfer, number as u32, offset + at as u32, piece);
            client.send(&out.flags(flags))?;
        }
    }
    client.ping()?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

#[test]
fn task_management_is_heard_while_the_disk_hangs_with_all_that_a_session_may_hold() -> Result<()> {
    if lacks(&["nbdfuse", "nbdkit"]) || lacks_root_and(&["/dev/fuse"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let words = ["[", "nbdkit", "--exit-with-parent", "--filter=delay", "memory", "64M", "wdelay=600", "]"];
    let mut disk = FuseFile::mount(&scratch.join("fuse/disk"), words.to_vec())?;
    let launch = Launch::new(&scratch).iscsi().volume(format!("disk={}", disk.path().display()));
    let target = launch.iscsi_setting("inflight_bytes_max = \"1M\"").start()?;
    let login = Login::to(&target_name("disk")).key("FirstBurstLength", "262144");
    let mut client = login.attach(target.iscsi_address())?;
    let block = vec![1; 256 << 10];
    // not more: FUSE takes twelve requests of half that size, and then the kernel does not come back
    for number in 0..5 {
        client.start(&write_10(number * 512, 512), Data::Out(256 << 10, &block))?;
    }
    ensure!(client.is_quiet()?, "the disk was not stuck");
    let began = Instant::now();
    ensure!(client.manage(function::LUN_RESET, None)? == 0, "the reset is done");
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(10), "the reset took {took:?}");
    client.logout()?;
    disk.pull()?;
    target.await_clients(0)?;
    target.kill()?;
    Ok(())
}
