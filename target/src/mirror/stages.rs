//! Where the time of a mirrored write goes.

use std::cell::RefCell;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use crate::snapshot::Stage;
use crate::volume::LATENCY_NS_MAX;

/// A histogram for each stage.
pub struct Stages(RefCell<Vec<Histogram<u64>>>);

impl Default for Stages {
    fn default() -> Stages {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are lawful");
        Stages(RefCell::new(vec![histogram; Stage::ALL.len()]))
    }
}

impl Stages {
    /// Books one.
    pub fn record(&self, stage: Stage, took: Duration) {
        self.0.borrow_mut()[stage as usize].saturating_record((took.as_nanos() as u64).max(1));
    }

    /// A copy.
    pub fn snapshot(&self) -> Vec<Histogram<u64>> {
        self.0.borrow().clone()
    }
}
