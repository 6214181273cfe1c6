//! What was counted, and what it means.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Error;

/// How finely latencies are kept: three digits, up to ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const DIGITS: u8 = 3;
/// The chart shows at most so many points in time.
const SLICES: usize = 100;

/// One thread's counters.
#[derive(Debug)]
pub(super) struct Tally {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    /// Requests completed in each slice of the time.
    slices: Vec<u64>,
    slice: Duration,
    unanswered: u64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// For how long it was counted.
    pub seconds: f64,
    /// The reads; none if none were asked for.
    pub read: Option<Figures>,
    /// The writes.
    pub write: Option<Figures>,
    /// Requests a second, in equal slices of the time.
    pub iops_over_time: Vec<f64>,
    /// Requests that got no reply until a few seconds after the end; they count nowhere else.
    pub unanswered: u64,
}

/// What came out of reads, or of writes.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// How many there were.
    pub requests: u64,
    /// How many a second.
    pub iops: f64,
    /// Throughput.
    pub mib_per_second: f64,
    /// How long they took.
    pub latency_us: Latencies,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// The shortest.
    pub min: f64,
    /// Their mean.
    pub mean: f64,
    /// The longest.
    pub max: f64,
    /// Percent, and the latency that so many do not exceed.
    pub percentiles: Vec<(f64, f64)>,
}

impl Tally {
    pub(super) fn new(time: Duration) -> Tally {
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, DIGITS).expect("bounds are right");
        let slice = (time / SLICES as u32).max(Duration::from_millis(10));
        let count = time.as_nanos().div_ceil(slice.as_nanos()) as usize;
        Tally { reads: histogram(), writes: histogram(), slices: vec![0; count.max(1)], slice, unanswered: 0 }
    }

    /// One request took `latency`, and was complete at `at` since counting began.
    pub(super) fn count(&mut self, is_write: bool, latency: Duration, at: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let histogram = if is_write { &mut self.writes } else { &mut self.reads };
        histogram.saturating_record(nanoseconds);
        let slice = (at.as_nanos() / self.slice.as_nanos()) as usize;
        if let Some(count) = self.slices.get_mut(slice) {
            *count += 1;
        }
    }

    /// So many requests got no reply.
    pub(super) fn give_up(&mut self, unanswered: u64) {
        self.unanswered += unanswered;
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.reads.add(&other.reads).expect("they have the same bounds");
        self.writes.add(&other.writes).expect("they have the same bounds");
        self.unanswered += other.unanswered;
        self.slices.iter_mut().zip(&other.slices).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// What it means, after `time` of requests of `block_bytes`.
    pub(super) fn outcome(&self, block_bytes: u32, time: Duration) -> Outcome {
        let seconds = time.as_secs_f64().max(1e-9);
        let lived = (time.as_nanos() / self.slice.as_nanos()).max(1) as usize;
        let per_slice = self.slices.iter().take(lived).map(|count| *count as f64 / self.slice.as_secs_f64());
        Outcome {
            seconds,
            read: figures(&self.reads, block_bytes, seconds),
            write: figures(&self.writes, block_bytes, seconds),
            iops_over_time: per_slice.collect(),
            unanswered: self.unanswered,
        }
    }
}

impl Outcome {
    /// Reads and writes together, a second.
    pub fn iops(&self) -> f64 {
        self.read.iter().chain(&self.write).map(|figures| figures.iops).sum()
    }

    /// An error if nothing was complete in time.
    pub(super) fn checked(self) -> Result<Outcome, Error> {
        if self.read.is_none() && self.write.is_none() {
            let owed = match self.unanswered {
                0 => String::new(),
                count => format!(": {count} requests got no reply"),
            };
            let what = format!("no request was complete within {:.1} s{owed}", self.seconds);
            return Err(
                Error::new(crate::Kind::Lost, what).remedy("give it more --time, and look at the server")
            );
        }
        Ok(self)
    }
}

fn figures(histogram: &Histogram<u64>, block_bytes: u32, seconds: f64) -> Option<Figures> {
    let iops = histogram.len() as f64 / seconds;
    let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    let percentiles = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];
    let at = |percent: f64| (percent, us(histogram.value_at_percentile(percent)));
    (!histogram.is_empty()).then(|| Figures {
        requests: histogram.len(),
        iops,
        mib_per_second: iops * f64::from(block_bytes) / f64::from(1 << 20),
        latency_us: Latencies {
            min: us(histogram.min()),
            mean: histogram.mean() / 1000.0,
            max: us(histogram.max()),
            percentiles: percentiles.map(at).to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rates_and_slices_come_out() {
        let time = Duration::from_secs(10);
        let mut tally = Tally::new(time);
        for n in 1..=1000_u64 {
            tally.count(false, Duration::from_micros(n), Duration::from_millis(n * 10 - 1));
        }
        let outcome = tally.outcome(4096, time);
        let read = outcome.read.as_ref().expect("there were reads");
        assert!(outcome.write.is_none());
        assert_eq!((read.requests, read.iops, outcome.iops()), (1000, 100.0, 100.0));
        let median = read.latency_us.percentiles.iter().find(|(percent, _)| *percent == 50.0);
        assert!(median.is_some_and(|(_, us)| (499.0..502.0).contains(us)), "{median:?}");
        assert_eq!(outcome.iops_over_time, vec![100.0; 100]);
    }

    #[test]
    fn tallies_add_up() {
        let time = Duration::from_secs(1);
        let (mut one, mut other) = (Tally::new(time), Tally::new(time));
        one.count(true, Duration::from_micros(5), Duration::ZERO);
        other.count(true, Duration::from_micros(7), Duration::from_secs(5));
        one.add(&other);
        assert_eq!(one.outcome(512, time).write.expect("writes").requests, 2);
    }

    #[test]
    fn nothing_complete_is_an_error() {
        let time = Duration::from_secs(1);
        assert!(Tally::new(time).outcome(512, time).checked().is_err());
    }
}
