//! How a leader gives up the lead: demoted by an operator, or because its own disk has failed.
//!
//! ```text
//! demoted:      no new work ─▶ all writes done ─▶ flush ─▶ record (nobody leads, same members) ─▶ in force
//! hands over:   the same, but the record names another member
//! disk failed:  no new work ─▶ all writes on all others, and all that they lack ─▶ record (another leads, without us)
//!               ─▶ in force ─▶ answers
//! ```
//! Its one rule: once another has been named, we never lead again before it has.

use super::job::{Kind, Stage};
use super::members::Last;
use super::{End, Primary, Returned, Source};
use crate::base::Base;
use crate::effect::{DisconnectReason, Notice};
use crate::event::Operation;
use crate::fault::{DiskFault, Fault, Refusal};
use crate::id::{CommandId, ReplicaSet, Seq};
use crate::message::Message;

#[derive(Clone, Debug)]
pub(super) struct StepDown {
    command: Option<CommandId>,
    drops_own: bool,
    hands_over: bool,
    flushed: bool,
}

impl Primary {
    /// An operator's wish.
    pub(crate) fn demote(&mut self, command: CommandId, base: &mut Base) {
        if self.step_down.is_some() || self.members.begins() {
            return base.answer(command, Err(Refusal::Busy));
        }
        if self.is_last(base) {
            return base.answer(command, Err(Refusal::NoSuccessor));
        }
        let hands_over = false;
        self.step_down =
            Some(StepDown { command: Some(command), drops_own: false, hands_over, flushed: false });
    }

    /// This node is about to stop: another member leads on.
    pub(crate) fn hand_over(&mut self, command: CommandId, base: &mut Base) {
        if self.members_linked().is_empty() {
            return base.answer(command, Err(Refusal::NoSuccessor));
        }
        self.demote(command, base);
        if let Some(step_down) = self.step_down.as_mut().filter(|of| of.command == Some(command)) {
            step_down.hands_over = true;
        }
    }

    /// Whether nobody else could lead after us; unless this copy is to yield to one that has diverged.
    fn is_last(&self, base: &Base) -> bool {
        let other_volume = base.refusals.contains(&Some(Refusal::OtherVolume));
        let diverged = other_volume || base.links.iter().flatten().any(|link| link.diverged.is_some());
        !base.peers().is_empty() && self.members_linked().is_empty() && !diverged
    }

    /// Nobody is left to hand over to: we lead on.
    fn keep_leading(&mut self, base: &mut Base) {
        if let Some(command) = self.step_down.take().and_then(|step_down| step_down.command) {
            base.answer(command, Err(Refusal::NoSuccessor));
        }
        self.members.last = None;
        self.retry = true;
    }

    /// Our disk has failed under a write, a flush or a read: another member leads on, if there is one.
    pub(super) fn own_disk_failed(&mut self, seq: Option<Seq>, fault: DiskFault, base: &mut Base) {
        if let Some(job) = seq.and_then(|seq| self.jobs.get_mut(&seq)) {
            job.own_fault = Some(fault);
            if let Kind::Write { origin: Some(origin), .. } = &job.kind {
                base.witness.failed(origin);
            }
            if job.stage == Stage::Running && matches!(job.kind, Kind::Write { .. }) {
                // Half of it may be here: no flush of ours makes that equal to the others'.
                let geometry = base.geometry();
                base.journal.inherited.insert(&geometry, job.range);
            }
        }
        let is_news = base.disk_failed.replace(fault).is_none();
        if is_news {
            base.notice(Notice::DiskFailed(fault));
        }
        if self.members_linked().is_empty() && self.members.must_hold().without(base.own()).is_empty() {
            return self.fail_alone(base);
        }
        match &mut self.step_down {
            Some(step_down) => step_down.drops_own = true,
            None => {
                self.step_down =
                    Some(StepDown { command: None, drops_own: true, hands_over: false, flushed: true })
            }
        }
        self.finish_writes(base);
        self.rounds_changed(base);
    }

    /// We are the last copy: clients are told of the fault, and we go on for what can still be served.
    pub(super) fn fail_alone(&mut self, base: &mut Base) {
        let Some(fault) = base.disk_failed.take() else { return };
        self.step_down = self.step_down.take().filter(|step_down| step_down.command.is_some());
        if let Some(step_down) = &mut self.step_down {
            step_down.drops_own = false;
        }
        let failed: Vec<Seq> =
            self.jobs.iter().filter(|(_, job)| job.own_fault.is_some()).map(|(&seq, _)| seq).collect();
        for seq in failed {
            let job = self.end_job(seq);
            let (Kind::Write { source, .. } | Kind::Read { source }) = job.kind else { continue };
            base.release(job.data());
            if !job.answered {
                self.clients -= 1;
                self.reply(source, Err(Fault::Disk(fault)), None, base);
            }
            if matches!(job.kind, Kind::Write { .. }) {
                // What is here now is the truth, half written or not.
                base.journal.note_change(job.range, ReplicaSet::only(base.own()));
            }
            // Who is being brought up to date may have these bytes now, and we have not.
            for peer in job.sent.without(base.own()).iter() {
                self.drop_peer(peer, DisconnectReason::Disk(fault), base);
            }
        }
        self.fail_round(fault, base);
        // A round ends the doubt about what was half written.
        self.mending |= !base.journal.inherited.is_empty();
        self.retry = true;
    }

    pub(super) fn advance_step_down(&mut self, base: &mut Base) {
        if self.members.in_force().is_some_and(|record| record.leader != Some(base.own())) {
            if let Some(command) = self.step_down.as_mut().and_then(|step_down| step_down.command.take()) {
                base.answer(command, Ok(()));
            }
            self.end = Some(End::Follow);
            return;
        }
        let Some(step_down) = &self.step_down else {
            return;
        };
        let is_decided = self.members.record().leader != Some(base.own());
        if !step_down.drops_own && !is_decided && self.is_last(base) {
            return self.keep_leading(base);
        }
        if step_down.drops_own && self.members.must_hold().without(base.own()).is_empty() {
            return self.fail_alone(base);
        }
        if self.members.last.is_some()
            || !self.members.is_settled()
            || !self.is_drained(step_down.drops_own, base)
        {
            return;
        }
        if step_down.drops_own {
            // What a member has lost with its power may be nowhere but here.
            if !self.is_mended(base) {
                return;
            }
            self.members.last = Some(Last::WithoutUs);
            self.retry = true;
        } else if !step_down.flushed {
            self.step_down.as_mut().expect("it is there").flushed = true;
            self.rounds.want_internal();
            self.retry = true;
        } else if self.rounds.is_idle() && !self.mending {
            base.journal.drop_clean();
            let hands_over = step_down.hands_over;
            self.members.last = Some(if hands_over { Last::Another } else { Last::Nobody });
            self.retry = true;
        }
    }

    /// Whether the lead goes to another because our disk has failed: what has failed keeps its range until then, so
    /// what has not started does not start any more.
    pub(super) fn drops_own(&self) -> bool {
        self.step_down.as_ref().is_some_and(|step_down| step_down.drops_own)
    }

    /// Whether every write that was let in, and can still be carried out here, is where it has to be.
    fn is_drained(&self, without_own: bool, base: &Base) -> bool {
        let own = if without_own { ReplicaSet::only(base.own()) } else { ReplicaSet::EMPTY };
        let must_hold = self.must_hold(base).minus(own);
        self.jobs.values().all(|job| {
            !matches!(job.kind, Kind::Write { .. })
                || job.stage == Stage::Gated
                || without_own && job.stage != Stage::Running
                || job.stage == Stage::Running && !job.local_pending && job.acked.covers(must_hold)
        })
    }

    /// The end of the role: what was not carried out is given back; of what was under way nobody knows.
    pub(crate) fn dissolve(mut self, base: &mut Base) -> (End, Vec<Returned>) {
        let mut returned = Vec::new();
        for job in std::mem::take(&mut self.jobs).into_values() {
            let (source, sent_before) = match job.kind {
                Kind::Write { .. } if job.answered => {
                    base.release(job.data());
                    continue;
                }
                Kind::Write { source, .. } => (source, (job.stage == Stage::Running).then_some(job.epoch)),
                Kind::Read { source } => (source, None),
                Kind::Confirm { source, epoch, .. } => (source, Some(epoch)),
                Kind::Resync { .. } | Kind::Compare => {
                    base.release(job.data());
                    continue;
                }
            };
            match source {
                Source::Local { request, id } => {
                    let (operation, data) = (job.operation(), job.data());
                    let sent_before = self.repeats.get(&id).copied().or(sent_before);
                    returned.push(Returned { request, id, operation, data, sent_before });
                }
                Source::Forwarded { peer, incarnation, id } => {
                    base.release(job.data());
                    base.send_to_run(peer, incarnation, Message::NotLeading { id }, None);
                }
            }
        }
        for source in self.rounds.take_sources() {
            match source {
                Source::Local { request, id } => {
                    let operation = Operation::Flush;
                    returned.push(Returned { request, id, operation, data: None, sent_before: None });
                }
                Source::Forwarded { peer, incarnation, id } => {
                    base.send_to_run(peer, incarnation, Message::NotLeading { id }, None);
                }
            }
        }
        self.end_commands(base);
        (self.end.unwrap_or(End::Follow), returned)
    }

    fn end_commands(&mut self, base: &mut Base) {
        let unanswered = self.members.record().in_sync.without(base.own());
        if let Some(command) = self.take_command() {
            base.answer(command, Err(Refusal::Unanswered(unanswered)));
        }
        let demotion = self.step_down.as_mut().and_then(|step_down| step_down.command.take());
        let is_done = self.members.in_force().is_some_and(|record| record.leader != Some(base.own()));
        if let Some(command) = demotion {
            base.answer(command, if is_done { Ok(()) } else { Err(Refusal::Unanswered(unanswered)) });
        }
        if let Some(command) = self.verify.take().and_then(|mut verify| verify.take_command()) {
            base.answer(command, Err(Refusal::NotLeader));
        }
    }
}
