//! The resync of a volume four times as long as others, of which the other node lacks everything: how fast, and what a
//! client keeps of what it had while both were in sync.
//!
//! The other node is killed and started again. With memory of its own it has nothing then; its file in tmpfs it has
//! still, so the whole volume is written while it is away.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::cluster::{Cluster, Resync};
use super::{median, print_places, random_4k};
use crate::backing::BackingKind;
use crate::experiment::Laboratory;
use crate::generator::{Generator, Until};
use crate::load::Random;
use crate::statistics::Spread;
use crate::verdict::{Goal, Kind, NOISE_DEEP, Verdict};
use crate::{cpu, interrupt, stage};

const TIMES_LONGER: u64 = 4;
/// Each takes its time, and moves gigabytes.
const ROUNDS_MAX: usize = 3;
const SLICE: Duration = Duration::from_millis(20);
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes a second that are enough, however fast the backing is.
const ENOUGH: f64 = GIB;
const OF_BACKING: f64 = 0.8;
const PIECE_BYTES: usize = 256 << 10;
const BACKING_BYTES: usize = 256 << 20;

pub fn run(laboratory: &Laboratory) -> Result<Vec<Verdict>> {
    print_places(&laboratory.plan.method);
    let mut verdicts = Vec::new();
    for kind in [BackingKind::Memory, BackingKind::Tmpfs] {
        verdicts.extend(run_on(laboratory, kind)?);
    }
    Ok(verdicts)
}

fn run_on(laboratory: &Laboratory, kind: BackingKind) -> Result<Vec<Verdict>> {
    let size_bytes = TIMES_LONGER * laboratory.plan.size_bytes;
    let backing = backing_rate(laboratory, kind)?;
    let wanted = ENOUGH.min(OF_BACKING * backing);
    let mut cluster = Cluster::start(laboratory, kind, size_bytes)?;
    let [mut idle, mut busy, mut kept] = [const { Vec::new() }; 3];
    for _ in 0..laboratory.plan.rounds.min(ROUNDS_MAX) {
        interrupt::check()?;
        lose_everything(&mut cluster, kind)?;
        idle.push(size_bytes as f64 / bring_back(&mut cluster)?.seconds());
        let before = iops_in_sync(&cluster, laboratory.plan.method.sample)?;
        lose_everything(&mut cluster, kind)?;
        let (resync, during) = bring_back_under_load(&mut cluster)?;
        busy.push(size_bytes as f64 / resync.seconds());
        kept.push(during / before);
    }
    println!(
        "  {}: {:.1} GiB, idle {:.2} GiB/s, under load {:.2} GiB/s, a client keeps {:.2}; the backing itself is written at {:.2} GiB/s",
        kind.name(),
        size_bytes as f64 / GIB,
        median(&idle) / GIB,
        median(&busy) / GIB,
        median(&kept),
        backing / GIB
    );
    let idle = Spread::of(idle.into_iter().map(|rate| rate / wanted));
    let measure = format!("bytes/s, idle / {:.2} GiB/s", wanted / GIB);
    let goal = |bound| (Kind::Must, Goal::AtLeast(bound));
    let case = format!("resync, {}", kind.name());
    Ok(vec![
        Verdict::new(&case, measure, idle, goal(1.0), NOISE_DEEP),
        Verdict::new(&case, "IOPS that a client keeps", Spread::of(kept), goal(0.7), NOISE_DEEP),
    ])
}

/// The other node is away, and lacks every region.
fn lose_everything(cluster: &mut Cluster, kind: BackingKind) -> Result<()> {
    cluster.follower.kill();
    cluster.await_alone()?;
    if kind == BackingKind::Memory { Ok(()) } else { stage::fill(&cluster.leader.address) }
}

fn bring_back(cluster: &mut Cluster) -> Result<Resync> {
    let Cluster { leader, follower, .. } = cluster;
    let name = follower.name();
    thread::scope(|scope| {
        // It begins before clients can attach to the node that returns.
        let watch = scope.spawn(|| leader.watch_resync_of(name));
        follower.start()?;
        watch.join().map_err(|_| anyhow!("the watch panicked"))?
    })
}

/// The resync, and requests a second of a client meanwhile.
fn bring_back_under_load(cluster: &mut Cluster) -> Result<(Resync, f64)> {
    let mut generator = Generator::open(&cluster.leader.address, &random_4k(50, 32))?;
    let done = AtomicBool::new(false);
    let (resync, slices) = thread::scope(|scope| {
        let client = scope.spawn(|| slices_until(&mut generator, || done.load(Ordering::Relaxed)));
        let resync = bring_back(cluster);
        done.store(true, Ordering::Relaxed);
        let slices = client.join().map_err(|_| anyhow!("the client panicked"))?;
        Ok::<_, anyhow::Error>((resync?, slices?))
    })?;
    let meanwhile = slices.iter().filter(|slice| resync.began <= slice.began && slice.ended <= resync.ended);
    let iops = iops_of(meanwhile)
        .context("the resync was too short to see a client meanwhile; try a larger --size")?;
    Ok((resync, iops))
}

/// The same load for `length`, after as long a time to warm up.
fn iops_in_sync(cluster: &Cluster, length: Duration) -> Result<f64> {
    let mut generator = Generator::open(&cluster.leader.address, &random_4k(50, 32))?;
    generator.run(Until::Elapsed(length))?;
    let began = Instant::now();
    let slices = slices_until(&mut generator, || began.elapsed() >= length)?;
    iops_of(slices.iter()).context("no requests were answered")
}

/// A short time of a client.
struct Slice {
    began: Instant,
    ended: Instant,
    requests: u64,
}

fn slices_until(generator: &mut Generator, is_done: impl Fn() -> bool) -> Result<Vec<Slice>> {
    let mut slices = Vec::new();
    while !is_done() {
        let began = Instant::now();
        let figures = generator.run(Until::Elapsed(SLICE))?;
        ensure!(figures.errors == 0, "{} requests failed", figures.errors);
        slices.push(Slice { began, ended: Instant::now(), requests: figures.requests });
    }
    Ok(slices)
}

fn iops_of<'a>(slices: impl Iterator<Item = &'a Slice>) -> Option<f64> {
    let sum = |(requests, seconds): (u64, f64), slice: &Slice| {
        (requests + slice.requests, seconds + (slice.ended - slice.began).as_secs_f64())
    };
    let (requests, seconds) = slices.fold((0, 0.0), sum);
    (seconds > 0.0).then(|| requests as f64 / seconds)
}

/// Bytes a second at which the second node's CPU writes what that node is going to write: memory that was never touched,
/// or a file in tmpfs that is there already.
fn backing_rate(laboratory: &Laboratory, kind: BackingKind) -> Result<f64> {
    let mut piece = vec![0; PIECE_BYTES];
    Random::new(BACKING_BYTES as u64).fill(&mut piece);
    let took = cpu::pinned(&[laboratory.plan.method.client_cpu], || match kind {
        BackingKind::Memory => Ok(memory_takes(&piece)),
        _ => {
            let file = tempfile::tempfile_in("/dev/shm")?;
            file_takes(&file, &piece)?;
            file_takes(&file, &piece)
        }
    })?;
    Ok(BACKING_BYTES as f64 / took.as_secs_f64())
}

fn memory_takes(piece: &[u8]) -> Duration {
    // Zeroes are asked for, so that nothing touches it before we do.
    let mut memory = vec![0; BACKING_BYTES];
    let began = Instant::now();
    memory.chunks_exact_mut(piece.len()).for_each(|chunk| chunk.copy_from_slice(piece));
    std::hint::black_box(&memory);
    began.elapsed()
}

fn file_takes(file: &File, piece: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    for offset in (0..BACKING_BYTES).step_by(piece.len()) {
        file.write_all_at(piece, offset as u64)?;
    }
    Ok(began.elapsed())
}
