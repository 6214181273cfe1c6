//! What a load has seen so far: requests, errors, latencies.
//!
//! Rule: counting costs a few nanoseconds a request, and nothing that grows.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Counts while a load runs.
pub struct Tally {
    requests: u64,
    errors: u64,
    latency_ns: Histogram<u64>,
}

/// What came out of one run of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Requests answered, failed ones included.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// How long requests took.
    pub latency: Latency,
}

/// Latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Tally {
    /// Nothing seen.
    pub fn new() -> Tally {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid");
        Tally { requests: 0, errors: 0, latency_ns }
    }

    /// One request was answered after `nanoseconds`.
    #[inline]
    pub fn answered(&mut self, nanoseconds: u64, error: bool) {
        self.requests += 1;
        self.errors += u64::from(error);
        self.latency_ns.saturating_record(nanoseconds);
    }

    /// What came out, after `elapsed`.
    pub fn figures(&self, elapsed: Duration) -> Figures {
        let at = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let latency = Latency { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us: at(1.0) };
        Figures { requests: self.requests, errors: self.errors, elapsed, latency }
    }
}

impl Figures {
    /// Requests a second.
    pub fn iops(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}
