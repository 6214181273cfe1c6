//! People who look after the cluster: they promote where nobody leads, restart what has failed, end a split
//! brain; and now and then one plays with commands.
//!
//! Its one rule: force is used only where the seed allows it, or where a copy that was needed has ended with its
//! process; everything else must come right without.

use replication::{Command, PeerState, Refusal, RoleState, Status};

use crate::agenda::{Event, MILLISECOND, SECOND};
use crate::faults::LOOK;
use crate::history::Loss;
use crate::node::Node;
use crate::run::Run;
use crate::timeline;

/// Between two looks.
const PAUSE: u64 = 250 * MILLISECOND;
/// Nobody has led for so long: then even force is better.
const LAST_RESORT: u64 = 12 * SECOND;
/// A stopping node has so long.
pub const STOP_BOUND: u64 = 12 * SECOND;

impl Run {
    /// Looks around, and does what is due.
    pub fn look(&mut self) -> Result<(), String> {
        self.world.borrow_mut().agenda.after(PAUSE, Event::Plan(LOOK));
        self.see_to_stops()?;
        self.watch_era()?;
        let statuses = self.statuses();
        for (host, node) in self.nodes.iter().enumerate() {
            for answer in node.answers() {
                timeline::line(|| format!("node {host} answers the operator: {answer:?}"));
            }
        }
        for (host, status) in statuses.iter().enumerate() {
            if status.as_ref().is_some_and(|status| status.role == RoleState::Leads) && self.dice.percent(5) {
                self.nodes[host].note_boot();
            }
        }
        self.tell_roles(&statuses);
        self.restart_failed(&statuses)?;
        self.find_a_leader(&statuses)?;
        let is_waiting = self.nodes.iter().any(Node::owes_answers);
        if self.fork.is_some() && !is_waiting && Run::is_whole(self) {
            self.end_of_fork();
        }
        if self.is_troubled && self.dice.permyriad(100) {
            self.play();
        }
        Ok(())
    }

    fn see_to_stops(&mut self) -> Result<(), String> {
        let now = self.now();
        for (host, since) in std::mem::take(&mut self.stopping) {
            if self.nodes[host].has_stopped() {
                timeline::line(|| format!("node {host} has stopped"));
                self.note_end(host);
                self.nodes[host].end()?;
            } else if !self.nodes[host].is_stopping() {
                continue;
            } else if self.world.borrow().hosts[host].is_frozen {
                self.stopping.push((host, now));
            } else if now - since > STOP_BOUND {
                return Err(format!("node {host} was asked to stop and has not after {STOP_BOUND} ns"));
            } else {
                self.stopping.push((host, since));
            }
        }
        // A fault that ended while it was stopping could not start it.
        for host in 0..self.nodes.len() {
            let is_down_for_now = self.faults.iter().flatten().any(|fault| fault.keeps_down(host));
            if !self.nodes[host].is_up() && !is_down_for_now {
                self.bring_up(host)?;
            }
        }
        Ok(())
    }

    /// Clients are told of lost writes by the era: it changes if and only if something may have been lost.
    pub fn watch_era(&mut self) -> Result<(), String> {
        let leads = |status: &&Status| status.role == RoleState::Leads && status.era != 0;
        for status in self.statuses().iter().flatten().filter(leads) {
            let Some(before) = self.era.replace(status.era) else { continue };
            if before == status.era {
                continue;
            }
            if self.fork.is_some() {
                continue;
            }
            let until = self.now();
            let since = self.perils.get(self.perils_seen).or(self.perils.last()).copied();
            let Some(since) = since else {
                return Err("the era has changed, although no machine has lost power".into());
            };
            timeline::line(|| "the era has changed: unflushed writes may be gone".to_owned());
            self.perils_seen = self.perils.len();
            // Where all copies are in memory, they may all have ended: then the volume has begun anew.
            let of_anything = self.nodes.iter().all(Node::is_in_memory);
            self.clients.history.borrow_mut().losses.push(Loss { since, until, of_anything });
        }
        Ok(())
    }

    fn statuses(&self) -> Vec<Option<Status>> {
        self.nodes.iter().map(|node| node.status()).collect()
    }

    fn tell_roles(&mut self, statuses: &[Option<Status>]) {
        if !timeline::is_on() {
            return;
        }
        for (host, status) in statuses.iter().enumerate() {
            let role = status.as_ref().map(|status| (status.role, status.epoch, status.in_sync));
            let text = format!("{role:?}");
            if self.roles[host] != text {
                timeline::line(|| format!("node {host}: {text}"));
                self.roles[host] = text;
            }
        }
    }

    fn restart_failed(&mut self, statuses: &[Option<Status>]) -> Result<(), String> {
        for (host, status) in statuses.iter().enumerate() {
            let has_failed =
                status.as_ref().is_some_and(|status| matches!(status.role, RoleState::Failed(_)));
            // A flush that has failed fails until the backing is opened anew; the last copy leads on all the same.
            let has_failed = has_failed || status.as_ref().is_some_and(fails_alone) && self.dice.percent(10);
            let wants = !self.is_troubled || self.dice.percent(10);
            if has_failed && wants && !self.nodes[host].is_stopping() {
                timeline::line(|| format!("node {host} has a failed disk: it is restarted"));
                self.note_end(host);
                self.nodes[host].end()?;
                self.bring_up(host)?;
            }
        }
        Ok(())
    }

    fn find_a_leader(&mut self, statuses: &[Option<Status>]) -> Result<(), String> {
        let now = self.now();
        let leads = |status: &Status| {
            matches!(
                status.role,
                RoleState::Leads | RoleState::Begins | RoleState::StepsDown | RoleState::Suspended
            )
        };
        let serves = |status: &Status| matches!(status.role, RoleState::Leads | RoleState::Suspended);
        if statuses.iter().flatten().any(serves) {
            self.leaderless_since = None;
        }
        if statuses.iter().flatten().any(is_split) {
            return self.end_split_brain(statuses);
        }
        if statuses.iter().flatten().any(leads) {
            return Ok(());
        }
        let since = *self.leaderless_since.get_or_insert(now);
        if now - since < 2 * SECOND || self.dice.percent(70) {
            return Ok(());
        }
        let forces =
            self.plan.forces && self.dice.percent(20) || self.has_lost_memory() && now - since > LAST_RESORT;
        match forces {
            true => self.force(statuses),
            false => {
                let host = self.dice.index(self.nodes.len());
                timeline::line(|| format!("an operator promotes node {host}"));
                self.nodes[host].command(Command::Promote { force: false });
            }
        }
        Ok(())
    }

    /// Whether a copy may be gone that the others wait for.
    fn has_lost_memory(&self) -> bool {
        self.nodes.iter().any(Node::is_in_memory)
    }

    /// One leads whatever it lacks; better one that has something.
    fn force(&mut self, statuses: &[Option<Status>]) {
        let has_copy = |host: &usize| statuses[*host].as_ref().is_some_and(|one| one.role != RoleState::New);
        let copies: Vec<usize> = (0..statuses.len()).filter(has_copy).collect();
        let host = match copies.as_slice() {
            [] => self.dice.index(statuses.len()),
            copies => copies[self.dice.index(copies.len())],
        };
        timeline::line(|| format!("an operator promotes node {host} by force"));
        self.fork.get_or_insert(self.now());
        self.has_forced = true;
        self.nodes[host].command(Command::Promote { force: true });
    }

    /// There is one history again. What was asked and told since the first forced promotion binds nobody.
    pub fn end_of_fork(&mut self) {
        let Some(since) = self.fork.take() else { return };
        let until = self.now();
        timeline::line(|| "all copies are of one history again".to_owned());
        self.perils_seen = self.perils.len();
        self.clients.history.borrow_mut().losses.push(Loss { since, until, of_anything: true });
    }

    fn end_split_brain(&mut self, statuses: &[Option<Status>]) -> Result<(), String> {
        if !self.has_forced {
            return Err(format!("split brain, and nobody has used force\n{}", self.describe()));
        }
        if self.dice.percent(80) {
            return Ok(());
        }
        let leads = |status: &Option<Status>| status.as_ref().is_some_and(|one| one.role == RoleState::Leads);
        let leaders: Vec<usize> = (0..statuses.len()).filter(|host| leads(&statuses[*host])).collect();
        let kept = match leaders.as_slice() {
            [] => self.dice.index(statuses.len()),
            leaders => leaders[self.dice.index(leaders.len())],
        };
        for host in (0..statuses.len()).filter(|host| *host != kept) {
            let command = if leads(&statuses[host]) { Command::Demote } else { Command::Discard };
            timeline::line(|| {
                format!("an operator keeps node {kept}'s copy, and asks node {host}: {command:?}")
            });
            self.nodes[host].command(command);
        }
        // Whoever led last had them all, perhaps; now they are of the copy that is kept.
        self.fork.get_or_insert(0);
        Ok(())
    }

    fn play(&mut self) {
        let host = self.dice.index(self.nodes.len());
        let command = match self.dice.below(4) {
            0 if self.plan.forces => return self.force(&self.statuses()),
            0 => Command::Demote,
            1 => Command::Promote { force: false },
            _ => Command::Verify { repair: self.dice.percent(50) },
        };
        timeline::line(|| format!("an operator asks node {host}: {command:?}"));
        self.nodes[host].command(command);
    }
}

/// Whether a replica has found that another has gone another way.
fn is_split(status: &Status) -> bool {
    let splits = |peer: &replication::PeerStatus| {
        peer.state == PeerState::SplitBrain || peer.refusal == Some(Refusal::OtherVolume)
    };
    status.role == RoleState::SplitBrain || status.peers.iter().any(splits)
}

/// Whether a leader without others has met a fault of its own disk.
fn fails_alone(status: &Status) -> bool {
    let has_failed = matches!(status.last_fault, Some(replication::Fault::Disk(_)));
    has_failed && status.role == RoleState::Leads && status.in_sync.count() == 1
}
