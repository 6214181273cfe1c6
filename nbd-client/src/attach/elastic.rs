//! How long a request may take before the driver counts its connection as lost: a machine without clock or device.
//!
//! With several hosts that time is short, because I/O of a lost host stalls for it. But a server that is only slow
//! must not be taken for dead again and again: then the time grows, and shrinks back when all has been well.
//!
//! Its one rule: only a server that answers a new dial at once was slow; one that does not was lost.

use std::time::{Duration, Instant};

const LONGEST_S: u64 = 30;
/// All connections that a slow server loses at a time count once.
const ONE_EPISODE: Duration = Duration::from_secs(5);
const ALL_WELL_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Elastic {
    usual: Duration,
    now: Duration,
    /// Of each server, whether the driver gave a connection to it up.
    given_up: Vec<bool>,
    grown_at: Option<Instant>,
}

impl Elastic {
    /// `now` is what the device has, `usual` what it should have.
    pub(super) fn new(nodes: usize, usual: Duration, now: Duration, at: Instant) -> Elastic {
        let grown_at = (now > usual).then_some(at);
        Elastic { usual, now, given_up: vec![false; nodes], grown_at }
    }

    /// The driver gave a connection up, because a request took too long.
    pub(super) fn gave_up(&mut self, node: usize) {
        self.given_up[node] = true;
    }

    /// A server does not answer: it was not slow, but lost.
    pub(super) fn was_lost(&mut self, node: usize) {
        self.given_up[node] = false;
    }

    /// A server answers again. The time that requests should have from now on, in seconds, if that is more.
    pub(super) fn answers(&mut self, node: usize, at: Instant) -> Option<u64> {
        let slow = std::mem::take(&mut self.given_up[node]);
        if !slow || self.grown_at.is_some_and(|grown| at - grown < ONE_EPISODE) {
            return None;
        }
        let doubled = (self.now * 2).as_millis().div_ceil(1000) as u64;
        let seconds = doubled.min(LONGEST_S);
        if Duration::from_secs(seconds) <= self.now {
            return None;
        }
        self.now = Duration::from_secs(seconds);
        self.grown_at = Some(at);
        Some(seconds)
    }

    /// The usual time, if requests may have that again.
    pub(super) fn all_well(&mut self, at: Instant) -> Option<Duration> {
        self.grown_at.take_if(|grown| at - *grown >= ALL_WELL_AFTER)?;
        self.now = self.usual;
        Some(self.usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(900);

    fn s(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn time_doubles_with_each_episode_of_slowness() {
        let start = Instant::now();
        let mut elastic = Elastic::new(1, USUAL, USUAL, start);
        let mut grown = Vec::new();
        for episode in 0..7 {
            elastic.gave_up(0);
            grown.extend(elastic.answers(0, s(start, episode * 10)));
        }
        assert_eq!(grown, [2, 4, 8, 16, 30]);
    }

    #[test]
    fn an_episode_counts_once_for_all_servers() {
        let start = Instant::now();
        let mut elastic = Elastic::new(2, USUAL, USUAL, start);
        elastic.gave_up(0);
        elastic.gave_up(1);
        assert_eq!(elastic.answers(0, start), Some(2));
        assert_eq!(elastic.answers(1, s(start, 1)), None);
    }

    #[test]
    fn a_server_that_was_lost_changes_nothing() {
        let start = Instant::now();
        let mut elastic = Elastic::new(1, USUAL, USUAL, start);
        assert_eq!(elastic.answers(0, start), None);
        elastic.gave_up(0);
        elastic.was_lost(0);
        assert_eq!(elastic.answers(0, start), None);
    }

    #[test]
    fn the_usual_time_returns_when_all_has_been_well() {
        let start = Instant::now();
        let mut elastic = Elastic::new(1, USUAL, USUAL, start);
        elastic.gave_up(0);
        elastic.answers(0, start);
        assert_eq!(elastic.all_well(s(start, 599)), None);
        assert_eq!(elastic.all_well(s(start, 600)), Some(USUAL));
        assert_eq!(elastic.all_well(s(start, 6000)), None);
    }

    #[test]
    fn what_an_earlier_watch_made_grow_shrinks_too() {
        let start = Instant::now();
        let mut elastic = Elastic::new(1, USUAL, Duration::from_secs(4), start);
        assert_eq!(elastic.all_well(s(start, 600)), Some(USUAL));
    }
}
