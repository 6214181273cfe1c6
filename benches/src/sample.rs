//! One sample: one load on one server for a short time, and what it cost.
//!
//! Rule: warmed up before, undisturbed during, or said to be otherwise.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::address::Address;
use crate::backing::Backing;
use crate::fio;
use crate::generator::{Generator, Until};
use crate::interrupt;
use crate::iscsi::perf;
use crate::load::{Load, Sending};
use crate::process;
use crate::protocol::Protocol;
use crate::quiet::{Watch, await_quiet};
use crate::server::Server;
use crate::tally::{Figures, Latency};

/// More of a core than this, used by strangers, spoils a sample.
pub const STRANGERS_MAX: f64 = 0.05;

const TRIES: usize = 3;

/// What one sample showed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Requests a second.
    pub iops: f64,
    /// Payload a second.
    pub mib_per_s: f64,
    /// How long requests took.
    pub latency: Latency,
    /// Requests that failed.
    pub errors: u64,
    /// CPU time of the server for each request.
    pub server_cpu_us: f64,
    /// The share of the time that the server used a core.
    pub server_busy: f64,
    /// The share of a core that others used meanwhile.
    pub strangers: f64,
}

impl Sample {
    /// Nobody else used the cores.
    pub fn is_clean(&self) -> bool {
        self.strangers <= STRANGERS_MAX
    }

    fn new(figures: &Figures, load: &Load, server_cpu: Duration, strangers: f64) -> Sample {
        Sample {
            iops: figures.iops(),
            mib_per_s: figures.iops() * f64::from(load.block_bytes) / f64::from(1 << 20),
            latency: figures.latency,
            errors: figures.errors,
            server_cpu_us: server_cpu.as_secs_f64() * 1e6 / figures.requests as f64,
            server_busy: server_cpu.as_secs_f64() / figures.elapsed.as_secs_f64(),
            strangers,
        }
    }
}

/// What produces the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// Our generator, all that is due in one send.
    Gather,
    /// Our generator, one send a request.
    Single,
    /// fio with its nbd or libiscsi engine.
    Fio,
    /// libiscsi's own, for reads over iSCSI.
    IscsiPerf,
}

impl Client {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Client::Gather => "gather",
            Client::Single => "single",
            Client::Fio => "fio",
            Client::IscsiPerf => "iscsi-perf",
        }
    }

    /// Whether it can produce `load` over `protocol`.
    pub fn can_drive(self, protocol: Protocol, load: &Load) -> bool {
        self != Client::IscsiPerf || (protocol == Protocol::Iscsi && perf::can_drive(load))
    }

    /// An error where it is not installed.
    pub fn presence(self, protocol: Protocol) -> Result<()> {
        match self {
            Client::Gather | Client::Single => Ok(()),
            Client::Fio => fio::presence(protocol),
            Client::IscsiPerf => perf::presence(),
        }
    }

    /// It is one that others have written.
    pub fn is_foreign(self) -> bool {
        matches!(self, Client::Fio | Client::IscsiPerf)
    }

    /// `load` in this client's manner.
    pub fn with(self, load: &Load) -> Load {
        let sending = if self == Client::Gather { Sending::Gather } else { Sending::Single };
        Load { sending, ..load.clone() }
    }
}

/// How samples are taken.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Method {
    /// The server's CPU.
    pub server_cpu: usize,
    /// The client's CPU.
    pub client_cpu: usize,
    /// Length of a sample.
    pub sample: Duration,
    /// Load before the sample begins.
    pub warm_up: Duration,
    /// How long to try for an undisturbed sample.
    pub patience: Duration,
}

impl Method {
    /// `load` on `server`.
    pub fn measure(&self, server: &Server, load: &Load, client: Client) -> Result<Sample> {
        let _awake = server.wake()?;
        let foreign = |drive: fn(&Address, &Load, &Method) -> Result<Figures>| {
            self.observe(&server.pids()?, load, || Ok((drive(&server.address, load, self)?, None)))
        };
        self.cleanest(|| match client {
            Client::Gather | Client::Single => self.generate(&server.address, &server.pids()?, load),
            Client::Fio => foreign(fio::drive),
            Client::IscsiPerf => foreign(perf::drive),
        })
    }

    /// `load` on what `servers` serve together, by our generator; what they cost is added up.
    pub fn measure_together(&self, address: &Address, servers: &[&Server], load: &Load) -> Result<Sample> {
        let pids: Vec<i32> = servers.iter().map(|server| server.pids()).collect::<Result<Vec<_>>>()?.concat();
        self.cleanest(|| self.generate(address, &pids, load))
    }

    /// `load` by fio on the backing itself, on the server's CPU.
    pub fn measure_local(&self, backing: &Backing, load: &Load) -> Result<Sample> {
        // Of its own CPU time fio tells what the load took; the rest went into starting.
        let run = || fio::local(backing, load, self).map(|(figures, cpu)| (figures, Some(cpu)));
        self.cleanest(|| self.observe(&[], load, run))
    }

    fn cpus(&self) -> [usize; 2] {
        [self.server_cpu, self.client_cpu]
    }

    fn generate(&self, address: &Address, pids: &[i32], load: &Load) -> Result<Sample> {
        let mut generator = Generator::open(address, load)?;
        generator.run(Until::Elapsed(self.warm_up))?;
        self.observe(pids, load, || Ok((generator.run(Until::Elapsed(self.sample))?, None)))
    }

    /// What `run` shows of `server`, and its CPU time where it is not that of `server`.
    fn observe(
        &self,
        server: &[i32],
        load: &Load,
        run: impl FnOnce() -> Result<(Figures, Option<Duration>)>,
    ) -> Result<Sample> {
        let watch = Watch::begin(&self.cpus())?;
        let (ours, served) = (process::cpu_of_this_and_children()?, process::cpu_time(server));
        let (figures, own_cpu) = run()?;
        let served = process::cpu_time(server) - served;
        let ours = process::cpu_of_this_and_children()? - ours + served;
        Ok(Sample::new(&figures, load, own_cpu.unwrap_or(served), watch.strangers(ours)?))
    }

    /// The sample with the fewest strangers among some tries, which end with the first clean one or with our patience.
    fn cleanest(&self, take: impl Fn() -> Result<Sample>) -> Result<Sample> {
        let deadline = Instant::now() + self.patience;
        let take = || {
            interrupt::check()?;
            await_quiet(&self.cpus(), STRANGERS_MAX, deadline)?;
            take()
        };
        let mut best = take()?;
        for _ in 1..TRIES {
            if best.is_clean() || Instant::now() > deadline {
                break;
            }
            let again = take()?;
            if again.strangers < best.strangers {
                best = again;
            }
        }
        Ok(best)
    }
}
