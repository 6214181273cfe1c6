//! The verdicts on one scenario: ringsan against its best peer, the floor and the file itself.
//!
//! Rule: the best peer is the one that our median of per-round ratios is worst against.

use crate::backing::BackingKind;
use crate::contest::{Part, Showing};
use crate::protocol::Protocol;
use crate::sample::Sample;
use crate::scenario::{Goals, Rival, Scenario, Times};
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, NOISE_SHALLOW, Verdict};

/// Every peer's name begins so.
pub const ANY: &str = "";

const CPU_OF_PEER: f64 = 0.5;
const CPU_US_AIM: f64 = 1.5;
const SYSTEM_CALLS: f64 = 0.25;
const SYSTEM_CALLS_AIM: f64 = 0.1;
const OVER_FLOOR_US_AIM: f64 = 2.0;

/// All verdicts on `scenario`; none without ringsan.
pub fn judge(scenario: &Scenario, showings: &[Showing]) -> Vec<Verdict> {
    let Some(subject) = showings.iter().find(|showing| showing.part == Part::Subject) else {
        return Vec::new();
    };
    let bench = Bench { case: scenario.id(), subject, showings };
    let mut verdicts = match scenario.goals {
        Goals::Throughput { must, aims } => {
            let goals = [(Kind::Must, must)].into_iter().chain(aims.iter().map(|aim| (Kind::Aim, *aim)));
            goals.map(|goal| bench.throughput(goal)).collect()
        }
        Goals::Latency => bench.latency(scenario.protocol),
    };
    if scenario.judges_cost() {
        verdicts.extend(match scenario.protocol {
            Protocol::Nbd => bench.nbd_cost(scenario.backing == BackingKind::Memory),
            Protocol::Iscsi => bench.iscsi_cost(),
        });
    }
    verdicts
}

/// The peer that is hardest to beat in `of` among those whose names begin with `name`, and our ratio to it.
pub fn best_peer<'a>(
    subject: &Showing,
    showings: &'a [Showing],
    name: &str,
    of: impl Fn(&Sample) -> f64,
    more_is_better: bool,
) -> Option<(&'a str, Spread)> {
    let ours = subject.series(&of);
    let peers =
        showings.iter().filter(|showing| showing.part == Part::Peer && showing.name.starts_with(name));
    let ratios =
        peers.filter_map(|peer| Some((peer.name.as_str(), Spread::of_ratios(&ours, &peer.series(&of))?)));
    let sign = if more_is_better { 1.0 } else { -1.0 };
    ratios.min_by(|(_, one), (_, other)| (sign * one.median).total_cmp(&(sign * other.median)))
}

fn cpu(sample: &Sample) -> f64 {
    sample.server_cpu_us
}

struct Bench<'a> {
    case: String,
    subject: &'a Showing,
    showings: &'a [Showing],
}

impl Bench<'_> {
    fn throughput(&self, (kind, Times(times, rival)): (Kind, Times)) -> Verdict {
        let goal = (kind, Goal::AtLeast(times));
        let iops = |sample: &Sample| sample.iops;
        let against =
            |part, name| self.verdict(format!("IOPS / {name}"), self.ratio_to(part, iops), goal, NOISE_DEEP);
        match rival {
            Rival::BestPeer => self.against_peers("IOPS", iops, ANY, goal, NOISE_DEEP),
            Rival::Peer(name) => self.against_peers("IOPS", iops, name, goal, NOISE_DEEP),
            Rival::Floor => against(Part::Floor, "floor"),
            Rival::Local => against(Part::Local, "local fio"),
        }
    }

    fn latency(&self, protocol: Protocol) -> Vec<Verdict> {
        let p50 = |sample: &Sample| sample.latency.p50_us;
        let mut verdicts =
            vec![self.against_peers("p50", p50, ANY, (Kind::Must, Goal::AtMost(1.0)), NOISE_SHALLOW)];
        if protocol == Protocol::Nbd {
            let goal = (Kind::Aim, Goal::AtMost(OVER_FLOOR_US_AIM));
            let over = self.over_floor(p50);
            verdicts.push(self.verdict("p50 − floor − backing, µs".into(), over, goal, NOISE_SHALLOW));
        }
        verdicts
    }

    fn over_floor(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let ours = self.subject.series(&of);
        let floor = self.part(Part::Floor)?.series(&of);
        // A memory backing takes no time of its own, so there is no local run of it.
        let backing = self.part(Part::Local).map_or(vec![0.0; ours.len()], |local| local.series(&of));
        Spread::of(
            ours.iter().zip(&floor).zip(&backing).map(|((ours, floor), backing)| ours - floor - backing),
        )
    }

    /// What each request costs; the aim for CPU time is that of a backing in memory.
    fn nbd_cost(&self, in_memory: bool) -> Vec<Verdict> {
        let calls = self.subject.counts.system_calls.and_then(|calls| Spread::of([calls]));
        let named = |measure: &str, value, goal| self.verdict(measure.into(), value, goal, NOISE_DEEP);
        let cpu_aim = (Kind::Aim, Goal::AtMost(CPU_US_AIM));
        let mut verdicts = vec![self.cpu_against(ANY, (Kind::Must, Goal::AtMost(CPU_OF_PEER)))];
        verdicts
            .extend(in_memory.then(|| named("CPU µs / IO", Spread::of(self.subject.series(cpu)), cpu_aim)));
        verdicts.push(named("system calls / IO", calls, (Kind::Must, Goal::AtMost(SYSTEM_CALLS))));
        verdicts.push(named("system calls / IO", calls, (Kind::Aim, Goal::AtMost(SYSTEM_CALLS_AIM))));
        verdicts
    }

    fn iscsi_cost(&self) -> Vec<Verdict> {
        vec![
            self.cpu_against("tgt", (Kind::Must, Goal::AtMost(CPU_OF_PEER))),
            self.cpu_against("spdk", (Kind::Aim, Goal::AtMost(1.0))),
        ]
    }

    fn cpu_against(&self, name: &str, goal: (Kind, Goal)) -> Verdict {
        self.against_peers("CPU", cpu, name, goal, NOISE_DEEP)
    }

    fn against_peers(
        &self,
        what: &str,
        of: impl Fn(&Sample) -> f64,
        name: &str,
        goal: (Kind, Goal),
        noise: f64,
    ) -> Verdict {
        let more_is_better = matches!(goal.1, Goal::AtLeast(_));
        match best_peer(self.subject, self.showings, name, &of, more_is_better) {
            Some((name, ratio)) => {
                let measure = format!("{what} / {name}{}", self.limits(name, &of));
                self.verdict(measure, Some(ratio), goal, noise)
            }
            None => {
                let name = if name == ANY { "best peer" } else { name };
                self.verdict(format!("{what} / {name}"), None, goal, noise)
            }
        }
    }

    /// What the floor and the file itself show against `peer`: beyond them no server can go.
    fn limits(&self, peer: &str, of: impl Fn(&Sample) -> f64) -> String {
        let Some(peer) = self.showings.iter().find(|showing| showing.name == peer) else {
            return String::new();
        };
        let limit = |part| {
            let showing = self.part(part)?;
            let ratio = Spread::of_ratios(&showing.series(&of), &peer.series(&of))?;
            Some(format!("{} {:.2}", showing.name, ratio.median))
        };
        let limits: Vec<String> = [Part::Floor, Part::Local].into_iter().filter_map(limit).collect();
        if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) }
    }

    fn ratio_to(&self, part: Part, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of_ratios(&self.subject.series(&of), &self.part(part)?.series(&of))
    }

    fn part(&self, part: Part) -> Option<&Showing> {
        self.showings.iter().find(|showing| showing.part == part)
    }

    fn verdict(&self, measure: String, value: Option<Spread>, goal: (Kind, Goal), noise: f64) -> Verdict {
        Verdict::new(&self.case, measure, value, goal, noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Counts;
    use crate::load::Load;
    use crate::tally::Latency;

    fn showing(name: &str, part: Part, iops: &[f64]) -> Showing {
        let latency = Latency { p50_us: 1.0, p99_us: 1.0, p999_us: 1.0, max_us: 1.0 };
        let sample = |iops: &f64| Sample {
            iops: *iops,
            mib_per_s: 0.0,
            latency,
            errors: 0,
            server_cpu_us: 1e6 / iops,
            server_busy: 1.0,
            strangers: 0.0,
        };
        let samples = iops.iter().map(sample).collect();
        Showing { name: name.into(), part, samples, counts: Counts::default(), peak_bytes: 0, failure: None }
    }

    #[test]
    fn the_best_peer_is_the_one_hardest_to_beat_round_by_round() {
        let ours = showing("ringsan", Part::Subject, &[600.0, 300.0, 600.0]);
        // `burst` has the highest single figure, `steady` is closer in most rounds.
        let burst = showing("burst", Part::Peer, &[400.0, 50.0, 100.0]);
        let steady = showing("steady", Part::Peer, &[200.0, 100.0, 200.0]);
        let showings = [ours.clone(), burst, steady];
        let (name, ratio) = best_peer(&ours, &showings, ANY, |sample| sample.iops, true).expect("peers");
        assert_eq!((name, ratio.median), ("steady", 3.0));
        let (name, ratio) =
            best_peer(&ours, &showings, ANY, |sample| sample.server_cpu_us, false).expect("peers");
        assert_eq!(name, "steady");
        assert!((ratio.median - 1.0 / 3.0).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn a_named_peer_may_come_in_several_kinds() {
        let ours = showing("ringsan", Part::Subject, &[600.0]);
        let peers = [("tgt", 100.0), ("tgt-aio", 200.0), ("spdk-aio", 500.0)];
        let showings = peers.map(|(name, iops)| showing(name, Part::Peer, &[iops]));
        let best = |name| best_peer(&ours, &showings, name, |sample| sample.iops, true);
        assert_eq!(best("tgt").map(|(name, ratio)| (name, ratio.median)), Some(("tgt-aio", 3.0)));
        assert_eq!(best("spdk-malloc"), None);
    }

    #[test]
    fn without_peers_nothing_is_reached() {
        let ours = showing("ringsan", Part::Subject, &[600.0]);
        let goals =
            Goals::Throughput { must: Times(1.0, Rival::BestPeer), aims: &[Times(0.8, Rival::Floor)] };
        let scenario = Scenario {
            name: "read",
            protocol: Protocol::Nbd,
            backing: BackingKind::Memory,
            load: Load::random_4k(0, 8),
            client: crate::sample::Client::Gather,
            goals,
        };
        let verdicts = judge(&scenario, &[ours]);
        assert!(verdicts.iter().all(|verdict| verdict.outcome == crate::verdict::Outcome::Unknown));
    }
}
