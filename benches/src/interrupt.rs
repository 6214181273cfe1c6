//! Ctrl-C and SIGTERM end a run in order: servers are stopped and their files removed.
//!
//! Rule: a signal only sets a mark; whoever is about to begin something looks at it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes the signals from now on; call it before any thread is started. Children are not affected.
pub fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
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

/// An error once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
