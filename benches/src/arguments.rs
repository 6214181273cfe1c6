//! The command line.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::address::Address;
use crate::compare::{Plan, compare};
use crate::generator::{Generator, Until};
use crate::load::{DigestKind, Load, Order, ReplyKind, Sending, Waiting};
use crate::peers::Binaries;
use crate::sample::{Client, Method};
use crate::{cpu, experiment, floor, scenario};

/// Measures ringsan beside other NBD and iSCSI servers.
#[derive(Parser)]
#[command(name = "benches", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start ringsan and each installed peer on the same bytes, and measure them in turns.
    Compare(CompareArguments),
    /// Drive one volume over NBD or iSCSI.
    Load(LoadArguments),
    /// The echo server that no target can beat (started by `compare`).
    #[command(hide = true)]
    Floor {
        portal: SocketAddr,
        #[command(flatten)]
        echo: floor::Echo,
    },
}

#[derive(Args)]
struct CompareArguments {
    /// Rounds of each scenario.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of each sample.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds: f64,
    /// How long to try for an undisturbed sample, each time.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    patience: f64,
    /// Three short rounds: to see that it works, not to quote.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only what has PART in its name (may be repeated; --list shows the names).
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Only peers whose names begin with NAME (may be repeated).
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// The binary of SPDK's iscsi_tgt: measure it, too.
    #[arg(long, value_name = "PATH")]
    spdk: Option<PathBuf>,
    /// What drives the servers; the first one everywhere, the others at depth 32.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gather,single")]
    client: Vec<Client>,
    /// The CPU of the servers.
    #[arg(long, default_value_t = 1)]
    server_cpu: usize,
    /// The CPU of the client.
    #[arg(long, default_value_t = 0)]
    client_cpu: usize,
    /// Size of the volumes in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    size: u64,
    /// Where files on a disk are made; must lie on a real file system.
    #[arg(long, default_value = "build/bench/data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Where results are written.
    #[arg(long, default_value = "build/bench", value_name = "DIR")]
    out: PathBuf,
    /// Print the names of the scenarios and experiments, and do nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
struct LoadArguments {
    /// nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH or iscsi://HOST:PORT/TARGET/LUN
    address: Address,
    /// Writes among a hundred requests. They overwrite the volume with random bytes.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    writes: u8,
    /// Where the requests go.
    #[arg(long, value_enum, default_value = "random")]
    order: Order,
    /// Bytes of each request.
    #[arg(long, default_value_t = 4096, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=33_554_432))]
    block: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    depth: u16,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// All due requests in one send, or each in its own.
    #[arg(long, value_enum, default_value = "gather")]
    sending: Sending,
    /// What to do while no reply has come.
    #[arg(long, value_enum, default_value = "spin")]
    waiting: Waiting,
    /// The style of replies to ask for, over NBD.
    #[arg(long, value_enum, default_value = "simple")]
    replies: ReplyKind,
    /// The digests to ask for, over iSCSI.
    #[arg(long, value_enum, default_value = "none")]
    digests: DigestKind,
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many requests, instead of how long.
    #[arg(long, conflicts_with = "seconds")]
    requests: Option<u64>,
    /// Load before counting begins.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Run on this CPU.
    #[arg(long)]
    cpu: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does what was asked.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Compare(arguments) => arguments.run(),
            Command::Load(arguments) => arguments.run(),
            Command::Floor { portal, echo } => {
                let listener =
                    TcpListener::bind(portal).with_context(|| format!("cannot listen on {portal}"))?;
                floor::serve(&listener, echo)
            }
        }
    }
}

impl CompareArguments {
    fn run(self) -> Result<()> {
        ensure!(self.server_cpu != self.client_cpu, "--server-cpu and --client-cpu are the same; name two");
        let list = self.list;
        let plan = self.plan()?;
        if !list {
            return compare(plan);
        }
        let scenarios = scenario::all(&plan.clients);
        scenarios
            .iter()
            .map(scenario::Scenario::id)
            .chain(experiment::names())
            .for_each(|id| println!("{id}"));
        Ok(())
    }

    fn plan(self) -> Result<Plan> {
        let (rounds, sample, warm_up) = if self.quick {
            (3, Duration::from_millis(400), Duration::from_millis(100))
        } else {
            (self.rounds as usize, seconds(self.seconds)?, Duration::from_millis(300))
        };
        let method = Method {
            server_cpu: self.server_cpu,
            client_cpu: self.client_cpu,
            sample,
            warm_up,
            patience: seconds(self.patience)?,
        };
        Ok(Plan {
            method,
            rounds,
            size_bytes: self.size << 20,
            only: self.only,
            peers: self.peer,
            clients: self.client,
            binaries: Binaries { spdk: self.spdk },
            data_dir: self.data_dir,
            out_dir: self.out,
        })
    }
}

impl LoadArguments {
    fn run(self) -> Result<()> {
        if let Some(cpu) = self.cpu {
            cpu::pin(&[cpu])?;
        }
        let until = self
            .requests
            .map_or_else(|| seconds(self.seconds).map(Until::Elapsed), |count| Ok(Until::Requests(count)))?;
        let mut generator = Generator::open(&self.address, &self.load())?;
        generator.run(Until::Elapsed(Duration::try_from_secs_f64(self.warm_up)?))?;
        let figures = generator.run(until)?;
        if self.json {
            println!("{}", serde_json::to_string(&figures)?);
            return Ok(());
        }
        let latency = figures.latency;
        println!("{} requests in {:?}, {} errors", figures.requests, figures.elapsed, figures.errors);
        let mib_per_s = figures.iops() * f64::from(self.block) / f64::from(1 << 20);
        println!("{:.0} IOPS, {mib_per_s:.1} MiB/s", figures.iops());
        println!(
            "p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
            latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us
        );
        Ok(())
    }

    fn load(&self) -> Load {
        Load {
            order: self.order,
            write_percent: self.writes,
            block_bytes: self.block,
            depth: self.depth.into(),
            connections: self.connections.into(),
            sending: self.sending,
            waiting: self.waiting,
            replies: self.replies,
            digests: self.digests,
            seed: self.seed,
        }
    }
}

fn seconds(seconds: f64) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).context("a time is a number of seconds")?;
    ensure!(!duration.is_zero(), "a time of 0 seconds is too short");
    Ok(duration)
}
