//! The whole run: each protocol and each backing in turn, each load on it, all contestants; then the experiments; then the report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::backing::{Backing, BackingKind};
use crate::contest::{Contestant, Part, Showing, hold};
use crate::experiment;
use crate::judgement::judge;
use crate::machine::Machine;
use crate::peers::{Binaries, PEERS, Presence, Program, ringsan};
use crate::protocol::Protocol;
use crate::sample::{Client, Method};
use crate::scenario::{self, Scenario};
use crate::server::Server;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::{chart, cpu, fio, interrupt, report};

/// What is to be compared, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// How samples are taken.
    pub method: Method,
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Size of each backing.
    pub size_bytes: u64,
    /// Parts of the ids of what is to be measured; all if empty.
    pub only: Vec<String>,
    /// Beginnings of the names of peers; all if empty.
    pub peers: Vec<String>,
    /// The clients.
    pub clients: Vec<Client>,
    /// Programs that are not in the search path.
    pub binaries: Binaries,
    /// Directory for files on a disk.
    pub data_dir: PathBuf,
    /// Directory for the results.
    pub out_dir: PathBuf,
}

/// One scenario and what came out.
#[derive(Serialize)]
pub struct Outcome {
    /// Which.
    pub scenario: Scenario,
    /// All contestants.
    pub showings: Vec<Showing>,
}

/// Everything that came out.
#[derive(Serialize)]
pub struct Record {
    /// Where.
    pub machine: Machine,
    /// How.
    pub plan: Plan,
    /// Which servers were there.
    pub programs: Vec<Presence>,
    /// What came out.
    pub outcomes: Vec<Outcome>,
    /// What it means.
    pub verdicts: Vec<Verdict>,
}

/// Carries out `plan`, prints what comes out, and writes it to the results' directory.
pub fn compare(plan: Plan) -> Result<()> {
    interrupt::watch()?;
    cpu::pin(&[plan.method.client_cpu])?;
    let scratch = tempfile::tempdir().context("no temporary directory")?;
    let programs = programs(&plan);
    let machine = Machine::here();
    let presences = programs.iter().map(|(_, program)| program.presence(&plan.binaries)).collect();
    let mut record =
        Record { machine, plan, programs: presences, outcomes: Vec::new(), verdicts: Vec::new() };
    report::print_head(&record);
    let present = programs.into_iter().zip(&record.programs).filter(|(_, presence)| presence.version.is_ok());
    let present: Vec<(Part, Program)> = present.map(|(program, _)| program).collect();
    for protocol in Protocol::ALL {
        let speakers: Vec<_> = present.iter().filter(|(_, program)| program.protocol == protocol).collect();
        for kind in BackingKind::ALL {
            measure_backing((protocol, kind), &speakers, scratch.path(), &mut record)?;
        }
    }
    record.verdicts.extend(experiment::all(&record.plan, scratch.path())?);
    if record.outcomes.is_empty() && record.verdicts.is_empty() {
        bail!("nothing is called {}; --list shows what there is", record.plan.only.join(" or "));
    }
    report::print_verdicts(&record);
    write(&record)
}

impl Plan {
    /// Whether what is called `id` is to be measured.
    pub fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| id.contains(part.as_str()))
    }

    /// The scenarios to be measured.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let all = scenario::all(&self.clients).into_iter();
        all.filter(|scenario| self.wants(&scenario.id())).collect()
    }

    fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }
}

/// Those that take part in any scenario.
fn programs(plan: &Plan) -> Vec<(Part, Program)> {
    let scenarios = plan.scenarios();
    let is_spoken = |protocol| scenarios.iter().any(|scenario| scenario.protocol == protocol);
    let subjects = Protocol::ALL.map(|protocol| (Part::Subject, ringsan(protocol)));
    let peers = PEERS.into_iter().filter(|peer| plan.wants_peer(peer.name));
    let all = subjects.into_iter().chain(peers.map(|peer| (Part::Peer, peer)));
    all.filter(|(_, program)| is_spoken(program.protocol)).collect()
}

fn measure_backing(
    (protocol, kind): (Protocol, BackingKind),
    programs: &[&(Part, Program)],
    scratch: &Path,
    record: &mut Record,
) -> Result<()> {
    let here = |scenario: &Scenario| scenario.protocol == protocol && scenario.backing == kind;
    let scenarios = record.plan.scenarios().into_iter().filter(here);
    let scenarios: Vec<Scenario> = scenarios.filter(has_client).collect();
    if scenarios.is_empty() {
        return Ok(());
    }
    let backing = Backing::create(kind, record.plan.size_bytes, &record.plan.data_dir)?;
    let stage = Stage {
        backing: &backing,
        scratch,
        method: record.plan.method,
        binaries: &record.plan.binaries.clone(),
    };
    let servers = start_all(&stage, programs);
    for scenario in scenarios {
        let showings = measure(&scenario, &stage, &servers, record.plan.rounds)?;
        let verdicts = judge(&scenario, &showings);
        let outcome = Outcome { scenario, showings };
        report::print_outcome(&outcome, &verdicts);
        record.outcomes.push(outcome);
        record.verdicts.extend(verdicts);
    }
    Ok(())
}

fn has_client(scenario: &Scenario) -> bool {
    let presence = scenario.client.presence(scenario.protocol);
    presence.inspect_err(|error| println!("SKIP {}: {error:#}", scenario.id())).is_ok()
}

fn start_all(stage: &Stage, programs: &[&(Part, Program)]) -> Vec<(Part, Server)> {
    let able = programs.iter().filter(|(_, program)| (program.serves)(stage.backing.kind));
    let start = |(part, program): &&(Part, Program)| match stage.start(program) {
        Ok(server) => Some((*part, server)),
        Err(error) => {
            println!("SKIP {} on {}: {error:#}", program.name, stage.backing.kind.name());
            None
        }
    };
    able.filter_map(start).collect()
}

fn measure(
    scenario: &Scenario,
    stage: &Stage,
    servers: &[(Part, Server)],
    rounds: usize,
) -> Result<Vec<Showing>> {
    let floor =
        if scenario.client.is_foreign() { None } else { stage.floor(scenario.protocol, &scenario.load)? };
    let servers = servers.iter().map(|(part, server)| Contestant::Server(*part, server));
    let floor = floor.iter().map(|floor| Contestant::Server(Part::Floor, floor));
    let has_file = scenario.backing != BackingKind::Memory && fio::version().is_ok();
    let local = has_file.then_some(Contestant::Local);
    let contestants: Vec<Contestant> = servers.chain(floor).chain(local).collect();
    hold(scenario, stage.backing, &contestants, &stage.method, rounds)
}

fn write(record: &Record) -> Result<()> {
    let dir = &record.plan.out_dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let name: String = record.machine.date.chars().filter(char::is_ascii_digit).collect();
    let (json, svg) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.svg")));
    fs::write(&json, serde_json::to_vec_pretty(record)?)
        .with_context(|| format!("cannot write {}", json.display()))?;
    if !record.outcomes.is_empty() {
        chart::draw(record, &svg).with_context(|| format!("cannot draw {}", svg.display()))?;
    }
    println!("\nwritten to {} and {}", json.display(), svg.display());
    Ok(())
}
