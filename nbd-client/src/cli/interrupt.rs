//! SIGINT and SIGTERM: the first asks for an end in order, the second ends at once.
//!
//! Its one rule: it is called before there are threads, so that all of them leave the signals to one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::Exit;

/// Which signal came, if one did.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// From now on signals call `stop`.
    pub(super) fn watch(stop: impl Fn() + Send + 'static) -> Interrupt {
        let interrupt = Interrupt::default();
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        // a file that may not grow is an error of the call, no reason to be killed
        let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
        if signals.thread_block().is_err() {
            return interrupt; // then a signal ends us as it ends any program
        }
        let seen = Arc::clone(&interrupt.0);
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if seen.swap(signal as i32, Ordering::Relaxed) != 0 {
                    std::process::exit(128 + signal as i32);
                }
                stop();
            }
        });
        interrupt
    }

    /// The exit status of a command that was ended by a signal.
    pub(super) fn exit(&self) -> Exit {
        let is_terminated = self.0.load(Ordering::Relaxed) == Signal::SIGTERM as i32;
        if is_terminated { Exit::Terminated } else { Exit::Interrupted }
    }
}
