//! Operators' commands under way, and what the last verification has found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use reactor::io as verbs;
use reactor::sync::{Giver, one_shot};
use replication::{Command, CommandId, Event, Refusal};

use super::Mirror;
use crate::message::Reply;
use crate::snapshot::VerificationSnapshot;

/// A node that stops waits so long for another to take the lead.
const STEP_DOWN: Duration = Duration::from_secs(2);
/// At most so many differences are listed.
const DIFFERENCES_MAX: usize = 64;

/// Commands that have not been answered.
#[derive(Default)]
pub struct Commands {
    next: Cell<u64>,
    pending: RefCell<BTreeMap<u64, (Command, Asker)>>,
    verification: RefCell<Option<VerificationSnapshot>>,
}

/// Who waits for the answer.
enum Asker {
    Operator(Reply<Result<(), Refusal>>),
    Here(Giver<Result<(), Refusal>>),
}

impl Mirror {
    /// Gives an operator's command to the machine; `reply` gets its answer.
    pub fn command(&self, command: Command, reply: Reply<Result<(), Refusal>>) {
        self.ask(command, Asker::Operator(reply));
    }

    /// Gives the lead to another member, if this replica has it and there is one; waits for that, but not for long.
    pub async fn step_down(&self) {
        if !self.machine.borrow().leads() || self.settings().replicas.len() == 1 {
            return;
        }
        let (giver, taker) = one_shot();
        self.ask(Command::Demote, Asker::Here(giver));
        let late = || drop(self.commands.pending.take());
        let answer = verbs::with_deadline(self.core.now() + STEP_DOWN, taker, late).await;
        match answer {
            Some(Ok(())) => tracing::info!(volume = self.name(), "the lead is given up"),
            Some(Err(refusal)) => tracing::info!(volume = self.name(), "the lead is kept: {refusal}"),
            None => tracing::warn!(volume = self.name(), "the lead was not taken over in {STEP_DOWN:?}"),
        }
    }

    fn ask(&self, command: Command, asker: Asker) {
        let id = self.commands.next.get();
        self.commands.next.set(id + 1);
        self.commands.pending.borrow_mut().insert(id, (command, asker));
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
        let Some((what, asker)) = self.pending.borrow_mut().remove(&command.0) else { return };
        if matches!(what, Command::Verify { .. }) && result.is_err() {
            self.verification.replace(None);
        }
        match asker {
            Asker::Operator(reply) => drop(reply.send(result)),
            Asker::Here(giver) => giver.give(result),
        }
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
