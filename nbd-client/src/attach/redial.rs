//! When to dial which server again: a machine without clock or sockets.
//!
//! ```text
//! lost ─▶ due at once ─▶ dialing ─▶ arrived
//!             ▲                 └─▶ failed: due after 0.1 s, 0.2 s, 0.4 s … 5 s (refused: 10 s)
//!             └───────────────────────┘
//! ```
//! Its one rule: a server is dialed once at a time, for all the connections that it lacks.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// The connections that are missing, of each server.
#[derive(Debug)]
pub(super) struct Redial {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    missing: usize,
    dialing: bool,
    due: Instant,
    failures: u32,
}

/// A dial to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dial {
    pub node: usize,
    pub count: usize,
}

impl Redial {
    /// Nothing is missing yet.
    pub(super) fn new(nodes: usize, now: Instant) -> Redial {
        Redial { nodes: vec![Node { missing: 0, dialing: false, due: now, failures: 0 }; nodes] }
    }

    /// One more connection to `node` is missing.
    pub(super) fn lost(&mut self, node: usize, now: Instant) {
        let node = &mut self.nodes[node];
        node.missing += 1;
        if node.failures == 0 {
            node.due = now;
        }
    }

    /// What to dial now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Dial> {
        let waiting = self.nodes.iter_mut().enumerate().filter(|(_, node)| node.waits() && node.due <= now);
        waiting
            .map(|(number, node)| {
                node.dialing = true;
                Dial { node: number, count: node.missing }
            })
            .collect()
    }

    /// When there will be something to dial.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.nodes.iter().filter(|node| node.waits()).map(|node| node.due).min()
    }

    /// A dial brought `count` connections that are in use now.
    pub(super) fn arrived(&mut self, node: usize, count: usize) {
        let node = &mut self.nodes[node];
        assert!(count <= node.missing, "more connections than were missing");
        node.missing -= count;
        node.dialing = false;
        node.failures = 0;
    }

    /// A dial brought nothing. Whether this is the first time.
    pub(super) fn failed(&mut self, node: usize, now: Instant) -> bool {
        let node = &mut self.nodes[node];
        let pause = FIRST_PAUSE.saturating_mul(1 << node.failures.min(10)).min(LONGEST_PAUSE);
        node.end_of_dial(now + pause)
    }

    /// A server answered with another export. Whether this is the first failure.
    pub(super) fn refused(&mut self, node: usize, now: Instant) -> bool {
        self.nodes[node].end_of_dial(now + PAUSE_AFTER_REFUSAL)
    }
}

impl Node {
    fn waits(&self) -> bool {
        self.missing > 0 && !self.dialing
    }

    fn end_of_dial(&mut self, due: Instant) -> bool {
        self.dialing = false;
        self.due = due;
        self.failures += 1;
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn lost_connections_are_dialed_at_once_and_together() {
        let now = Instant::now();
        let mut redial = Redial::new(3, now);
        assert_eq!((redial.due(now), redial.next_due()), (vec![], None));
        redial.lost(1, now);
        redial.lost(1, now);
        assert_eq!(redial.due(now), [Dial { node: 1, count: 2 }]);
        assert_eq!((redial.due(now), redial.next_due()), (vec![], None), "one dial at a time");
        redial.arrived(1, 2);
        assert_eq!(redial.next_due(), None);
    }

    #[test]
    fn what_is_lost_during_a_dial_is_dialed_afterwards() {
        let now = Instant::now();
        let mut redial = Redial::new(1, now);
        redial.lost(0, now);
        redial.due(now);
        redial.lost(0, now);
        redial.arrived(0, 1);
        assert_eq!(redial.due(now), [Dial { node: 0, count: 1 }]);
    }

    #[test]
    fn pauses_grow_to_five_seconds_and_shrink_after_success() {
        let start = Instant::now();
        let mut redial = Redial::new(1, start);
        redial.lost(0, start);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let now = redial.next_due().expect("something is missing");
            redial.due(now);
            redial.failed(0, now);
            pauses.push((redial.next_due().expect("something is missing") - now).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        let now = redial.next_due().expect("something is missing");
        redial.due(now);
        redial.arrived(0, 1);
        redial.lost(0, now);
        assert_eq!(redial.next_due(), Some(now));
    }

    #[test]
    fn only_the_first_failure_is_news_until_there_is_a_success() {
        let now = Instant::now();
        let mut redial = Redial::new(1, now);
        redial.lost(0, now);
        assert!(redial.failed(0, now));
        assert!(!redial.failed(0, now) && !redial.refused(0, now));
        redial.arrived(0, 1);
        redial.lost(0, now);
        assert!(redial.failed(0, now));
    }

    #[test]
    fn another_loss_does_not_hurry_a_server_that_is_down() {
        let now = Instant::now();
        let mut redial = Redial::new(2, now);
        redial.lost(0, now);
        redial.due(now);
        redial.failed(0, now);
        redial.lost(0, ms(now, 1));
        redial.lost(1, ms(now, 1));
        assert_eq!(redial.due(ms(now, 1)), [Dial { node: 1, count: 1 }]);
        assert_eq!(redial.due(ms(now, 100)), [Dial { node: 0, count: 2 }]);
    }
}
