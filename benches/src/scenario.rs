//! What is measured: each backing under each load, and what ringsan must and aims to reach there.
//!
//! Rule: a goal is written here, once, before anything is measured.

use serde::Serialize;

use crate::backing::BackingKind;
use crate::load::Load;
use crate::protocol::Protocol;
use crate::sample::Client;

/// One load on one backing with one client.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// The load's name: `read-d32`.
    pub name: &'static str,
    /// What the load is asked over.
    pub protocol: Protocol,
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
    /// Requests a second.
    Throughput {
        /// To be reached.
        must: Times,
        /// To be striven for.
        aims: &'static [Times],
    },
    /// Half of the requests no slower than the best peer's; aim for NBD: floor + backing + 2 µs.
    Latency,
}

/// So many times what another reaches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times(pub f64, pub Rival);

/// Whom ringsan is compared to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rival {
    /// The peer that is hardest to beat.
    BestPeer,
    /// The peers whose names begin so; of several, the one that is hardest to beat.
    Peer(&'static str),
    /// The echo server.
    Floor,
    /// fio straight on the file.
    Local,
}

impl Scenario {
    /// For people and for `--only`: `nbd/read-d32/memory/gather`.
    pub fn id(&self) -> String {
        let backing = match self.backing {
            BackingKind::Memory => "memory",
            BackingKind::Tmpfs => "tmpfs",
            BackingKind::Cache => "cache",
            BackingKind::Direct => "direct",
        };
        format!("{}/{}/{backing}/{}", self.protocol.name(), self.name, self.client.name())
    }

    /// Whether costs for each request are judged: where many are in flight.
    pub fn judges_cost(&self) -> bool {
        self.load.depth == 32
    }
}

/// All scenarios with the given clients: each client at depth 32, the first one elsewhere.
pub fn all(clients: &[Client]) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for (protocol, backing) in
        Protocol::ALL.into_iter().flat_map(|protocol| BackingKind::ALL.map(|kind| (protocol, kind)))
    {
        for (index, &client) in clients.iter().enumerate() {
            let loads = loads(protocol, backing)
                .into_iter()
                .filter(|(_, load, _)| (index == 0 || load.depth == 32) && client.can_drive(protocol, load));
            scenarios.extend(loads.map(|(name, load, goals)| Scenario {
                name,
                protocol,
                backing,
                load: client.with(&load),
                client,
                goals,
            }));
        }
    }
    scenarios
}

fn loads(protocol: Protocol, backing: BackingKind) -> Vec<(&'static str, Load, Goals)> {
    let (read, write, sequential) = match protocol {
        Protocol::Nbd => nbd_goals(backing),
        Protocol::Iscsi => iscsi_goals(backing),
    };
    let mut loads = vec![
        ("read-d32", Load::random_4k(0, 32), read),
        ("write-d32", Load::random_4k(100, 32), write),
        ("read-d1", Load::random_4k(0, 1), Goals::Latency),
        ("write-d1", Load::random_4k(100, 1), Goals::Latency),
        ("read-128k", Load::sequential_128k(0), sequential),
        ("write-128k", Load::sequential_128k(100), sequential),
    ];
    if protocol == Protocol::Iscsi && backing == BackingKind::Cache {
        // For iSCSI, tmpfs and the page cache have goals in common; the deep loads show whether they differ.
        loads.truncate(2);
    }
    loads
}

/// Of random reads, random writes, and sequential transfers.
fn nbd_goals(backing: BackingKind) -> (Goals, Goals, Goals) {
    use Rival::{BestPeer, Floor, Local};
    const fn goals(times: f64, aims: &'static [Times]) -> Goals {
        Goals::Throughput { must: Times(times, BestPeer), aims }
    }
    let write = goals(2.5, &[Times(0.6, Floor)]);
    let sequential = goals(1.2, &[Times(0.9, Floor)]);
    match backing {
        BackingKind::Memory => (goals(3.0, &[Times(0.8, Floor)]), write, sequential),
        BackingKind::Tmpfs | BackingKind::Cache => (goals(2.0, &[Times(3.0, BestPeer)]), write, sequential),
        // Past the page cache the disk is the floor.
        BackingKind::Direct => {
            let random = goals(1.2, &[Times(0.95, Local)]);
            (random, random, goals(1.2, &[Times(0.9, Local)]))
        }
    }
}

fn iscsi_goals(backing: BackingKind) -> (Goals, Goals, Goals) {
    use Rival::Peer;
    const fn goals(times: f64, aims: &'static [Times]) -> Goals {
        Goals::Throughput { must: Times(times, Peer("tgt")), aims }
    }
    let random = match backing {
        BackingKind::Memory => goals(3.0, &[Times(1.2, Peer("spdk-malloc"))]),
        BackingKind::Tmpfs => goals(2.5, &[Times(1.0, Peer("spdk-aio")), Times(1.5, Peer("spdk-uring"))]),
        // SPDK never goes through the page cache.
        BackingKind::Cache => goals(2.5, &[]),
        BackingKind::Direct => goals(1.2, &[Times(1.05, Peer("spdk"))]),
    };
    (random, random, goals(2.0, &[Times(1.1, Peer("spdk"))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_clients_only_drive_the_deep_loads() {
        let scenarios = all(&[Client::Gather, Client::Single]);
        assert_eq!(scenarios.len(), 4 * (6 + 2) + 3 * (6 + 2) + 2 * 2);
        let single = scenarios.iter().filter(|scenario| scenario.client == Client::Single);
        assert!(single.into_iter().all(|scenario| scenario.load.depth == 32));
    }

    #[test]
    fn iscsi_perf_only_reads_over_iscsi() {
        let scenarios = all(&[Client::Gather, Client::IscsiPerf]);
        let mut its = scenarios.iter().filter(|scenario| scenario.client == Client::IscsiPerf);
        assert!(its.clone().count() == 4);
        assert!(its.all(|scenario| scenario.protocol == Protocol::Iscsi && scenario.name == "read-d32"));
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<String> = all(&[Client::Gather, Client::Single, Client::Fio, Client::IscsiPerf])
            .iter()
            .map(Scenario::id)
            .collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
