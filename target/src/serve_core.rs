//! One core of the node: its volumes, its clients, and the inbox through which control speaks to it.

use crate::fault::Fault;
use crate::message::Ask;
use crate::settings::CoreSettings;

/// The control thread's end of one core.
#[derive(Clone)]
pub struct CoreHandle {}

impl CoreHandle {
    /// Queues `ask` for the core; `false` when the core has ended (the ask is dropped, its reply with it).
    pub fn send(&self, ask: Ask) -> bool {
        drop(ask);
        false
    }
}

/// The running cores and their threads.
pub struct Cores {}

impl Cores {
    /// Starts one pinned thread a CPU of `settings`. Fails with what to do about it where the kernel offers no io_uring.
    pub fn start(settings: &CoreSettings) -> Result<Cores, Fault> {
        let _ = settings;
        Ok(Cores {})
    }

    /// In the order of `CoreSettings::cpus`.
    pub fn handles(&self) -> &[CoreHandle] {
        &[]
    }

    /// Waits for the threads, after each was asked to stop.
    pub fn join(self) {}
}
