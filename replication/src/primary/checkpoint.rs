//! Flushes of one peer alone, while it receives a resync: so that little is to be sent again if its link breaks, its
//! last flush is short, and marks of the activity log do not wait for the end of the resync.
//!
//! ```text
//! None ─ so many bytes, so long, or no space in the log ─▶ Sent ─ Flushed ─▶ Durable ─ a round that began since is done ─▶ None
//! ```
//! Its one rule: the peer is told `Durable` only after a round of the members that began after its own flush, and has
//! no other flush under way until then; so what it forgets by it is durable everywhere.

use super::Primary;
use super::peer::Phase;
use crate::base::Base;
use crate::id::{FlushId, ReplicaId, Time};
use crate::message::Message;

/// A peer flushes after so much of a resync.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Or after so long, however little has come: over a slow line, too, most of it counts when the link breaks.
const CHECKPOINT_EVERY: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoint {
    None,
    Sent(FlushId, Time),
    /// What it had then is durable there. It waits for the members to have it, too.
    Durable(FlushId),
}

impl Checkpoint {
    pub(super) fn since(self) -> Option<Time> {
        match self {
            Checkpoint::Sent(_, since) => Some(since),
            _ => None,
        }
    }
}

impl Primary {
    /// Begins those that are due. (Before a round begins, which takes it that space has been seen to.)
    pub(super) fn advance_checkpoints(&mut self, base: &mut Base) {
        if self.members.in_force().is_none() {
            return;
        }
        for peer in base.peers().iter() {
            let Some(state) = &self.peers[peer.index()] else { continue };
            let is_joining = matches!(state.phase, Phase::Adopting | Phase::Resyncing);
            let is_old = base.now.since(state.checkpoint_at) >= CHECKPOINT_EVERY;
            let is_due = state.unflushed_bytes >= CHECKPOINT_BYTES
                || state.unflushed_bytes > 0 && is_old
                || self.rounds.lacks_space() && !base.journal.lack(peer).unconfirmed.is_empty();
            if !is_joining || !is_due || state.checkpoint != Checkpoint::None {
                continue;
            }
            let flush = self.rounds.next_id();
            let epoch = self.members.record().epoch;
            base.journal.lack_mut(peer).unconfirmed.begin_flush();
            base.send(peer, Message::Flush { epoch, flush });
            let state = self.peers[peer.index()].as_mut().expect("it is there");
            state.unflushed_bytes = 0;
            state.checkpoint_at = base.now;
            state.checkpoint = Checkpoint::Sent(flush, base.now);
        }
    }

    /// Whether this flush was a peer's own; if so, it is done.
    pub(super) fn checkpointed(&mut self, peer: ReplicaId, flush: FlushId, base: &mut Base) -> bool {
        let Some(state) = &mut self.peers[peer.index()] else { return false };
        if !matches!(state.checkpoint, Checkpoint::Sent(of, _) if of == flush) {
            return false;
        }
        state.checkpoint = Checkpoint::Durable(flush);
        base.journal.lack_mut(peer).unconfirmed.end_flush();
        self.rounds.want_internal();
        self.retry = true;
        true
    }

    /// A round of the members is done.
    pub(super) fn release_checkpoints(&mut self, round: FlushId, base: &mut Base) {
        let epoch = self.members.record().epoch;
        for peer in base.peers().iter() {
            let Some(state) = &mut self.peers[peer.index()] else { continue };
            if matches!(state.checkpoint, Checkpoint::Durable(flush) if flush < round) {
                state.checkpoint = Checkpoint::None;
                base.send(peer, Message::Durable { epoch, flush: round, mended: false });
            }
        }
    }
}
