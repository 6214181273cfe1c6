//! From one place to another: files, block devices and exports; sparse stays sparse, and what was interrupted
//! goes on.
//!
//! ```no_run
//! use nbd_client::Error;
//! use nbd_client::copy::{Job, Progress};
//!
//! let job = Job::new("disk.img".parse()?, "nbd://localhost/db".parse()?);
//! let report = job.run(&Progress::default().into(), &mut |remark| eprintln!("{remark}"))?;
//! println!("{} of {} bytes were data", report.written_bytes, report.size_bytes);
//! # Ok::<(), Error>(())
//! ```
//! The image is cut into segments, which threads take in turn (`crew.rs`); what is done is kept in a file
//! (`ledger.rs`). Its one rule: nothing at the destination is changed before both sides are known to fit.

mod checksum;
mod crew;
mod ledger;
mod map;
mod open;
mod place;
mod plan;
mod progress;
mod resume;
mod side;
mod zeroes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use checksum::Comparison;
pub use place::Place;
pub use progress::Progress;

use crate::{ConnectOptions, Error, Kind};
use crew::{Crew, lock};
use ledger::Ledger;
use open::Opened;

/// Segments are at least so long, where the image is large enough for all threads to have some.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A state file has no more segments than that; longer images have longer ones.
const SEGMENTS_MAX: u64 = 1 << 16;

/// What is to be copied, and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// From where.
    pub source: Place,
    /// To where: a file is made or overwritten; a device or export must be as long as the source.
    pub destination: Place,
    /// Threads, each with connections of its own; fewer where an export's server allows one connection only.
    pub jobs: usize,
    /// Reads and writes of each thread in flight.
    pub depth: usize,
    /// The longest read and write.
    pub piece_bytes: u64,
    /// Whether to read both sides again and compare them.
    pub verify: bool,
    /// What to make of an earlier copy that was interrupted.
    pub resume: Resume,
    /// Where to keep how far it is; `None` for beside a destination that is a file, else the state folder.
    pub state: Option<PathBuf>,
    /// How often to note how far it is.
    pub checkpoint: Duration,
    /// How to connect to exports.
    pub connect: ConnectOptions,
}

/// What to make of an earlier copy that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Go on where it can be done safely, else begin again.
    Auto,
    /// Go on, or fail.
    Demand,
    /// Begin again.
    Never,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Length of the source.
    pub size_bytes: u64,
    /// So many bytes were copied before, by an interrupted copy.
    pub resumed_bytes: u64,
    /// So many bytes of data were written now.
    pub written_bytes: u64,
    /// What the destination has beyond the source's end, which nobody touched.
    pub beyond_bytes: u64,
    /// What came out of the comparison.
    pub comparison: Option<Comparison>,
    /// Whether it was stopped before its end; the same copy, started again, goes on.
    pub is_interrupted: bool,
}

impl Job {
    /// Everything as it is by default.
    pub fn new(source: Place, destination: Place) -> Job {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Job {
            source,
            destination,
            jobs: cpus.min(4),
            depth: 16,
            piece_bytes: 256 << 10,
            verify: false,
            resume: Resume::Auto,
            state: None,
            checkpoint: Duration::from_secs(10),
            connect: ConnectOptions::default(),
        }
    }

    /// Copies; to be called on a thread that runs no other tasks. `remark` is told what a user may want to know.
    pub fn run(&self, progress: &Arc<Progress>, remark: &mut dyn FnMut(&str)) -> Result<Report, Error> {
        let source = Opened::source(&self.source, &self.connect)?;
        let destination = Opened::destination(&self.destination, &self.connect)?;
        fit(&source, &destination)?;
        let threads = self.threads(&source, &destination);
        let (path, _lock) = resume::state_path(&destination, self.state.as_deref())?;
        let identities = (source.identity.clone(), destination_identity(&source, &destination));
        let segment_bytes = segment_bytes(source.identity.size_bytes, threads);
        let mut ledger = Ledger::new(path.clone(), identities, segment_bytes, self.checkpoint);
        resume::decide(self.resume, &mut ledger, (&source, &destination), remark)?;
        let resumed_bytes = ledger.copied_bytes();
        if ledger.copied().next().is_none() {
            destination.empty(source.identity.size_bytes)?;
        }
        resume::save(&ledger.snapshot(), &path)?;
        progress.begin(source.identity.size_bytes, resumed_bytes, false);
        let lengths = (self.piece_bytes(&source, &destination), self.depth.max(1));
        let mut crew = Arc::new(Crew::new((source, destination), lengths, ledger, Arc::clone(progress)));
        let comparison = self.carry_out(&mut crew, threads).map_err(|error| self.stopped(error, &path))?;
        let size_bytes = crew.source.identity.size_bytes;
        Ok(Report {
            size_bytes,
            resumed_bytes,
            written_bytes: progress.written_bytes(),
            beyond_bytes: crew.destination.identity.size_bytes.saturating_sub(size_bytes),
            comparison,
            is_interrupted: progress.stops() && path.exists(),
        })
    }

    /// Copies, then compares. The state file stays unless both came to their ends.
    fn carry_out(&self, crew: &mut Arc<Crew>, threads: usize) -> Result<Option<Comparison>, Error> {
        let begun = crew.source.mark_now();
        let copied = crew.copy(threads);
        let ledger = lock(&crew.ledger).clone();
        let (path, saved) = (ledger.path(), ledger.snapshot());
        let is_done = copied.is_ok() && ledger.missing().next().is_none();
        if crew.is_flushed() && (!is_done || self.verify) {
            // the reason of a failure is worth more than that of a second one
            copied.clone().and(resume::save(&saved, path))?;
        }
        copied?;
        if !is_done {
            return Ok(None);
        }
        if begun != crew.source.mark_now() {
            resume::forget(path);
            let what = format!("{} changed while it was copied", self.source);
            return Err(Error::new(Kind::Changed, what).remedy("copy it again when nothing writes to it"));
        }
        if !self.verify {
            resume::forget(path);
            return Ok(None);
        }
        let comparison = crew.compare(threads)?.finish(crew.source.identity.size_bytes);
        if comparison.is_some() {
            resume::forget(path);
        }
        Ok(comparison)
    }

    /// A copy that a lost connection ended can go on.
    fn stopped(&self, error: Error, state: &Path) -> Error {
        if !matches!(error.kind(), Kind::Lost | Kind::Unreachable) || !state.exists() {
            return error;
        }
        let what = format!("the copy of {} to {} stopped", self.source, self.destination);
        Error::caused(error.kind(), what, error).remedy("start it again: it goes on where it stopped")
    }

    /// How many threads both sides allow.
    fn threads(&self, source: &Opened, destination: &Opened) -> usize {
        let sides_share = destination.can_share && source.can_share;
        if sides_share { self.jobs.max(1) } else { 1 }
    }

    fn piece_bytes(&self, source: &Opened, destination: &Opened) -> u64 {
        let block_bytes = crew::ZERO_BLOCK_BYTES.max(source.block_bytes).max(destination.block_bytes);
        let most = source.transfer_max.min(destination.transfer_max).min(self.piece_bytes);
        (most / block_bytes * block_bytes).max(block_bytes)
    }
}

/// Whether the one can become the other.
fn fit(source: &Opened, destination: &Opened) -> Result<(), Error> {
    let (from, to) = (&source.identity, &destination.identity);
    if source.is_same_as(destination) {
        let what = format!("{} is source and destination", to.place);
        return Err(Error::new(Kind::Request, what).remedy("name two things"));
    }
    let needed = from.size_bytes.next_multiple_of(destination.block_bytes);
    if destination.regular().is_none() && to.size_bytes < needed {
        let what = format!(
            "{} is too small: it has {} bytes, {} has {}",
            to.place, to.size_bytes, from.place, from.size_bytes
        );
        return Err(Error::new(Kind::Request, what).remedy("make it larger, or choose another destination"));
    }
    Ok(())
}

/// A file has the source's length from the beginning of the copy on.
fn destination_identity(source: &Opened, destination: &Opened) -> ledger::Identity {
    let mut identity = destination.identity.clone();
    if destination.regular().is_some() {
        identity.size_bytes = source.identity.size_bytes;
    }
    identity
}

fn segment_bytes(size_bytes: u64, threads: usize) -> u64 {
    let share = size_bytes / (threads as u64 * 8);
    let share = share.next_power_of_two().clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    share.max(size_bytes.div_ceil(SEGMENTS_MAX).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_few_and_enough() {
        assert_eq!(segment_bytes(0, 4), SEGMENT_BYTES_MIN);
        assert_eq!(segment_bytes(100 << 20, 4), 4 << 20);
        assert_eq!(segment_bytes(1 << 40, 4), SEGMENT_BYTES_MAX);
        for size_bytes in [(1 << 42) + 1, 1 << 50, u64::MAX >> 8] {
            let count = size_bytes.div_ceil(segment_bytes(size_bytes, 1));
            assert!(count <= SEGMENTS_MAX, "{count}");
        }
    }
}
