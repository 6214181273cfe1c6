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
    /// The last comparison, by the number of its command.
    verification: RefCell<Option<(u64, VerificationSnapshot)>>,
    /// The one before it.
    before: RefCell<Option<(u64, VerificationSnapshot)>>,
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
        self.ask(Command::HandOver, Asker::Here(giver));
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
        self.commands.begin(id, command);
        self.handle(Event::Command { command: CommandId(id), what: command });
    }
}

impl Commands {
    /// The machine's answer.
    pub fn answer(&self, command: CommandId, result: Result<(), Refusal>) {
        let Some((what, asker)) = self.pending.borrow_mut().remove(&command.0) else { return };
        if let (Command::Verify { .. }, Err(refusal)) = (what, &result) {
            self.failed(command.0, refusal);
        }
        match asker {
            Asker::Operator(reply) => drop(reply.send(result)),
            Asker::Here(giver) => giver.give(result),
        }
    }

    /// A comparison is asked for; one that is under way already stays the one that is told of.
    fn begin(&self, id: u64, command: Command) {
        let Command::Verify { repair } = command else { return };
        let mut current = self.verification.borrow_mut();
        if !current.as_ref().is_some_and(|(_, running)| running.is_running) {
            let begun = VerificationSnapshot { is_running: true, repairs: repair, ..Default::default() };
            self.before.replace(current.replace((id, begun)));
        }
    }

    /// It was refused, or could not go on. One that has compared nothing gives its place back.
    fn failed(&self, id: u64, refusal: &Refusal) {
        let mut current = self.verification.borrow_mut();
        let Some((_, failed)) = current.as_mut().filter(|(running, _)| *running == id) else { return };
        if failed.bytes == 0 {
            *current = self.before.take();
        } else {
            failed.is_running = false;
            failed.trouble = refusal.to_string();
        }
    }

    /// So many bytes more are being compared.
    pub fn compares(&self, bytes: u64) {
        if let Some((_, running)) = self.verification.borrow_mut().as_mut().filter(|(_, one)| one.is_running)
        {
            running.bytes += bytes;
        }
    }

    /// A difference was found.
    pub fn differs(&self, peer: &str, offset: u64, length: u64) {
        if let Some((_, verification)) = self.verification.borrow_mut().as_mut()
            && verification.differences.len() < DIFFERENCES_MAX
        {
            verification.differences.push((peer.to_owned(), offset, length));
        }
    }

    /// It has ended.
    pub fn verified(&self, bytes: u64, differing_bytes: u64) {
        if let Some((_, verification)) = self.verification.borrow_mut().as_mut() {
            verification.is_running = false;
            verification.bytes = bytes;
            verification.differing_bytes = differing_bytes;
        }
    }

    /// What is known of the last one.
    pub fn verification(&self) -> Option<VerificationSnapshot> {
        self.verification.borrow().as_ref().map(|(_, verification)| verification.clone())
    }
}
