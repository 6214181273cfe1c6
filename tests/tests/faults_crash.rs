//! Ends in the middle of writes: what was flushed before is there after the next start.

use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::ledger::Ledger;
use tests::nbd::Client;
use tests::target::Target;
use tests::{Launch, Scratch};

const WRITERS: u64 = 4;
const BLOCKS: usize = 512;
const ROUNDS: u64 = 3;
/// Flushes that must be seen before the end comes.
const FLUSHES: usize = 60;

#[test]
fn killed_under_load_a_direct_file_keeps_every_flushed_write() -> Result<()> {
    rounds("direct.img,size=64M", Signal::SIGKILL)
}

#[test]
fn killed_under_load_a_buffered_file_keeps_every_flushed_write() -> Result<()> {
    rounds("buffered.img,size=64M,cache=buffered", Signal::SIGKILL)
}

#[test]
fn stopped_under_load_a_file_keeps_every_flushed_write() -> Result<()> {
    rounds("stopped.img,size=64M", Signal::SIGTERM)
}

fn rounds(backing: &str, signal: Signal) -> Result<()> {
    let scratch = Scratch::new()?;
    let volume = format!("disk={}/{backing}", scratch.path().display());
    let launch = Launch::new(&scratch).volume(volume).two_cores();
    let mut target = launch.start()?;
    let mut ledgers: Vec<Ledger> =
        (0..WRITERS).map(|writer| Ledger::new(writer * BLOCKS as u64, BLOCKS, writer)).collect();
    for round in 0..ROUNDS {
        target = one_round(target, &mut ledgers, signal).with_context(|| format!("round {round}"))?;
    }
    target.stop()?;
    Ok(())
}

fn one_round(target: Target, ledgers: &mut [Ledger], signal: Signal) -> Result<Target> {
    let address = target.address();
    let (flushed, seen) = mpsc::channel();
    let launch = thread::scope(|scope| {
        for ledger in ledgers.iter_mut() {
            let flushed = flushed.clone();
            scope.spawn(move || ledger.write_until_lost(address, "disk", &flushed));
        }
        drop(flushed);
        let count = seen.iter().take(FLUSHES).count();
        ensure!(count == FLUSHES, "the writers stopped after {count} flushes");
        if signal == Signal::SIGKILL { target.kill() } else { target.stop() }
    })?;
    let target = launch.start()?;
    let mut client = Client::attach(target.address(), "disk")?;
    for ledger in ledgers {
        ensure!(ledger.durable_blocks() > 0, "nothing was flushed");
        ledger.verify(&mut client)?;
    }
    Ok(target)
}
