//! What is measured: each backing under each load, and what ringsan must and aims to reach there.
//!
//! Rule: a goal is written here, once, before anything is measured.

use serde::Serialize;

use crate::backing::BackingKind;
use crate::load::Load;
use crate::sample::Client;

/// One load on one backing with one client.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// The load's name: `read-d32`.
    pub name: &'static str,
    /// The backing.
    pub backing: BackingKind,
    /// The load.
    pub load: Load,
    /// What produces it.
    pub client: Client,
    /// What is to be reached.
    pub goals: Goals,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goals {
    /// Requests a second: so many times the best peer's, and an aim.
    Throughput {
        /// Times the best peer.
        peer: f64,
        /// The aim.
        aim: Aim,
    },
    /// Half of the requests no slower than the best peer's; aim: floor + backing + 2 µs.
    Latency,
}

/// An aim for requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Times the best peer.
    Peer(f64),
    /// Times the floor.
    Floor(f64),
    /// Times fio straight on the file.
    Local(f64),
}

impl Scenario {
    /// For people and for `--only`: `read-d32/memory/gather`.
    pub fn id(&self) -> String {
        let backing = match self.backing {
            BackingKind::Memory => "memory",
            BackingKind::Tmpfs => "tmpfs",
            BackingKind::Cache => "cache",
            BackingKind::Direct => "direct",
        };
        format!("{}/{backing}/{}", self.name, self.client.name())
    }

    /// Whether costs for each request are judged: where many are in flight.
    pub fn judges_cost(&self) -> bool {
        self.load.depth == 32
    }
}

/// All scenarios with the given clients: each client at depth 32, the first one elsewhere.
pub fn all(clients: &[Client]) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for backing in BackingKind::ALL {
        for (index, client) in clients.iter().enumerate() {
            let loads = loads(backing).into_iter().filter(|(_, load, _)| index == 0 || load.depth == 32);
            scenarios.extend(loads.map(|(name, load, goals)| Scenario {
                name,
                backing,
                load: client.with(&load),
                client: *client,
                goals,
            }));
        }
    }
    scenarios
}

fn loads(backing: BackingKind) -> [(&'static str, Load, Goals); 6] {
    let (read, write) = random_goals(backing);
    // Past the page cache the disk is the floor.
    let aim = if backing == BackingKind::Direct { Aim::Local(0.9) } else { Aim::Floor(0.9) };
    let sequential = Goals::Throughput { peer: 1.2, aim };
    [
        ("read-d32", Load::random_4k(0, 32), read),
        ("write-d32", Load::random_4k(100, 32), write),
        ("read-d1", Load::random_4k(0, 1), Goals::Latency),
        ("write-d1", Load::random_4k(100, 1), Goals::Latency),
        ("read-128k", Load::sequential_128k(0), sequential),
        ("write-128k", Load::sequential_128k(100), sequential),
    ]
}

fn random_goals(backing: BackingKind) -> (Goals, Goals) {
    let goals = |peer, aim| Goals::Throughput { peer, aim };
    match backing {
        BackingKind::Memory => (goals(3.0, Aim::Floor(0.8)), goals(2.5, Aim::Floor(0.6))),
        BackingKind::Tmpfs | BackingKind::Cache => (goals(2.0, Aim::Peer(3.0)), goals(2.5, Aim::Floor(0.6))),
        BackingKind::Direct => (goals(1.2, Aim::Local(0.95)), goals(1.2, Aim::Local(0.95))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_clients_only_drive_the_deep_loads() {
        let scenarios = all(&[Client::Gather, Client::Single]);
        assert_eq!(scenarios.len(), 4 * (6 + 2));
        let single = scenarios.iter().filter(|scenario| scenario.client == Client::Single);
        assert!(single.into_iter().all(|scenario| scenario.load.depth == 32));
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<String> =
            all(&[Client::Gather, Client::Single, Client::Fio]).iter().map(Scenario::id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
