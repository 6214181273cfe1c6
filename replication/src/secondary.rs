//! The machine of a replica that does not lead: it promises, adopts, writes, confirms.
//!
//! ```text
//! Lead ─▶ (own writes of earlier times have ended) ─▶ superblock ─▶ Led ─▶ what has queued up behind it
//! Write ─▶ mark on disk ─▶ local write ─▶ Written          Flush ─▶ all writes before it ─▶ local flush ─▶ Flushed
//! ```
//! Its one rule: nothing is obeyed that is older than what has been promised (rule 4), and a promise, or an
//! adoption, is answered only when it is on disk.

mod adopt;
mod apply;

use std::collections::VecDeque;

use self::adopt::Adopting;
use self::apply::Arrivals;
use crate::base::Base;
use crate::config::{OnPeerLoss, Sabotage};
use crate::coordinator::Coordination;
use crate::fault::Refusal;
use crate::id::{DataId, Epoch, ReplicaId, Session, Time};
use crate::journal::Version;
use crate::message::Message;

/// Whom we follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Following {
    pub(crate) leader: ReplicaId,
    pub(crate) session: Session,
}

/// A promise that is being written down.
#[derive(Clone, Debug)]
struct Promising {
    to: ReplicaId,
    session: Session,
    epoch: Epoch,
    version: Version,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Secondary {
    following: Option<Following>,
    adopting: Option<Adopting>,
    /// What came from the leader behind a record that is being adopted.
    backlog: VecDeque<(Message, Option<DataId>)>,
    arrivals: Arrivals,
    promising: Vec<Promising>,
    /// The last that was promised: who asks for it again is told again.
    promised: Option<(ReplicaId, Session, Epoch)>,
    /// The last write, or the last flush of all members.
    quiet_since: Time,
    /// Marks that nobody needs have been dropped since then.
    swept: bool,
    /// The last leader has made us its successor, and is done.
    named: bool,
    /// The latest record only adds members to the one before, which was in force.
    grew: bool,
}

impl Secondary {
    pub(crate) fn new(base: &mut Base) -> Secondary {
        base.new_generation();
        Secondary::default()
    }

    /// The leader, once its record has been adopted over a link that is still there, unless it has given up.
    pub(crate) fn following(&self, base: &Base) -> Option<Following> {
        let leader = base.journal.superblock().record?.leader?;
        self.following.filter(|following| following.leader == leader)
    }

    /// Whether the leader has named us, and is done.
    pub(crate) fn take_named(&mut self) -> bool {
        std::mem::take(&mut self.named)
    }

    /// Whether this replica may be promoted without asking whom it follows.
    pub(crate) fn refusal_to_promise(&self, forced: bool, base: &Base) -> Option<Refusal> {
        if forced {
            return None;
        }
        if let Some(following) = self.following(base) {
            return Some(Refusal::LeaderAlive(following.leader));
        }
        (leases_count(base) && base.granted.is_out(base.now)).then_some(Refusal::LeaseOut)
    }

    /// A candidate asks for a promise.
    pub(crate) fn prepare(&mut self, from: ReplicaId, epoch: Epoch, forced: bool, base: &mut Base) {
        let promised = base.journal.superblock().promised;
        let Some(session) = base.session(from) else { return };
        let again = epoch == promised && self.promised == Some((from, session, epoch));
        if epoch <= promised && !again {
            return base.refuse(from, epoch, Refusal::OldEpoch(promised));
        }
        if let Some(reason) = self.refusal_to_promise(forced, base) {
            return base.refuse(from, epoch, reason);
        }
        self.unfollow(base);
        self.promised = Some((from, session, epoch));
        self.promising.retain(|promise| promise.to != from);
        let version = base.journal.edit(|superblock| superblock.promised = epoch);
        self.promising.push(Promising { to: from, session, epoch, version });
    }

    /// The leader, if nothing has come of it for too long.
    pub(crate) fn silent_leader(&self, base: &Base) -> Option<ReplicaId> {
        self.silent_at(base).filter(|&(_, at)| at <= base.now).map(|(leader, _)| leader)
    }

    fn silent_at(&self, base: &Base) -> Option<(ReplicaId, Time)> {
        let adopting = self.adopting.as_ref().map(Adopting::leader);
        let leader = self.following.map(|following| following.leader).or(adopting)?;
        let heard = base.link(leader)?.heard;
        Some((leader, heard.after(base.config.timing.patience() + 1)))
    }

    /// When marks may be dropped that nobody needs, if there are any.
    fn sweep_at(&self, base: &Base) -> Option<Time> {
        let is_due = !self.swept && self.following.is_some() && base.journal.activity.count() > 0;
        is_due.then(|| self.quiet_since.after(base.config.timing.idle_flush))
    }

    pub(crate) fn tick(&mut self, base: &mut Base) {
        if self.sweep_at(base).is_some_and(|at| at <= base.now) {
            self.swept = true;
            if self.arrivals.is_empty() && !base.journal.has_unconfirmed() {
                base.journal.drop_clean();
            }
        }
    }

    pub(crate) fn wake_at(&self, base: &Base) -> Option<Time> {
        let silent = self.silent_at(base).map(|(_, at)| at);
        let grant = base.granted.wake_at(base.now, &base.config.timing).filter(|_| leases_count(base));
        [silent, self.sweep_at(base), grant].into_iter().flatten().min()
    }

    /// Answers promises that are on disk.
    fn advance_promises(&mut self, base: &mut Base) {
        let in_memory = base.sabotaged(Sabotage::PromiseInMemory);
        let promising = std::mem::take(&mut self.promising);
        for promise in promising {
            if base.session(promise.to) != Some(promise.session) {
                continue;
            }
            if !in_memory && !base.journal.is_durable(promise.version) {
                self.promising.push(promise);
                continue;
            }
            let superblock = base.journal.superblock();
            let (record, promised) = (superblock.record, superblock.promised);
            if promised > promise.epoch {
                base.refuse(promise.to, promise.epoch, Refusal::OldEpoch(promised));
                continue;
            }
            let history = base.journal.history();
            let unbroken = base.witness.is_unbroken();
            base.send(promise.to, Message::Promise { epoch: promise.epoch, record, history, unbroken });
        }
    }

    /// A message of a leader's.
    pub(crate) fn message(
        &mut self,
        from: ReplicaId,
        session: Session,
        message: Message,
        data: Option<DataId>,
        base: &mut Base,
    ) {
        if let Message::Ping { epoch, number } = message {
            return self.ping(from, session, epoch, number, base);
        }
        if self.adopting.as_ref().is_some_and(|adopting| adopting.session == session) {
            return self.backlog.push_back((message, data));
        }
        if let Message::Lead(lead) = message {
            return self.lead(from, session, *lead, base);
        }
        self.obey(from, session, message, data, base);
    }

    /// A leader asks whether we are there; that we follow it is a lease.
    fn ping(&mut self, from: ReplicaId, session: Session, epoch: Epoch, number: u64, base: &mut Base) {
        let promised = base.journal.superblock().promised;
        let follows = self.following.is_some_and(|following| following.session == session);
        let adopts = self.adopting.as_ref().is_some_and(|adopting| adopting.session == session);
        if !follows && !adopts {
            return base.refuse(from, epoch, Refusal::OldEpoch(promised));
        }
        let mut granted = 0;
        if follows && epoch >= promised {
            let timing = base.config.timing;
            base.grant();
            granted = timing.lease - timing.lease_margin;
        }
        base.send(from, Message::Pong { epoch, number, granted });
    }

    /// The link to a peer is gone.
    pub(crate) fn lost(&mut self, session: Session, base: &mut Base) {
        let follows = self.following.is_some_and(|following| following.session == session);
        let adopts = self.adopting.as_ref().is_some_and(|adopting| adopting.session == session);
        if follows || adopts {
            self.unfollow(base);
            self.named = is_named(base);
        }
    }

    /// Obeys nobody any more. What runs locally runs on, and is waited for before another leader is adopted.
    pub(crate) fn unfollow(&mut self, base: &mut Base) {
        base.new_generation();
        self.following = None;
        self.adopting = None;
        for (_, data) in std::mem::take(&mut self.backlog) {
            base.release(data);
        }
        for arrival in self.arrivals.take() {
            base.release(arrival.data());
        }
    }

    /// After each event: whatever can go on, goes on.
    pub(crate) fn advance(&mut self, base: &mut Base) {
        self.advance_promises(base);
        loop {
            self.advance_adopting(base);
            if self.adopting.is_some() {
                break;
            }
            let Some((message, data)) = self.backlog.pop_front() else { break };
            let Some(Following { leader, session }) = self.following else {
                base.release(data);
                continue;
            };
            self.message(leader, session, message, data, base);
        }
        self.advance_arrivals(base);
    }

    /// Ends the role: nothing is owed to anybody.
    pub(crate) fn dissolve(mut self, base: &mut Base) {
        self.unfollow(base);
    }
}

/// Whether the latest record makes us the leader.
pub(super) fn is_named(base: &Base) -> bool {
    base.journal.superblock().record.is_some_and(|record| record.leader == Some(base.own()))
}

/// Whether leaders count on leases under this configuration.
pub(crate) fn leases_count(base: &Base) -> bool {
    base.config.coordination == Coordination::External || base.config.on_peer_loss == OnPeerLoss::Suspend
}
