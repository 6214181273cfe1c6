//! What a figure means for a goal: reached, within the noise, or missed.
//!
//! Rule: a figure without anything to compare it to is unknown, never reached.

use std::fmt;

use serde::Serialize;

use crate::statistics::Spread;

/// What differs by less is noise where many requests are in flight.
pub const NOISE_DEEP: f64 = 0.05;
/// What differs by less is noise at depth 1.
pub const NOISE_SHALLOW: f64 = 0.10;

/// How binding a goal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To be reached.
    Must,
    /// To be striven for.
    Aim,
}

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// How a goal was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Reached.
    Reached,
    /// Missed by less than the noise.
    Noise,
    /// Missed.
    Missed,
    /// There was nothing to compare to, or no way to measure.
    Unknown,
}

/// One line of the judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Where: a scenario or an experiment.
    pub case: String,
    /// What is compared: `IOPS / nbdkit`.
    pub measure: String,
    /// What came out.
    pub value: Option<Spread>,
    /// How binding the goal is.
    pub kind: Kind,
    /// The goal.
    pub goal: Goal,
    /// How it was met.
    pub outcome: Outcome,
}

impl Verdict {
    /// Judges `value`; missing the goal by less than the share `noise` of it is noise.
    pub fn new(
        case: &str,
        measure: impl Into<String>,
        value: Option<Spread>,
        (kind, goal): (Kind, Goal),
        noise: f64,
    ) -> Verdict {
        let outcome = value.map_or(Outcome::Unknown, |value| goal.judge(value.median, noise));
        Verdict { case: case.into(), measure: measure.into(), value, kind, goal, outcome }
    }
}

impl Goal {
    fn judge(self, value: f64, noise: f64) -> Outcome {
        let (reached, nearly) = match self {
            Goal::AtLeast(bound) => (value >= bound, value >= bound * (1.0 - noise)),
            Goal::AtMost(bound) => (value <= bound, value <= bound * (1.0 + noise)),
        };
        match (reached, nearly) {
            (true, _) => Outcome::Reached,
            (false, true) => Outcome::Noise,
            (false, false) => Outcome::Missed,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtLeast(bound) => write!(out, "≥ {bound}"),
            Goal::AtMost(bound) => write!(out, "≤ {bound}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Outcome::Reached => "reached",
            Outcome::Noise => "missed by less than the noise",
            Outcome::Missed => "MISSED",
            Outcome::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Kind::Must => "must",
            Kind::Aim => "aim",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_missed_only_by_more_than_the_noise() {
        assert_eq!(Goal::AtLeast(3.0).judge(3.0, 0.05), Outcome::Reached);
        assert_eq!(Goal::AtLeast(3.0).judge(2.9, 0.05), Outcome::Noise);
        assert_eq!(Goal::AtLeast(3.0).judge(2.8, 0.05), Outcome::Missed);
        assert_eq!(Goal::AtMost(0.5).judge(0.52, 0.05), Outcome::Noise);
        assert_eq!(Goal::AtMost(0.5).judge(0.6, 0.05), Outcome::Missed);
    }

    #[test]
    fn nothing_to_compare_to_is_unknown() {
        let verdict = Verdict::new("case", "IOPS", None, (Kind::Must, Goal::AtLeast(1.0)), 0.05);
        assert_eq!(verdict.outcome, Outcome::Unknown);
    }
}
