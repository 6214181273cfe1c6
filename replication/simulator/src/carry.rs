//! What a machine asks, done: local I/O, sends, answers; and what each of them is checked for.
//!
//! Its one rule: nothing here steps a machine; what follows goes into the bag.

use replication::{Change, Effect, Message, Notice, Place, ReplicaId, Session};

use crate::check::Rules;
use crate::disk::Work;
use crate::happen::Happening;
use crate::network::Parcel;
use crate::plan::MS;
use crate::record::Proposal;
use crate::report::Checker;
use crate::words;
use crate::world::World;

impl World {
    pub(crate) fn carry(&mut self, node: usize, effect: Effect) {
        if self.options.timeline {
            self.say_effect(node, &effect);
        }
        match effect {
            Effect::ReadLocal { op, range, .. } => self.begin_work(node, Work::Read { op, range }),
            Effect::WriteLocal { op, range, change, data, durable } => {
                self.local_write(node, range);
                let payload = match change {
                    Change::Zero { .. } => None,
                    Change::Data => match data.and_then(|data| self.nodes[node].held.get(data)) {
                        Some(payload) => Some(*payload),
                        None => {
                            return self
                                .fail(Checker::Payload, format!("node {node} writes bytes nobody holds"));
                        }
                    },
                };
                self.begin_work(node, Work::Write { op, range, payload, durable });
            }
            Effect::FlushLocal { op } => {
                let upto = self.nodes[node].disk.upto();
                self.begin_work(node, Work::Flush { op, upto });
            }
            Effect::ChecksumLocal { op, range } => self.begin_work(node, Work::Checksum { op, range }),
            Effect::WriteMetadata { op, record } => self.begin_work(node, Work::Metadata { op, record }),
            Effect::Send { to, session, message, data } => {
                let payload = match data {
                    None => None,
                    Some(data) => match self.nodes[node].held.get(data) {
                        Some(payload) => Some(*payload),
                        None => {
                            return self
                                .fail(Checker::Payload, format!("node {node} sends bytes nobody holds"));
                        }
                    },
                };
                self.send(node, to.index(), session, Parcel { at: 0, session: 0, message, payload });
            }
            Effect::Release { data } => {
                if self.nodes[node].held.take(data).is_none() {
                    self.fail(Checker::Payload, format!("node {node} gives back bytes that nobody holds"));
                }
            }
            Effect::Complete { request, result } => {
                let payload = match result {
                    Ok(Some(data)) => match self.nodes[node].held.take(data) {
                        Some(payload) => Ok(Some(payload)),
                        None => {
                            return self.fail(Checker::Payload, format!("node {node} answers with no bytes"));
                        }
                    },
                    Ok(None) => Ok(None),
                    Err(fault) => Err(fault),
                };
                self.completed(node, request, payload);
            }
            Effect::Propose { expected, record } => {
                let run = self.nodes[node].run;
                let proposal = Proposal { node, run, expected, record, decision: None };
                let proposal = self.register.put(proposal);
                let at = self.now + self.plan.link.roll(&mut self.dice);
                self.bag.put(at, Happening::Propose { proposal });
            }
            Effect::Disconnect { peer, session, .. } => self.disconnect(node, peer.index(), session),
            Effect::WakeAt(at) => {
                self.nodes[node].wake = Some(at);
                self.schedule_tick(node);
            }
            Effect::Notice(notice) => self.notice(node, &notice),
            Effect::Answer { command, result } => self.answered(node, command, &result),
        }
    }

    #[cold]
    fn say_effect(&mut self, node: usize, effect: &Effect) {
        let data = match effect {
            Effect::WriteLocal { data, .. } | Effect::Send { data, .. } => *data,
            Effect::Complete { result: Ok(data), .. } => *data,
            _ => None,
        };
        let payload = data.and_then(|data| self.nodes[node].held.get(data));
        if let Some(text) = words::effect(effect, payload) {
            self.say(Some(node), format!("  ▶ {text}"));
        }
    }

    fn send(&mut self, node: usize, to: usize, session: Session, mut parcel: Parcel) {
        let session = session.0 as u32;
        if self.network.believed(node, to) != session {
            return;
        }
        self.check_message(node, to, &parcel.message);
        if self.network.live(node, to) != session {
            // The other end is gone, and this one has not heard of it yet.
            return;
        }
        if parcel.message.has_payload() && parcel.payload.is_none() {
            return self.fail(Checker::Payload, format!("node {node} sends a message without its payload"));
        }
        let at = self.now + self.plan.link.roll(&mut self.dice);
        let direction = self.network.direction(node, to);
        direction.last = direction.last.max(at);
        parcel.at = direction.last;
        parcel.session = session;
        // As links do it, if the one before has not left yet.
        let waiting =
            direction.parcels.back_mut().filter(|last| last.session == session && at.is_multiple_of(2));
        if waiting.is_some_and(|last| last.message.absorb(&parcel.message)) {
            return;
        }
        let may_pass = parcel.message.place() == Place::Ahead;
        direction.parcels.push_back(parcel);
        if may_pass && self.now.is_multiple_of(2) {
            self.network.direction(node, to).let_last_pass();
        }
        self.schedule_delivery(node, to);
    }

    fn check_message(&mut self, node: usize, to: usize, message: &Message) {
        let wrong = match *message {
            Message::Promise { epoch, .. } => Rules::promised(node, epoch, &self.nodes[node].disk.stored),
            Message::Led { epoch, .. } => Rules::adopted(node, epoch, &self.nodes[node].disk.stored),
            Message::Resync { range, .. } => {
                self.statistics.resent_bytes += range.bytes;
                let moment = self.next_moment();
                self.rules.resends(node, to, range, moment)
            }
            Message::Flush { flush, .. } => {
                let moment = self.next_moment();
                self.rules.flush_asked(node, to, flush, moment);
                None
            }
            Message::Durable { flush, mended, .. } => {
                self.rules.flush_done(node, to, flush, mended);
                None
            }
            Message::Write { range, .. } => {
                let moment = self.next_moment();
                self.rules.sends(node, to, range, moment);
                None
            }
            _ => None,
        };
        self.fail_if(wrong);
    }

    fn disconnect(&mut self, node: usize, peer: usize, session: Session) {
        let session = session.0 as u32;
        if self.network.believed(node, peer) == session {
            self.network.believe(node, peer, 0);
        }
        self.rules.unlinked(node, peer);
        if self.network.live(node, peer) == session {
            self.end_link(node, peer, 0);
        }
    }

    /// One end closes a link: the other hears of it, at once or late.
    pub(crate) fn end_link(&mut self, node: usize, peer: usize, late: u64) {
        let session = self.network.live(node, peer);
        self.network.end(node, peer);
        self.try_to_connect(node, peer);
        let mut at = self.now + self.plan.link.roll(&mut self.dice) + late;
        if self.network.is_blocked(node, peer) {
            at += self.dice.scale(MS, 4096 * MS);
        } else if self.dice.one_in(2) {
            // After all that is under way.
            at = at.max(self.network.direction(node, peer).last);
        }
        self.bag.put(at, Happening::Lost { node: peer as u8, peer: node as u8, session });
    }

    fn notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::Leads(epoch) => {
                self.statistics.terms += 1;
                let wrong = self.rules.leads(node, self.nodes[node].run, *epoch);
                self.fail_if(wrong);
                if self.nodes[node].forgot_at.take().is_some() {
                    self.statistics.rollbacks += 1;
                    let moment = self.next_moment();
                    if self.options.timeline {
                        self.say(
                            Some(node),
                            "leads with a copy that may have lost what was not flushed".to_owned(),
                        );
                    }
                    self.sectors.roll_back(moment, false);
                }
            }
            Notice::InForce(record) => {
                let wrong = self.rules.in_force(record);
                self.fail_if(wrong);
            }
            Notice::Joined { peer, .. } => {
                self.statistics.joins += 1;
                self.rules.joined(node, peer.index());
                self.remembers(node, *peer);
            }
            Notice::Differs { peer, range, .. } if !self.rules.forced => {
                let text = format!("verify: node {} differs from {node}, {}", peer.0, words::range(*range));
                self.fail(Checker::Identity, text);
            }
            _ => {}
        }
    }

    /// A peer has all that the leader has, if the link over which it got it is younger than its loss of power.
    fn remembers(&mut self, leader: usize, peer: ReplicaId) {
        let since = self.network.live_since(leader, peer.index());
        let state = &mut self.nodes[peer.index()];
        if state.is_up() && since.is_some_and(|since| state.forgot_at.is_some_and(|at| since > at)) {
            state.forgot_at = None;
        }
    }
}
