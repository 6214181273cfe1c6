//! Every installed NBD client against the daemon, by the table of cases in `judges/nbd_tools.py`.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use tests::certificates::Certificates;
use tests::skip::lacks;
use tests::tool::said;
use tests::{Launch, MIB, Scratch, Tool, backings};

#[test]
fn memory_satisfies_every_client() -> Result<()> {
    judge(0)
}

#[test]
fn a_direct_file_satisfies_every_client() -> Result<()> {
    judge(1)
}

#[test]
fn a_buffered_file_satisfies_every_client() -> Result<()> {
    judge(2)
}

fn judge(backing: usize) -> Result<()> {
    if lacks(&["nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "qemu-io", "qemu-nbd", "nbd-client", "fio"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let socket = scratch.join("nbd.sock");
    let plain = Launch::new(&scratch)
        .volume(&backings(&scratch, 128 * MIB)[backing])
        .volume("ro=memory,size=64M,readonly")
        .portal(format!("unix:{}", socket.display()))
        .start()?;
    let tls_scratch = Scratch::new()?;
    let certificates = Certificates::make(&tls_scratch.join("certificates"))?;
    let secure = Launch::new(&tls_scratch)
        .volume(&backings(&tls_scratch, 128 * MIB)[backing])
        .tls("require", &certificates)
        .start()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/nbd_tools.py");
    let address = plain.address().to_string();
    let output = Tool::new("/usr/bin/python3")
        .arg(script)
        .args([&address, "disk", "--ro", &address, "ro"])
        .arg("--unix")
        .arg(&socket)
        .arg("disk")
        .args(["--tls", &secure.address().to_string(), "disk"])
        .arg(certificates.folder())
        .seconds(400)
        .output()?;
    tell(&said(&output));
    ensure!(output.status.success(), "{}", said(&output));
    plain.stop()?;
    secure.stop()?;
    Ok(())
}

/// Past the test runner's capture: the judge's count, and what it could not try.
fn tell(output: &str) {
    let wanted = output.lines().filter(|line| line.starts_with("SKIP") || line.contains(" passed, "));
    for line in wanted {
        let _ = writeln!(std::io::stderr(), "   judge: {line}");
    }
}
