//! Ctrl-C and SIGTERM end a run in order: servers are stopped and their files removed.
//!
//! Rule: a signal only sets a mark; whoever is about to begin something looks at it.

use std::io;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes the signals from now on; call it before any thread is started.
pub fn watch() -> Result<()> {
    let signals = signals();
    signals.thread_block().context("cannot take signals")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                eprintln!("interrupted again: leaving servers behind");
                std::process::exit(130);
            }
            eprintln!("interrupted: stopping the servers");
        }
    });
    Ok(())
}

/// Spawns `command` with the signals let through: a child inherits what its parent holds back.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let before = signals().thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
