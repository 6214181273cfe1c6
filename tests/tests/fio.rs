//! fio writes and verifies through its NBD engine: several jobs, each a connection of its own.

use anyhow::{Context, Result};
use tests::skip::lacks;
use tests::{Launch, MIB, Scratch, Tool, backings};

#[test]
fn four_jobs_verify_what_they_wrote() -> Result<()> {
    if lacks(&["fio"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 128 * MIB) {
        let target = Launch::new(&scratch).two_cores().volume(&backing).start()?;
        let job = [
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=32",
            "--numjobs=4",
            "--size=24m",
            "--offset_increment=32m",
        ];
        verify(&target.uri("disk"), &scratch, &job).with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

#[test]
fn mixed_sizes_with_flushes_verify() -> Result<()> {
    if lacks(&["fio"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    for backing in backings(&scratch, 128 * MIB) {
        let target = Launch::new(&scratch).volume(&backing).start()?;
        let job =
            ["--rw=randrw", "--bsrange=512-256k", "--iodepth=16", "--numjobs=2", "--size=32m", "--fsync=32"];
        verify(&target.uri("disk"), &scratch, &[&job[..], &["--offset_increment=64m"]].concat())
            .with_context(|| backing.clone())?;
        target.stop()?;
    }
    Ok(())
}

fn verify(uri: &str, scratch: &Scratch, job: &[&str]) -> Result<String> {
    let common = [
        "--name=job",
        "--ioengine=nbd",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--randseed=1",
        "--output=/dev/null",
    ];
    Tool::new("fio").args(common).arg(format!("--uri={uri}")).args(job).folder(scratch.path()).ok()
}
