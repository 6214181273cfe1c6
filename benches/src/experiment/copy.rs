//! `ringsan-nbd copy` of a half-sparse image to ringsan and back, against nbdcopy and qemu-img convert.
//!
//! The image is four times as long as other volumes, every other MiB of it a hole. It and what comes back lie on
//! tmpfs, ringsan's volume in memory. Each copier runs on the client's CPU; ours and nbdcopy flush, qemu-img need
//! not. A first copy, which takes the volume's memory from the system, is not counted.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Laboratory;
use crate::backing::{Backing, BackingKind};
use crate::floor::VOLUME;
use crate::load::Random;
use crate::peers::serve_ringsan;
use crate::protocol::Protocol;
use crate::quiet::{Watch, await_quiet};
use crate::sample::STRANGERS_MAX;
use crate::server::{Server, volume_at};
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};
use crate::{binary, cpu, interrupt, process};

const TIMES_LONGER: u64 = 4;
const STRIPE_BYTES: u64 = 1 << 20;
const TRIES: usize = 3;

/// A program that copies, and its arguments between source and destination.
struct Copier {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    /// Further ones for a destination that is there already.
    onto_existing: &'static [&'static str],
    seconds: [Vec<f64>; 2],
}

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    let size_bytes = TIMES_LONGER * laboratory.plan.size_bytes;
    let (image, back) = (scratch_file("image"), scratch_file("back"));
    draw(&image.0, size_bytes).with_context(|| format!("cannot make {}", image.0.display()))?;
    let backing = Backing { kind: BackingKind::Memory, path: back.0.clone(), size_bytes };
    let server = serve(laboratory, &backing)?;
    let uri = server.address.to_string();
    let mut copiers = copiers()?;
    copiers[0].command(&image.0.display().to_string(), &uri, true).status()?;
    for round in 0..laboratory.plan.rounds {
        let count = copiers.len();
        for turn in 0..count {
            let copier = &mut copiers[(round + turn) % count];
            let (image, back) = (image.0.display().to_string(), back.0.display().to_string());
            let there = laboratory.time(&server, || Ok(copier.command(&image, &uri, true)))?;
            let fetched = laboratory.time(&server, || {
                let _ = fs::remove_file(&back);
                Ok(copier.command(&uri, &back, false))
            })?;
            copier.seconds[0].push(there);
            copier.seconds[1].push(fetched);
        }
    }
    check(&image.0, &back.0)?;
    copiers.iter().for_each(Copier::print);
    Ok(judge(&copiers))
}

/// A peer's time by ours, in each direction.
fn judge(copiers: &[Copier]) -> Vec<Verdict> {
    let (ours, peers) = copiers.split_first().expect("we take part");
    let mut verdicts = Vec::new();
    for (direction, case) in ["copy to ringsan", "copy from ringsan"].into_iter().enumerate() {
        for peer in peers {
            let ratio = Spread::of_ratios(&peer.seconds[direction], &ours.seconds[direction]);
            let measure = format!("time of {} / ours", peer.name);
            verdicts.push(Verdict::new(case, measure, ratio, (Kind::Must, Goal::AtLeast(1.0)), NOISE_DEEP));
        }
    }
    verdicts
}

/// Ours first.
fn copiers() -> Result<Vec<Copier>> {
    let copier = |name, program: PathBuf, arguments, onto_existing| Copier {
        name,
        program,
        arguments,
        onto_existing,
        seconds: [Vec::new(), Vec::new()],
    };
    let mut copiers = vec![
        copier("ringsan-nbd", binary::ringsan_nbd()?, &["copy", "--quiet"], &[]),
        copier("nbdcopy", "nbdcopy".into(), &["--flush"], &[]),
        copier("qemu-img", "qemu-img".into(), &["convert", "-f", "raw", "-O", "raw"], &["-n"]),
    ];
    copiers.retain(|copier| {
        let there = Command::new(&copier.program).arg("--version").stdout(Stdio::null()).status();
        let is_there = there.is_ok_and(|status| status.success());
        if !is_there {
            println!("  SKIP {}: not installed", copier.name);
        }
        is_there
    });
    ensure!(copiers.first().is_some_and(|first| first.name == "ringsan-nbd"), "ringsan-nbd does not run");
    Ok(copiers)
}

impl Copier {
    fn command(&self, from: &str, to: &str, is_there: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments).args(if is_there { self.onto_existing } else { &[] }).args([from, to]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn print(&self) {
        let median =
            |seconds: &Vec<f64>| Spread::of(seconds.iter().copied()).map_or(0.0, |spread| spread.median);
        let [there, back] = [0, 1].map(|direction| median(&self.seconds[direction]));
        println!("  {:<12} to ringsan {there:.2} s   from ringsan {back:.2} s", self.name);
    }
}

impl Laboratory<'_> {
    /// How long `command` takes on the client's CPU; of some tries the one with the fewest strangers.
    fn time(&self, server: &Server, command: impl Fn() -> Result<Command>) -> Result<f64> {
        let method = &self.plan.method;
        let cpus = [method.server_cpu, method.client_cpu];
        let deadline = Instant::now() + method.patience;
        let mut best: Option<(f64, f64)> = None;
        for _ in 0..TRIES {
            interrupt::check()?;
            await_quiet(&cpus, STRANGERS_MAX, deadline)?;
            let taken = self.time_once(server, command()?)?;
            best = Some(best.filter(|best| best.1 <= taken.1).unwrap_or(taken));
            if taken.1 <= STRANGERS_MAX || Instant::now() > deadline {
                break;
            }
        }
        Ok(best.expect("it was tried").0)
    }

    /// Seconds, and the share of a core that strangers used meanwhile.
    fn time_once(&self, server: &Server, mut command: Command) -> Result<(f64, f64)> {
        let method = &self.plan.method;
        let pids = server.pids()?;
        let used = || Ok::<_, anyhow::Error>(process::cpu_of_this_and_children()? + process::cpu_time(&pids));
        let (watch, before, began) =
            (Watch::begin(&[method.server_cpu, method.client_cpu])?, used()?, Instant::now());
        let mut child = cpu::pinned(&[method.client_cpu], || Ok(interrupt::spawn(&mut command)?))?;
        let status = child.wait()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(status.success(), "{command:?} ended with {status}");
        Ok((seconds, watch.strangers(used()? - before)?))
    }
}

fn serve(laboratory: &Laboratory, backing: &Backing) -> Result<Server> {
    let stage = laboratory.stage(backing);
    let place = stage.place()?;
    let launch = serve_ringsan(&[(VOLUME, backing)], &place, Protocol::Nbd, &[place.cpu])?;
    let log = laboratory.scratch.join("ringsan-copy.log");
    Server::start("ringsan", launch, volume_at(Protocol::Nbd, place.portal), &[place.cpu], &log)
}

/// A file that is removed in the end.
struct ScratchFile(PathBuf);

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn scratch_file(name: &str) -> ScratchFile {
    ScratchFile(Path::new("/dev/shm").join(format!("bench-{}-copy-{name}", std::process::id())))
}

/// Every other stripe random bytes, the others holes.
fn draw(path: &Path, size_bytes: u64) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(size_bytes)?;
    let (mut random, mut stripe) = (Random::new(size_bytes), vec![0; STRIPE_BYTES as usize]);
    for offset in (0..size_bytes).step_by(2 * STRIPE_BYTES as usize) {
        random.fill(&mut stripe);
        file.write_all_at(&stripe, offset)?;
    }
    Ok(())
}

/// Who copies fast must copy right.
fn check(image: &Path, back: &Path) -> Result<()> {
    let status = Command::new("cmp").arg(image).arg(back).status().context("cmp is not installed")?;
    ensure!(status.success(), "what came back is not what was sent");
    Ok(())
}
