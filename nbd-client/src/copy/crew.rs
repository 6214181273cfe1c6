//! The threads of a copy: each with connections of its own and many pieces in flight.
//!
//! Its one rule: a segment counts as copied only when all its pieces are written, and is told to the state file
//! only after a flush that came later.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::checksum::Checksums;
use super::ledger::Ledger;
use super::map::Map;
use super::open::Opened;
use super::plan::{self, Piece, Task};
use super::progress::Progress;
use super::side::Side;
use super::zeroes;
use crate::runtime::{self, Notify};
use crate::{Error, Kind};

/// Zeroes are looked for in blocks of this length.
pub(super) const ZERO_BLOCK_BYTES: u64 = 4096;

/// What the threads share.
pub(super) struct Crew {
    pub(super) source: Opened,
    pub(super) destination: Opened,
    pub(super) piece_bytes: u64,
    pub(super) movers: usize,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) progress: Arc<Progress>,
    /// Segments that nobody has begun.
    waiting: Mutex<VecDeque<usize>>,
    /// Of a comparison; else nothing is compared.
    sums: Option<Mutex<Checksums>>,
    failed: AtomicBool,
    unflushed: AtomicBool,
    saving: Mutex<()>,
}

impl Crew {
    /// For two sides and what is known to be done.
    pub(super) fn new(
        (source, destination): (Opened, Opened),
        (piece_bytes, movers): (u64, usize),
        ledger: Ledger,
        progress: Arc<Progress>,
    ) -> Crew {
        let waiting = Mutex::default();
        let ledger = Mutex::new(ledger);
        let (sums, failed, unflushed) = (None, AtomicBool::new(false), AtomicBool::new(false));
        let saving = Mutex::default();
        Crew {
            source,
            destination,
            piece_bytes,
            movers,
            ledger,
            progress,
            waiting,
            sums,
            failed,
            unflushed,
            saving,
        }
    }

    /// Copies what is missing, with so many threads; flushed at its end, whatever that is.
    pub(super) fn copy(self: &mut Arc<Crew>, threads: usize) -> Result<(), Error> {
        let missing = lock(&self.ledger).missing().collect();
        *lock(&self.waiting) = missing;
        self.run(threads)
    }

    /// Compares both sides wholly.
    pub(super) fn compare(self: &mut Arc<Crew>, threads: usize) -> Result<Checksums, Error> {
        let crew = Arc::get_mut(self).expect("no thread runs any more");
        crew.sums = Some(Mutex::default());
        let size_bytes = crew.source.identity.size_bytes;
        let all = 0..lock(&crew.ledger).count();
        *lock(&crew.waiting) = all.collect();
        crew.progress.begin(size_bytes, 0, true);
        self.run(threads)?;
        Ok(std::mem::take(&mut *lock(self.sums.as_ref().expect("set above"))))
    }

    /// Whether all that is noted as copied is durable, now that no thread runs.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }

    fn run(self: &Arc<Crew>, threads: usize) -> Result<(), Error> {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let crew = Arc::clone(self);
                thread::spawn(move || crew.fail_all(runtime::block_on(work(Arc::clone(&crew)))))
            })
            .collect();
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.fold(Ok(()), Result::and)
    }

    /// One failure ends all threads.
    fn fail_all<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn stops(&self) -> bool {
        self.progress.stops() || self.failed.load(Ordering::Relaxed)
    }

    /// Boundaries of zeroes are multiples of this.
    fn block_bytes(&self) -> u64 {
        ZERO_BLOCK_BYTES.max(self.source.block_bytes).max(self.destination.block_bytes)
    }
}

/// One thread's work.
async fn work(crew: Arc<Crew>) -> Result<(), Error> {
    let (source, destination) = (crew.source.side().await?, crew.destination.side().await?);
    let worker = Worker {
        crew,
        source,
        destination,
        queue: RefCell::default(),
        maps: Cell::new(false),
        more: Notify::new(),
    };
    let worker = Rc::new(worker);
    let movers: Vec<_> =
        (0..worker.crew.movers).map(|_| runtime::spawn(Rc::clone(&worker).move_pieces())).collect();
    let mut outcome = Ok(());
    for mover in movers {
        let end = mover.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        outcome = outcome.and(end);
    }
    let Ok(worker) = Rc::try_unwrap(worker) else { unreachable!("all movers have ended") };
    if worker.crew.sums.is_none() {
        outcome = outcome.and(worker.flush().await);
    }
    worker.source.close().await;
    worker.destination.close().await;
    outcome
}

/// One thread's sides and queue.
struct Worker {
    crew: Arc<Crew>,
    source: Side,
    destination: Side,
    queue: RefCell<VecDeque<(Piece, Rc<Segment>)>>,
    /// Whether a mover is filling the queue.
    maps: Cell<bool>,
    /// Told when it has, and when all is over.
    more: Notify,
}

/// A segment in progress.
struct Segment {
    index: usize,
    pieces_left: Cell<usize>,
    sums: RefCell<Checksums>,
}

impl Worker {
    /// Takes pieces until there are none, one at a time.
    async fn move_pieces(self: Rc<Worker>) -> Result<(), Error> {
        let end = self.crew.fail_all(self.move_all().await);
        self.more.notify_waiters();
        end
    }

    async fn move_all(&self) -> Result<(), Error> {
        let mut buffers = [Vec::new(), Vec::new()];
        while let Some((piece, segment)) = self.next().await? {
            self.move_one(&piece, &segment, &mut buffers).await?;
            self.crew.progress.pass(piece.range.end - piece.range.start);
            segment.pieces_left.set(segment.pieces_left.get() - 1);
            if segment.pieces_left.get() == 0 {
                self.finish(&segment).await?;
            }
        }
        Ok(())
    }

    /// The next piece. Whoever finds the queue short fills it, while the others go on.
    async fn next(&self) -> Result<Option<(Piece, Rc<Segment>)>, Error> {
        let mut is_end = false;
        while !self.crew.stops() {
            let is_short = self.queue.borrow().len() < self.crew.movers;
            if is_short && !is_end && !self.maps.replace(true) {
                let filled = self.fill().await;
                self.maps.set(false);
                self.more.notify_waiters();
                is_end = !filled?;
                continue;
            }
            if let Some(next) = self.queue.borrow_mut().pop_front() {
                return Ok(Some(next));
            }
            if is_end || !self.maps.get() {
                return Ok(None);
            }
            self.more.notified().await;
        }
        Ok(None)
    }

    /// Cuts one more segment into pieces; whether there was one.
    async fn fill(&self) -> Result<bool, Error> {
        let Some(index) = lock(&self.crew.waiting).pop_front() else { return Ok(false) };
        let range = lock(&self.crew.ledger).range(index);
        let block_bytes = self.crew.block_bytes();
        let source = self.source.map(range.clone()).await?.in_blocks(block_bytes);
        let destination = self.map_destination(range.clone()).await?.in_blocks(block_bytes);
        let pieces = match self.crew.sums {
            None => plan::copy(&source, &destination, self.crew.piece_bytes),
            Some(_) => plan::compare(&source, &destination, self.crew.piece_bytes),
        };
        let planned: u64 = pieces.iter().map(|piece| piece.range.end - piece.range.start).sum();
        self.crew.progress.pass(range.end - range.start - planned);
        let segment = Segment { index, pieces_left: Cell::new(pieces.len()), sums: RefCell::default() };
        let segment = Rc::new(segment);
        if pieces.is_empty() {
            self.finish(&segment).await?;
        }
        self.queue.borrow_mut().extend(pieces.into_iter().map(|piece| (piece, Rc::clone(&segment))));
        Ok(true)
    }

    /// The destination may be longer than the source, and its server may want whole blocks.
    async fn map_destination(&self, range: Range<u64>) -> Result<Map, Error> {
        let padded = range.start..range.end.next_multiple_of(self.crew.destination.block_bytes);
        let map = self.destination.map(padded).await?;
        Ok(Map::with_zeroes(range, map.zeroes().iter().cloned()))
    }

    async fn move_one(
        &self,
        piece: &Piece,
        segment: &Segment,
        buffers: &mut [Vec<u8>; 2],
    ) -> Result<(), Error> {
        let range = piece.range.clone();
        match piece.task {
            Task::Copy { onto_zeroes } => {
                let buffer = sized(std::mem::take(&mut buffers[0]), &range);
                let buffer = self.source.read(range.start, buffer).await?;
                buffers[0] = self.write(range.start, buffer, onto_zeroes).await?;
            }
            Task::Zero => self.destination.zero(range).await?,
            Task::BothZero => segment.sums.borrow_mut().both_zero(range.start, range.end - range.start),
            Task::Compare => {
                let [ours, theirs] = std::mem::take(buffers);
                let ours = self.source.read(range.start, sized(ours, &range)).await?;
                let theirs = self.read_destination(range.clone(), theirs).await?;
                segment.sums.borrow_mut().compare(range.start, &ours, &theirs);
                *buffers = [ours, theirs];
            }
        }
        Ok(())
    }

    /// Writes `buffer` at `offset`, zeroes in it as zeroes, or not at all onto zeroes.
    async fn write(&self, offset: u64, buffer: Vec<u8>, onto_zeroes: bool) -> Result<Vec<u8>, Error> {
        let runs = zeroes::runs(&buffer, self.crew.block_bytes() as usize);
        if let [only] = &runs[..]
            && !only.is_zero
        {
            return self.write_data(offset, buffer).await;
        }
        for run in runs {
            let place = offset + run.range.start as u64..offset + run.range.end as u64;
            let is_whole = place.end.is_multiple_of(self.crew.destination.block_bytes);
            match run.is_zero && (is_whole || onto_zeroes) {
                true if onto_zeroes => {}
                true => self.destination.zero(place).await?,
                false => drop(self.write_data(place.start, buffer[run.range].to_vec()).await?),
            }
        }
        Ok(buffer)
    }

    async fn write_data(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let end = offset + buffer.len() as u64;
        let block_bytes = self.crew.destination.block_bytes;
        self.crew.progress.write(buffer.len() as u64);
        if !end.is_multiple_of(block_bytes) {
            // the source ends within a block: what is behind it stays
            let padded = end.next_multiple_of(block_bytes);
            let block = self.destination.read(padded - block_bytes, vec![0; block_bytes as usize]).await?;
            buffer.extend_from_slice(&block[(block_bytes - (padded - end)) as usize..]);
        }
        self.destination.write(offset, buffer).await
    }

    async fn read_destination(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let padded = range.start..range.end.next_multiple_of(self.crew.destination.block_bytes);
        let mut buffer = self.destination.read(range.start, sized(buffer, &padded)).await?;
        buffer.truncate((range.end - range.start) as usize);
        Ok(buffer)
    }

    async fn flush(&self) -> Result<(), Error> {
        let result = self.destination.flush().await;
        if result.is_err() {
            self.crew.unflushed.store(true, Ordering::Relaxed);
        }
        result
    }

    /// All pieces of `segment` are done.
    async fn finish(&self, segment: &Segment) -> Result<(), Error> {
        if let Some(sums) = &self.crew.sums {
            lock(sums).add(segment.sums.take());
            return Ok(());
        }
        let due = {
            let mut ledger = lock(&self.crew.ledger);
            ledger.note(segment.index);
            ledger.due(Instant::now()).map(|saved| (saved, ledger.path().to_owned()))
        };
        let Some((saved, path)) = due else { return Ok(()) };
        self.flush().await?;
        let _one_at_a_time = lock(&self.crew.saving);
        saved.save(&path).map_err(|error| {
            let what = format!("{} cannot be written", path.display());
            Error::caused(Kind::Local, what, error).remedy("name another place with --state")
        })
    }
}

/// `buffer` as long as `range`.
fn sized(mut buffer: Vec<u8>, range: &Range<u64>) -> Vec<u8> {
    buffer.resize((range.end - range.start) as usize, 0);
    buffer
}

/// A thread that panicked ends all; what it left is not used.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
