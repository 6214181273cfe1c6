//! Operators' commands under way, and what the last verification has found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use replication::{Command, CommandId, Event, Refusal};

use super::Mirror;
use crate::message::Reply;
use crate::snapshot::VerificationSnapshot;

/// At most so many differences are listed.
const DIFFERENCES_MAX: usize = 64;

/// Commands that have not been answered.
#[derive(Default)]
pub struct Commands {
    next: Cell<u64>,
    pending: RefCell<BTreeMap<u64, (Command, Reply<Result<(), Refusal>>)>>,
    verification: RefCell<Option<VerificationSnapshot>>,
}

impl Mirror {
    /// Gives an operator's command to the machine; `reply` gets its answer.
    pub fn command(&self, command: Command, reply: Reply<Result<(), Refusal>>) {
        let id = self.commands.next.get();
        self.commands.next.set(id + 1);
        self.commands.pending.borrow_mut().insert(id, (command, reply));
        if let Command::Verify { repair } = command
            && !self.commands.verification.borrow().as_ref().is_some_and(|running| running.is_running)
        {
            let begun =
                VerificationSnapshot { is_running: true, repairs: repair, ..VerificationSnapshot::default() };
            self.commands.verification.replace(Some(begun));
        }
        self.handle(Event::Command { command: CommandId(id), what: command });
    }
}

impl Commands {
    /// The machine's answer.
    pub fn answer(&self, command: CommandId, result: Result<(), Refusal>) {
        let Some((what, reply)) = self.pending.borrow_mut().remove(&command.0) else { return };
        if matches!(what, Command::Verify { .. }) && result.is_err() {
            self.verification.replace(None);
        }
        let _ = reply.send(result);
    }

    /// A difference was found.
    pub fn differs(&self, peer: &str, offset: u64, length: u64) {
        if let Some(verification) = self.verification.borrow_mut().as_mut()
            && verification.differences.len() < DIFFERENCES_MAX
        {
            verification.differences.push((peer.to_owned(), offset, length));
        }
    }

    /// It has ended.
    pub fn verified(&self, bytes: u64, differing_bytes: u64) {
        if let Some(verification) = self.verification.borrow_mut().as_mut() {
            verification.is_running = false;
            verification.bytes = bytes;
            verification.differing_bytes = differing_bytes;
        }
    }

    /// What is known of the last one.
    pub fn verification(&self) -> Option<VerificationSnapshot> {
        self.verification.borrow().clone()
    }
}
