//! Links, and what comes over them: to whom each message goes.
//!
//! Its one rule: what comes over a link that is no longer the latest to its peer is dropped.

use super::{Replica, Role};
use crate::base::{Base, Link, Purpose};
use crate::coordinator::Record;
use crate::effect::{DisconnectReason, Notice};
use crate::event::LocalResult;
use crate::fault::{DiskFault, Refusal};
use crate::history::Comparison;
use crate::id::{DataId, Epoch, OpId, ReplicaId, Session};
use crate::message::{Hello, Message};
use crate::primary::End;

impl Replica {
    pub(super) fn peer_up(&mut self, peer: ReplicaId, session: Session) {
        if peer == self.base.own()
            || peer.index() >= self.base.links.len()
            || self.base.journal.failed.is_some()
        {
            let reason = DisconnectReason::Protocol("no replica of this volume is to be linked here");
            self.base.out.push(crate::effect::Effect::Disconnect { peer, session, reason });
            return;
        }
        if let Some(old) = self.base.session(peer) {
            self.base.hang_up(peer, DisconnectReason::Replaced);
            self.unlinked(peer, old);
        }
        let heard = self.base.now;
        self.base.links[peer.index()] = Some(Link { session, hello: None, heard, diverged: None });
        let leads = matches!(&self.role, Role::Primary(primary) if primary.serves());
        let hello = self.base.hello_message(leads);
        self.base.send(peer, hello);
    }

    pub(super) fn peer_lost(&mut self, peer: ReplicaId, session: Session) {
        if self.base.session(peer) == Some(session) {
            self.base.links[peer.index()] = None;
            self.unlinked(peer, session);
        }
    }

    /// A link has gone: everybody whom it concerns is told.
    pub(super) fn unlinked(&mut self, peer: ReplicaId, session: Session) {
        match &mut self.role {
            Role::Primary(primary) => primary.lost(peer, &mut self.base),
            Role::Secondary(secondary) => secondary.lost(session, &mut self.base),
        }
        self.forward.lost(session);
        if let Some(candidate) = &mut self.candidate {
            candidate.lost(peer);
        }
    }

    /// A part of a message has come.
    pub(super) fn heard(&mut self, peer: ReplicaId, session: Session) {
        let now = self.base.now;
        if let Some(link) = self.base.link_mut(peer).filter(|link| link.session == session) {
            link.heard = now;
        }
    }

    pub(super) fn received(
        &mut self,
        peer: ReplicaId,
        session: Session,
        message: Message,
        data: Option<DataId>,
    ) {
        let now = self.base.now;
        let Some(link) = self.base.link_mut(peer).filter(|link| link.session == session) else {
            return self.base.release(data);
        };
        link.heard = now;
        let greeted = link.hello.is_some();
        match message {
            Message::Hello(hello) => self.hello(peer, *hello),
            _ if !greeted => {
                self.base.release(data);
                self.break_off(peer, session, "it spoke before it said who it is");
            }
            Message::Prepare { epoch, forced } => self.prepare(peer, epoch, forced),
            Message::Promise { epoch, record, history, unbroken } => {
                if let Some(candidate) = &mut self.candidate {
                    candidate.promised(peer, epoch, record, history, unbroken);
                }
            }
            Message::Refused { epoch, promised, record, reason } => {
                self.refused(peer, epoch, promised, record, reason);
            }
            Message::Forwarded { id, result } => {
                self.forward.answered(session, id, result, data, &mut self.base)
            }
            Message::NotLeading { id } => self.forward.not_leading(session, id, &self.base),
            message => self.dispatch(peer, session, message, data),
        }
    }

    /// What is for one role only.
    fn dispatch(&mut self, peer: ReplicaId, session: Session, message: Message, data: Option<DataId>) {
        let base = &mut self.base;
        match (&mut self.role, message) {
            (Role::Primary(primary), message) => match message {
                Message::Led { epoch, activity } => primary.led(peer, epoch, &activity, base),
                Message::Written { epoch, .. }
                | Message::Flushed { epoch, .. }
                | Message::Resynced { epoch, .. }
                | Message::Checksummed { epoch, .. }
                | Message::Pong { epoch, .. }
                    if !primary.is_of_term(epoch) => {}
                Message::Written { seq, result, also, .. } => {
                    primary.written(peer, seq, result, base);
                    also.into_iter().for_each(|seq| primary.written(peer, seq, Ok(()), base));
                }
                Message::Flushed { flush, result, .. } => primary.flushed(peer, flush, result, base),
                Message::Resynced { seq, result, .. } => primary.resynced(peer, seq, result, base),
                Message::Checksummed { seq, result, .. } => primary.checksummed(peer, seq, result, base),
                Message::Pong { number, granted, .. } => primary.pong(peer, number, granted, base),
                Message::Forward { id, answered_below, sent_before, operation } => {
                    primary.forwarded(peer, id, answered_below, sent_before, (operation, data), base);
                }
                message => self.rival(peer, session, message, data),
            },
            (Role::Secondary(_), Message::Forward { id, .. }) => {
                base.release(data);
                base.send(peer, Message::NotLeading { id });
            }
            (Role::Secondary(secondary), message) => {
                if matches!(message, Message::Lead(_) | Message::InForce { .. }) {
                    self.forward.leader_serves();
                }
                secondary.message(peer, session, message, data, base);
            }
        }
    }

    /// Somebody speaks to us, the leader, as if it led.
    fn rival(&mut self, peer: ReplicaId, session: Session, message: Message, data: Option<DataId>) {
        let Role::Primary(primary) = &mut self.role else { return self.base.release(data) };
        let Message::Lead(lead) = message else {
            self.base.release(data);
            if let Some(epoch) = leaders_epoch(&message) {
                let promised = self.base.journal.superblock().promised;
                self.base.refuse(peer, epoch, Refusal::OldEpoch(promised));
            }
            return;
        };
        let mut chain = lead.history.clone();
        chain.extend(&lead.record);
        let own = primary.history();
        match own.compare(&chain) {
            Comparison::Diverged => {
                self.base.refuse(peer, lead.record.epoch, Refusal::SplitBrain(self.base.own()));
                self.say_split_brain(peer, chain);
            }
            // It has all that counts of ours, and more.
            Comparison::Behind => {
                primary.stop(End::Follow);
                self.end_term();
                if let Role::Secondary(secondary) = &mut self.role {
                    secondary.message(peer, session, Message::Lead(lead), None, &mut self.base);
                }
            }
            _ => self.base.refuse(peer, lead.record.epoch, Refusal::LeaderAlive(self.base.own())),
        }
    }

    fn say_split_brain(&mut self, peer: ReplicaId, its: crate::history::History) {
        let own = self.base.journal.history();
        let Some(link) = self.base.link_mut(peer) else { return };
        if link.diverged.replace(its.clone()).as_ref() != Some(&its) {
            self.base.notice(Notice::SplitBrain { peer, own, its });
        }
    }

    fn hello(&mut self, peer: ReplicaId, hello: Hello) {
        if let Some(reason) = stranger(peer, &hello, &self.base) {
            self.base.refusals[peer.index()] = Some(reason.clone());
            self.base.notice(Notice::PeerRefused { peer, reason: reason.clone() });
            let session = self.base.session(peer).expect("it has just spoken");
            self.base.hang_up(peer, DisconnectReason::Refused(reason));
            return self.unlinked(peer, session);
        }
        self.base.refusals[peer.index()] = None;
        self.base.witness.forget_runs_before(peer, hello.incarnation);
        let diverges = self.base.journal.history().compare(&hello.history) == Comparison::Diverged;
        let its = hello.history.clone();
        if !diverges {
            self.base.note_heard(hello.record);
        }
        if let Some(link) = self.base.link_mut(peer) {
            link.hello = Some(hello);
            if !diverges {
                link.diverged = None;
            }
        }
        if diverges {
            self.say_split_brain(peer, its);
        }
        match &mut self.role {
            Role::Primary(primary) => primary.greeted(peer, &mut self.base),
            Role::Secondary(secondary) => {
                // Who greets anew has ended its term, if it led.
                if let Some(session) = self.base.session(peer) {
                    secondary.lost(session, &mut self.base);
                }
                if let Some(candidate) = &mut self.candidate {
                    candidate.greeted();
                } else if self.base.named_by().is_some()
                    || self.base.record().is_some_and(|record| self.base.knows_nothing_of(&record))
                {
                    self.resume_at = Some(self.base.now);
                }
            }
        }
    }

    fn prepare(&mut self, peer: ReplicaId, epoch: Epoch, forced: bool) {
        let promised = self.base.journal.superblock().promised;
        if let Role::Primary(primary) = &mut self.role {
            if !forced {
                return self.base.refuse(peer, epoch, Refusal::LeaderAlive(self.base.own()));
            }
            if epoch <= promised.max(primary.epoch()) {
                return self.base.refuse(peer, epoch, Refusal::OldEpoch(promised.max(primary.epoch())));
            }
            primary.stop(End::Follow);
            self.end_term();
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate.is_forced() && !forced) {
            return self.base.refuse(peer, epoch, Refusal::Busy);
        }
        let Role::Secondary(secondary) = &mut self.role else { return };
        secondary.prepare(peer, epoch, forced, &mut self.base);
        let overtaken = self.base.journal.superblock().promised == epoch;
        if overtaken && let Some(candidate) = self.candidate.take() {
            match candidate.cancel() {
                Some(command) => self.base.answer(command, Err(Refusal::OldEpoch(epoch))),
                None => self.resume_at = Some(self.base.now.after(self.base.config.timing.peer_timeout)),
            }
        }
    }

    fn refused(
        &mut self,
        peer: ReplicaId,
        epoch: Epoch,
        promised: Epoch,
        latest: Option<Record>,
        reason: Refusal,
    ) {
        match &mut self.role {
            Role::Primary(primary) => primary.refused(peer, epoch, promised, latest, reason, &mut self.base),
            Role::Secondary(_) => {
                let outcome =
                    self.candidate.as_mut().map(|candidate| candidate.refused(epoch, reason, &mut self.base));
                self.conclude(outcome);
            }
        }
    }

    fn break_off(&mut self, peer: ReplicaId, session: Session, why: &'static str) {
        self.base.hang_up(peer, DisconnectReason::Protocol(why));
        self.unlinked(peer, session);
    }

    pub(super) fn local_done(&mut self, op: OpId, result: Result<LocalResult, DiskFault>) {
        let Some(purpose) = self.base.local_done(op, &result) else { return };
        match (&mut self.role, purpose) {
            (Role::Primary(primary), Purpose::Job(seq)) => primary.job_done(seq, result, &mut self.base),
            (Role::Primary(primary), Purpose::LeaderFlush(flush)) => {
                primary.own_flushed(flush, result.map(|_| ()), &mut self.base);
            }
            (Role::Secondary(secondary), Purpose::Arrival(number)) => {
                secondary.local_done(number, result, &mut self.base);
            }
            (_, purpose) => unreachable!("{purpose:?} is of another role, and so of another generation"),
        }
    }
}

fn leaders_epoch(message: &Message) -> Option<Epoch> {
    match *message {
        Message::Write { epoch, .. }
        | Message::Resync { epoch, .. }
        | Message::Flush { epoch, .. }
        | Message::Checksum { epoch, .. }
        | Message::Ping { epoch, .. } => Some(epoch),
        _ => None,
    }
}

/// Why one who says this is no replica of ours, if so.
fn stranger(peer: ReplicaId, hello: &Hello, base: &Base) -> Option<Refusal> {
    let geometry = base.geometry();
    if hello.replica != peer {
        return Some(Refusal::OtherName(hello.replica));
    }
    if hello.names != base.config.names {
        return Some(Refusal::OtherReplicas);
    }
    if hello.size_bytes != geometry.size_bytes {
        return Some(Refusal::OtherSize { its: hello.size_bytes, own: geometry.size_bytes });
    }
    if hello.region_bytes != geometry.region_bytes {
        return Some(Refusal::OtherRegions { its: hello.region_bytes, own: geometry.region_bytes });
    }
    let volume = base.journal.superblock().joined_volume();
    let differs = hello.volume.is_some_and(|its| volume.is_some_and(|own| own != its));
    differs.then_some(Refusal::OtherVolume)
}
