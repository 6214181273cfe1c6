//! Who names leaders: a person, or whatever watches over a volume with an external coordinator. And that coordinator.
//!
//! Its one rule: every command is answered, once, unless its node dies first.

use replication::{
    Command, CommandId, Decision, Epoch, Event, PeerState, Refusal, ReplicaId, RoleState, Status, Step,
};

use crate::happen::Happening;
use crate::options::Arrangement;
use crate::plan::{FaultKind, MS};
use crate::report::Checker;
use crate::words;
use crate::world::World;

/// So often the operator looks, after the faults, before anything but a plain promotion is tried.
const PATIENCE: u32 = 20;

#[derive(Debug, Default)]
pub(crate) struct Operator {
    last: u64,
    /// Commands that are not answered.
    pub(crate) open: Vec<(CommandId, usize, Command)>,
    /// So often nobody was seen to lead.
    leaderless: u32,
    /// After the faults: so often some command was not answered.
    waiting: u32,
}

impl Operator {
    /// A node has died: whether it was giving up its copy.
    pub(crate) fn abandon(&mut self, node: usize) -> bool {
        let gives_up = |&(_, at, what): &(CommandId, usize, Command)| at == node && what == Command::Discard;
        let gave_up = self.open.iter().any(gives_up);
        self.open.retain(|&(_, at, _)| at != node);
        gave_up
    }
}

impl World {
    pub(crate) fn operator_begins(&mut self) {
        let at = self.now + 100 * MS;
        self.bag.put(at, Happening::Operator);
    }

    pub(crate) fn command(&mut self, node: usize, what: Command) {
        if !self.nodes[node].is_up() || self.nodes[node].frozen {
            return;
        }
        self.operator.last += 1;
        let command = CommandId(self.operator.last);
        self.operator.open.push((command, node, what));
        self.step(node, Event::Command { command, what });
    }

    pub(crate) fn answered(&mut self, node: usize, command: CommandId, result: &Result<(), Refusal>) {
        let known = self.operator.open.iter().position(|open| (open.0, open.1) == (command, node));
        match known {
            Some(index) => match self.operator.open.swap_remove(index).2 {
                Command::Promote { force: true } => self.statistics.forced += u64::from(result.is_ok()),
                // A superblock that could not be written may have been.
                Command::Discard if matches!(result, Ok(()) | Err(Refusal::Disk(_))) => {
                    self.rules.discarded(node)
                }
                _ => {}
            },
            None => self.fail(Checker::Commands, format!("command {command} is answered twice")),
        }
    }

    /// The operator looks around: failed nodes are started anew, and somebody is to lead.
    pub(crate) fn operator_looks(&mut self) {
        let pause = if self.calm { 250 * MS } else { self.dice.between(50 * MS, 600 * MS) };
        self.bag.put(self.now + pause, Happening::Operator);
        self.check_stalls();
        let mut leads = false;
        for node in 0..self.plan.nodes {
            let Some(replica) = &self.nodes[node].replica else { continue };
            if self.nodes[node].frozen {
                continue;
            }
            let status = replica.status();
            let in_vain = self.calm && matches!(status.promotion, Some(Err(_)));
            match status.role {
                RoleState::Failed(_) if self.calm || self.dice.one_in(4) => self.crash(node, false, MS),
                RoleState::Begins if in_vain => {}
                RoleState::Leads | RoleState::Suspended | RoleState::Begins | RoleState::StepsDown => {
                    leads |= self.is_seen(node);
                }
                _ => {}
            }
        }
        self.operator.leaderless = if leads { 0 } else { self.operator.leaderless + 1 };
        if self.calm && (self.rules.forced || self.rules.gave_up) {
            self.operator.waiting = if self.operator.open.is_empty() { 0 } else { self.operator.waiting + 1 };
            match self.operator.waiting {
                0 => self.obey_explain(),
                PATIENCE => self.give_up_demotions(),
                _ => {}
            }
        }
        if self.operator.leaderless % 3 == 1 && self.operator.open.is_empty() {
            self.promote_somebody();
        }
    }

    /// Whether whoever watches over the volume can see a node.
    fn is_seen(&self, node: usize) -> bool {
        let hidden = |peer: usize| self.network.is_blocked(node, peer) && self.network.is_blocked(peer, node);
        let alone = (0..self.plan.nodes).all(|peer| peer == node || hidden(peer));
        !self.nodes[node].cut_off && !alone
    }

    /// After the faults, where copies were lost, given up or forced: whatever `explain` says is to be done.
    fn obey_explain(&mut self) {
        let statuses: Vec<(usize, Status)> =
            self.up().filter_map(|node| Some((node, self.nodes[node].replica.as_ref()?.status()))).collect();
        let leads = |status: &Status| matches!(status.role, RoleState::Leads | RoleState::Suspended);
        let leaders = statuses.iter().filter(|(_, status)| leads(status));
        let kept =
            leaders.max_by_key(|(node, status)| (status.role == RoleState::Leads, status.epoch, *node));
        if let Some((_, kept)) = kept.filter(|_| self.rules.forced) {
            return self.end_split_brain(kept);
        }
        if kept.is_some() || self.operator.leaderless <= PATIENCE {
            return;
        }
        self.operator.leaderless = 1;
        let latest = statuses.iter().max_by_key(|(node, status)| (status.history.last_epoch(), *node));
        let Some((_, latest)) = latest else { return };
        if self.rules.forced && latest.parted().next().is_some() {
            self.end_split_brain(latest);
        } else if let Some(step) = latest.next_step() {
            let there = statuses.iter().find(|(node, _)| *node == step.at.index());
            let its = there.filter(|_| step.at != latest.own).and_then(|(_, status)| status.next_step());
            self.take_step(its.unwrap_or(step));
        }
    }

    /// One that cannot finish is to yield without: its copy is not the one that is kept.
    fn give_up_demotions(&mut self) {
        let demotions = self.operator.open.iter().filter(|(_, _, what)| *what == Command::Demote);
        let nodes: Vec<usize> = demotions.map(|&(_, node, _)| node).collect();
        for node in nodes {
            self.command(node, Command::Discard);
        }
    }

    /// One copy is kept, those that have parted from it yield.
    fn end_split_brain(&mut self, kept: &Status) {
        for peer in kept.parted().map(ReplicaId::index) {
            let role = self.nodes[peer].replica.as_ref().map(|replica| replica.status().role);
            self.command(
                peer,
                if role == Some(RoleState::Leads) { Command::Demote } else { Command::Discard },
            );
        }
    }

    /// By force only what may be lost is lost: as long as nobody else has forced anything, that is nothing.
    fn take_step(&mut self, step: Step) {
        let node = step.at.index();
        if step.command == (Command::Promote { force: true }) {
            let whole = self.rules.in_sync().minus(self.rules.blank);
            if !self.rules.forced && !whole.is_empty() && !whole.contains(step.at) {
                let (name, whole) = (words::name(node), words::names(whole));
                let text =
                    format!("`explain` says to promote {name} by force, although {whole} has everything");
                return self.fail(Checker::Commands, text);
            }
            self.rules.forced = true;
            self.sectors.suspended |= !whole.contains(step.at);
        }
        self.command(node, step.command);
    }

    fn promote_somebody(&mut self) {
        let chosen = match self.register.record.filter(|_| self.plan.arrangement == Arrangement::External) {
            Some(record) => {
                let members: Vec<usize> =
                    self.up().filter(|&node| record.in_sync.contains(ReplicaId(node as u8))).collect();
                let members: Vec<usize> = members.into_iter().filter(|&node| self.is_seen(node)).collect();
                (!members.is_empty()).then(|| self.dice.pick(&members))
            }
            None => self.some_up().filter(|&node| self.is_seen(node)),
        };
        if let Some(node) = chosen {
            self.command(node, Command::Promote { force: false });
        }
    }

    /// A command that nobody needed.
    pub(crate) fn interfere(&mut self, node: usize, kind: FaultKind) {
        let what = match kind {
            FaultKind::Promote => Command::Promote { force: false },
            FaultKind::Demote => Command::Demote,
            FaultKind::Verify => Command::Verify { repair: false },
            _ => Command::Verify { repair: true },
        };
        self.command(node, what);
    }

    /// A proposal reaches the coordinator.
    pub(crate) fn proposal_arrives(&mut self, proposal: u32) {
        let node = self.register.get_mut(proposal).node;
        let away = self.register.away || self.nodes[node].cut_off;
        let lost = away && self.dice.one_in(2) || self.nodes[node].cut_off;
        if !lost && self.register.decide(proposal) {
            self.tell_all();
        }
        if away {
            self.register.get_mut(proposal).decision = Some(Decision::Unavailable);
        }
        let mut at = self.now + self.plan.link.roll(&mut self.dice);
        if away {
            at += self.dice.scale(MS, 1024 * MS);
        }
        self.bag.put(at, Happening::Decide { proposal });
    }

    pub(crate) fn proposal_answered(&mut self, what: Happening, proposal: u32) {
        let (node, run) = {
            let proposal = self.register.get_mut(proposal);
            (proposal.node, proposal.run)
        };
        if self.nodes[node].is_up() && self.nodes[node].frozen && self.nodes[node].run == run {
            return self.nodes[node].deferred.push(what);
        }
        let proposal = self.register.take(proposal);
        if self.nodes[node].is_up() && self.nodes[node].run == run {
            let decision = proposal.decision.expect("it has arrived before");
            self.step(node, Event::Decided { epoch: proposal.record.epoch, decision });
        }
    }

    /// Watchers hear of a change late, or never.
    fn tell_all(&mut self) {
        for node in 0..self.plan.nodes {
            if self.calm || !self.dice.one_in(4) {
                let at = self.now + self.dice.scale(MS / 16, 256 * MS);
                self.bag.put(at, Happening::Tell { node: node as u8 });
            }
        }
    }

    pub(crate) fn tell(&mut self, what: Happening, node: usize) {
        let Some(record) = self.register.record else { return };
        if self.register.away || self.nodes[node].cut_off || !self.nodes[node].is_up() {
            return;
        }
        if self.nodes[node].frozen {
            return self.nodes[node].deferred.push(what);
        }
        self.step(node, Event::RecordChanged(record));
    }

    pub(crate) fn coordinator_back(&mut self) {
        self.register.away = false;
        self.tell_all();
    }

    /// Who leads, if all is as it should be: everybody in sync, nothing waits.
    pub(crate) fn whole(&self) -> Option<usize> {
        let is_at_rest = self.clients.open.is_empty() && self.operator.open.is_empty();
        self.in_sync().filter(|_| is_at_rest)
    }

    /// The leader, if all are in sync with it.
    pub(crate) fn in_sync(&self) -> Option<usize> {
        self.up().find(|&node| {
            let Some(replica) = &self.nodes[node].replica else { return false };
            let status = replica.status();
            status.role == RoleState::Leads
                && status.in_sync.count() == self.plan.nodes
                && status.epoch > Epoch(0)
                && status.peers.iter().all(|peer| peer.state == PeerState::InSync)
        })
    }
}
