//! Medians and ratios over interleaved rounds.
//!
//! Rule: two servers are compared round by round, then the median of the ratios is taken; never the ratio of
//! two averages, because the whole machine changes its speed between rounds.

use serde::Serialize;

/// A median and the middle half around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the values are no larger.
    pub median: f64,
    /// A quarter of the values are no larger.
    pub low: f64,
    /// Three quarters of the values are no larger.
    pub high: f64,
}

impl Spread {
    /// Of `values`; `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| Spread {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
        })
    }

    /// Of the ratios `ours[n] / theirs[n]` of the rounds that both have.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Spread> {
        Spread::of(
            ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs),
        )
    }
}

/// The value at `quantile` of `sorted`, between two neighbours where it falls between them.
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let place = quantile * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_lies_between() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]).expect("values").median, 2.5);
    }

    #[test]
    fn spread_is_the_middle_half() {
        let spread = Spread::of([9.0, 1.0, 5.0, 3.0, 7.0]).expect("values");
        assert_eq!(spread, Spread { median: 5.0, low: 3.0, high: 7.0 });
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine ran at half speed in the second round; the ratio does not see it.
        let spread = Spread::of_ratios(&[300.0, 150.0, 300.0], &[100.0, 50.0, 100.0]).expect("rounds");
        assert_eq!(spread, Spread { median: 3.0, low: 3.0, high: 3.0 });
    }

    #[test]
    fn rounds_without_a_rival_are_left_out() {
        assert_eq!(Spread::of_ratios(&[3.0, 4.0], &[0.0, 2.0]).expect("one round").median, 2.0);
        assert_eq!(Spread::of_ratios(&[3.0], &[]), None);
    }
}
