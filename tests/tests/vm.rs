//! A guest machine: its kernel attaches over NBD and iSCSI, and its emulated NVMe drive is a backing. Correctness
//! only; an emulated machine says nothing about speed. `tests/run vm` prepares it and runs these.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use tests::skip::skip;
use tests::target::Target;
use tests::tool::said;
use tests::{Launch, MIB, Scratch, Tool, iscsi};

#[test]
fn the_kernel_attaches_with_one_connection() -> Result<()> {
    attach(1, "disk=memory,size=256M")
}

#[test]
fn the_kernel_attaches_with_four_connections() -> Result<()> {
    attach(4, "disk=disk.img,size=256M")
}

#[test]
fn nvme_passthrough_is_polled() -> Result<()> {
    nvme("auto", "/dev/ng0n1", "256M")
}

#[test]
fn nvme_passthrough_with_4096_byte_sectors_is_polled() -> Result<()> {
    nvme("auto", "/dev/ng0n1", "256M,logical_block_size=4096,physical_block_size=4096")
}

#[test]
fn an_nvme_drive_as_block_device_is_polled() -> Result<()> {
    nvme("auto", "/dev/nvme0n1", "256M")
}

#[test]
fn nvme_passthrough_works_on_the_oldest_kernel_tested() -> Result<()> {
    nvme("6.1", "/dev/ng0n1", "256M")
}

#[test]
fn the_kernels_iscsi_initiator_is_content() -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new()?;
    let launch = Launch::new(&scratch).two_cores().iscsi();
    let (portal, prefix) = (format!("10.0.2.2:{}", launch.iscsi_address().port()), iscsi::target_name(""));
    let (calls, answers) = (scratch.pipe("calls")?, scratch.pipe("answers")?);
    let hook = |name| format!("{name}=echo {name} >{} && head -n 1 {}", calls.display(), answers.display());
    let hooks = ["resize", "restart", "crash"].map(hook);
    let options: Vec<&str> = hooks.iter().flat_map(|hook| ["--hook", hook]).collect();
    let Some(guest) = guest(&options, "iscsi.sh") else { return Ok(()) };
    let users = "users = [{ name = \"alice\", secret = \"a-secret-of-alice\" }]";
    let mutual = format!("{users}\nmutual = {{ name = \"target\", secret = \"the-targets-secret\" }}");
    let tables = iscsi::target_table("chap", users, &[("chap", "")])
        + &iscsi::target_table("mutual", &mutual, &[("mutual", "")]);
    let target = launch
        .iscsi_setting(&format!("advertise = [\"{portal}\"]"))
        .volume("chap=memory,size=64M")
        .volume("mutual=memory,size=64M")
        .tables(&tables)
        .start()?;
    let file = scratch.join("disk.img").display().to_string();
    target.control(&["volume", "create", "disk", "--backing", &file, "--size", "128M"])?.ok()?;
    let host = std::thread::spawn({
        let calls = calls.clone();
        move || answer_calls(target, &calls, &answers)
    });
    let words = [&portal, prefix.trim_end_matches(':'), &(128 * MIB).to_string(), &(160 * MIB).to_string()];
    let result = finish(guest.args(words));
    // opened for both, it waits for no reader
    writeln!(fs::File::options().read(true).write(true).open(&calls)?, "end")?;
    let target = host.join().expect("the host's side does not panic");
    result?;
    target?.stop()?;
    Ok(())
}

/// Does what the guest asks for through the pipe `calls`, and tells it by `answers`, until the guest's end.
fn answer_calls(mut target: Target, calls: &Path, answers: &Path) -> Result<Target> {
    // opened for both, neither waits for the other side, nor loses what it has not read yet
    let open = |path| fs::File::options().read(true).write(true).open(path);
    let mut answers = open(answers)?;
    for call in BufReader::new(open(calls)?).lines() {
        match call?.as_str() {
            "resize" => drop(target.control(&["volume", "resize", "disk", "160M"])?.ok()?),
            "restart" => target = target.stop()?.start()?,
            "crash" => target = target.kill()?.start()?,
            _ => break,
        }
        writeln!(answers, "done")?;
    }
    Ok(target)
}

/// One guest at a time: each keeps two CPUs busy.
static TURN: Mutex<()> = Mutex::new(());

fn attach(connections: u32, volume: &str) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(guest) = guest(&[], "attach.sh") else { return Ok(()) };
    let scratch = Scratch::new()?;
    let target = Launch::new(&scratch).two_cores().volume(volume).start()?;
    let (port, bytes) = (target.address().port().to_string(), (256 * MIB).to_string());
    finish(guest.args(["10.0.2.2", &port, "disk", &bytes, &connections.to_string()]))?;
    target.stop()?;
    Ok(())
}

fn nvme(kernel: &str, backing: &str, drive: &str) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let binary = format!("{}:/usr/local/bin/ringsan", tests::launch::binary()?.display());
    let options =
        ["--kernel", kernel, "--nvme", drive, "--poll-queues", "1", "--modules", "nvme", "--bin", &binary];
    let Some(guest) = guest(&options, "nvme.sh") else { return Ok(()) };
    finish(guest.args([backing, "IOPOLL"]))
}

fn guest(options: &[&str], script: &str) -> Option<Tool> {
    if std::env::var_os("RINGSAN_VM").is_none() && skip("boots a virtual machine: tests/run vm") {
        return None;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm");
    let vmrun: PathBuf = folder.join("vmrun");
    let check = Tool::new(&vmrun).arg("check").output();
    if !check.is_ok_and(|output| output.status.success())
        && skip("no virtual machine here: see tests/vm/prepare")
    {
        return None;
    }
    // an emulated machine on busy cores is slow: the limits only end what hangs
    Some(Tool::new(vmrun).args(["--timeout", "240"]).args(options).arg(folder.join(script)).seconds(270))
}

fn finish(guest: Tool) -> Result<()> {
    let output = guest.output()?;
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(said(&output).contains("== done"), "the guest did not come to its end:\n{}", said(&output));
    Ok(())
}
