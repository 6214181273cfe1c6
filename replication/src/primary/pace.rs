//! How fast a peer is sent what it lacks.
//!
//! ```text
//! window  bytes under way, at most: what a quarter of peer_timeout carries, so that a ping's answer never waits long
//! rest    while clients ask: none for a few times as long as the last message took, so that most of the time is theirs
//! floor   while clients ask: so many bytes a second are sent however long messages take
//! ```
//! Its one rule: with none under way, the next message has a time at which it goes, whatever clients do.

use crate::config::{Limits, Timing};
use crate::id::Time;

const SECOND: u128 = 1_000_000_000;
/// After a message that took so long, as many times as long belongs to clients.
const REST: u64 = 2;
/// A window carries what goes through in this part of `peer_timeout`.
const IDLE_PART: u64 = 4;
/// The same while clients ask, whose requests may share the line.
const BUSY_PART: u64 = 8;

/// A message that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    at: Time,
    bytes: u64,
    /// What had been answered when it went.
    answered: u64,
}

/// The pace of one peer's resync, over one link.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    window: u64,
    under_way: u64,
    answered: u64,
    /// While clients ask, none goes before this; unless the floor says so.
    rest_until: Time,
    floor_at: Time,
}

impl Pace {
    /// One message, to learn how long it takes.
    pub(super) fn new() -> Pace {
        Pace { window: 0, under_way: 0, answered: 0, rest_until: Time(0), floor_at: Time(0) }
    }

    /// What the next message carries, at most.
    pub(super) fn message_bytes(&self, region_bytes: u64, limits: &Limits) -> u64 {
        let bytes = (self.window / 2).clamp(region_bytes, limits.resync_bytes);
        bytes - bytes % region_bytes
    }

    /// Whether so many bytes may go now.
    pub(super) fn may_send(&self, bytes: u64, is_busy: bool, now: Time) -> bool {
        self.has_room(bytes) && (!is_busy || self.rested_at() <= now)
    }

    /// While clients ask: when the next message may go, if only its time has to come.
    pub(super) fn due(&self, bytes: u64) -> Option<Time> {
        self.has_room(bytes).then(|| self.rested_at())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.under_way == 0 || self.under_way + bytes <= self.window
    }

    fn rested_at(&self) -> Time {
        if self.under_way == 0 { self.rest_until.min(self.floor_at) } else { self.floor_at }
    }

    /// A message goes.
    pub(super) fn sent(&mut self, bytes: u64, limits: &Limits, now: Time) -> Sent {
        self.under_way += bytes;
        self.floor_at = now.after((u128::from(bytes) * SECOND / u128::from(limits.resync_min_rate)) as u64);
        Sent { at: now, bytes, answered: self.answered }
    }

    /// It is answered.
    pub(super) fn answered(
        &mut self,
        sent: Sent,
        is_busy: bool,
        limits: &Limits,
        timing: &Timing,
        now: Time,
    ) {
        self.under_way -= sent.bytes;
        self.answered += sent.bytes;
        let took = now.since(sent.at).max(1);
        self.rest_until = now.after(took.saturating_mul(REST));
        let part = timing.peer_timeout / if is_busy { BUSY_PART } else { IDLE_PART };
        let through = u128::from(self.answered - sent.answered) * u128::from(part) / u128::from(took);
        let grown = self.window.max(sent.bytes) + sent.bytes;
        self.window = grown.min(limits.resync_window).min(u64::try_from(through).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: u64 = 64 << 10;
    const MS: u64 = 1_000_000;

    /// Sends as much as it may over a line that carries `rate` bytes a second, with `delay` both ways together, for a
    /// second after one to learn in. How much went through, and the most that was under way.
    fn over_line(rate: u64, delay: u64, is_busy: bool) -> (u64, u64) {
        let (limits, timing) = (Limits::default(), Timing::default());
        let mut pace = Pace::new();
        let (mut now, mut free_at, mut through, mut most) = (Time(0), 0, 0, 0);
        let mut line = std::collections::VecDeque::new();
        while now.0 < 2000 * MS {
            while line.front().is_some_and(|&(at, _)| at <= now.0) {
                let (_, sent) = line.pop_front().expect("it was looked at");
                pace.answered(sent, is_busy, &limits, &timing, now);
                through += if now.0 > 1000 * MS { sent.bytes } else { 0 };
            }
            let bytes = pace.message_bytes(REGION, &limits);
            while pace.may_send(bytes, is_busy, now) {
                free_at = now.0.max(free_at) + bytes * 1000 * MS / rate;
                line.push_back((free_at + delay, pace.sent(bytes, &limits, now)));
            }
            most = most.max(pace.under_way);
            now = now.after(MS / 20);
        }
        (through, most)
    }

    #[test]
    fn a_slow_line_is_filled_and_a_ping_waits_for_a_quarter_of_the_timeout_at_most() {
        for rate in [300_000, 1_000_000, 10_000_000] {
            let (through, most) = over_line(rate, 0, false);
            assert!(through >= rate * 7 / 10, "{through} of {rate} a second");
            assert!(most <= (rate / 4).max(REGION), "{most} under way at {rate} a second");
        }
    }

    #[test]
    fn a_long_line_is_filled() {
        let (through, _) = over_line(20_000_000, 50 * MS, false);
        assert!(through >= 18_000_000, "{through}");
    }

    #[test]
    fn a_fast_line_has_the_whole_window_under_way() {
        let (_, most) = over_line(4_000_000_000, MS, false);
        assert_eq!(most, Limits::default().resync_window);
    }

    #[test]
    fn clients_have_most_of_the_time_and_a_resync_its_least_rate() {
        let (through, most) = over_line(1_000_000_000, 0, true);
        assert!((280_000_000..=350_000_000).contains(&through), "{through}");
        assert_eq!(most, Limits::default().resync_bytes);
        let least = Limits::default().resync_min_rate;
        let (through, _) = over_line(1_000_000_000, 20 * MS, true);
        assert!((least * 8 / 10..=least * 11 / 10).contains(&through), "{through}");
    }

    #[test]
    fn a_line_that_has_become_slow_shrinks_the_window_with_the_next_answer() {
        let (limits, timing) = (Limits::default(), Timing::default());
        let mut pace = Pace::new();
        pace.window = limits.resync_window;
        let sent = pace.sent(REGION, &limits, Time(0));
        pace.answered(sent, false, &limits, &timing, Time(500 * MS));
        assert_eq!(pace.window, REGION / 2);
        assert!(pace.may_send(REGION, false, Time(500 * MS)), "one message may always go");
    }
}
