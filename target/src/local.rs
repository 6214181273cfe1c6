//! A volume's bytes on this node: any range in, aligned ranges out to the store.
//!
//! Partial blocks are read, changed and written back with nobody else near them. Its one rule: ranges are held
//! against the size of the moment, because a volume may shrink under a request.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use reactor::buffer::PIECE_BYTES_MAX;
use reactor::{Buffer, Core, View, io as verbs};
use wire::nbd::transmission::Extent;

use crate::fault::{Fault, Kind};
use crate::generations::{Generations, Running};
use crate::message::VolumeFacts;
use crate::range_lock::RangeLock;
use crate::sabotage::Sabotage;
use crate::store::{Store, Zeroing};

/// What a store in memory zeroes or discards at a time, in about a millisecond.
const STEP_BYTES: u64 = 4 << 20;

/// The bytes of one volume.
pub struct Local {
    name: String,
    core: Core,
    store: Store,
    /// Copied out of the store, where the path of an I/O would have to borrow it.
    size_bytes: Cell<u64>,
    block_bytes: u64,
    ranges: Rc<RangeLock>,
    generations: Generations,
    /// Changes made, and how many of them a sync has covered.
    changes: Cell<u64>,
    synced: Cell<u64>,
}

/// A change in flight. Counted when it ends, so that no flush that began before it is taken to cover it.
struct Change<'a> {
    changes: &'a Cell<u64>,
    _running: Running<'a>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changes.set(self.changes.get() + 1);
    }
}

impl Local {
    /// The bytes in `store`; `name` is for messages.
    pub fn new(core: &Core, name: &str, store: Store) -> Local {
        Local {
            name: name.to_owned(),
            core: core.clone(),
            size_bytes: Cell::new(store.size_bytes()),
            block_bytes: store.block_bytes().into(),
            store,
            ranges: Rc::default(),
            generations: Generations::default(),
            changes: Cell::new(0),
            synced: Cell::new(0),
        }
    }

    /// What it is now.
    pub fn facts(&self) -> VolumeFacts {
        self.store.facts()
    }

    /// Bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.get()
    }

    /// Serves `size_bytes` from now on, and waits until nothing that began under another size is in flight.
    pub async fn set_size(&self, size_bytes: u64) -> Result<VolumeFacts, Fault> {
        let before = self.size_bytes.get();
        self.size_bytes.set(size_bytes.min(before));
        self.generations.settled().await;
        let result = self.store.set_size(size_bytes);
        self.size_bytes.set(if result.is_ok() { size_bytes } else { before });
        result.map(|()| self.facts())
    }

    /// Whether `write` never waits for a device, so that data may be lent to it from a receive buffer.
    pub fn is_immediate(&self) -> bool {
        self.store.is_immediate()
    }

    /// The bytes of `offset..offset + len`, at most `PIECE_BYTES_MAX`. `take` gives the buffer, where one is needed.
    pub async fn read(
        &self,
        offset: u64,
        len: usize,
        take: impl AsyncFnOnce(usize) -> Buffer,
    ) -> Result<View, Fault> {
        let _running = self.generations.begin();
        self.still_inside(offset, len as u64, Kind::Invalid)?;
        if let Some(view) = self.store.view(offset, len) {
            return Ok(view);
        }
        let whole = self.blocks_around(offset..offset + len as u64);
        let buffer = take((whole.end - whole.start) as usize).await;
        let buffer = self.store.read(whole.start, buffer).await?;
        Ok(buffer.into_view((offset - whole.start) as usize, len))
    }

    /// Writes `data` to `offset`, durably if asked.
    pub async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        let _running = self.change();
        self.still_inside(offset, data.len() as u64, Kind::NoSpace)?;
        let range = offset..offset + data.len() as u64;
        if self.needs_no_lock() {
            return self.store.write(offset, data, durable).await;
        }
        if self.blocks_around(range.clone()) != range {
            return self.modify(range, durable, |start, to| data.copy_range_to(start, to)).await;
        }
        let _guard = self.ranges.shared(range).await;
        let data = self.aligned(data);
        self.store.write(offset, data, durable).await
    }

    /// The same, where the store never waits; `None` where it may.
    pub fn write_at_once(&self, offset: u64, data: &View) -> Option<Result<(), Fault>> {
        if !self.needs_no_lock() {
            return None;
        }
        let _running = self.change();
        let inside = self.still_inside(offset, data.len() as u64, Kind::NoSpace);
        inside.map(|()| self.store.write_at_once(offset, data).then_some(())).transpose()
    }

    /// Writes `data` if the volume holds `expected` there, with no other write of any client in between; else
    /// writes nothing and gives the place of the first byte that differs, counted from `offset`.
    pub async fn compare_and_write(
        &self,
        offset: u64,
        expected: &[u8],
        data: &[u8],
        durable: bool,
    ) -> Result<Option<u64>, Fault> {
        assert_eq!(expected.len(), data.len(), "callers give two halves of one transfer");
        let _running = self.change();
        self.still_inside(offset, data.len() as u64, Kind::NoSpace)?;
        let range = offset..offset + data.len() as u64;
        let whole = self.blocks_around(range.clone());
        let _guard = self.ranges.exclusive(whole.clone()).await;
        let mut buffers = Vec::new();
        for piece in pieces(whole.clone()) {
            let mut buffer = self.store.read(piece.start, self.take(length_of(&piece))).await?;
            let (at, there) = overlap(&range, &piece, buffer.bytes_mut());
            let wanted = &expected[at..at + there.len()];
            if let Some(differs) = there.iter().zip(wanted).position(|(a, b)| a != b) {
                return Ok(Some((at + differs) as u64));
            }
            there.copy_from_slice(&data[at..at + there.len()]);
            buffers.push((piece.start, buffer));
        }
        for (at, buffer) in buffers {
            let len = buffer.len();
            self.store.write(at, buffer.into_view(0, len), durable).await?;
        }
        Ok(None)
    }

    /// Sets the bits that are set in `data`, with no other write of any client in between.
    pub async fn or_write(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), Fault> {
        let _running = self.change();
        self.still_inside(offset, data.len() as u64, Kind::NoSpace)?;
        let set_bits = |start: usize, to: &mut [u8]| {
            to.iter_mut().zip(&data[start..]).for_each(|(to, from)| *to |= from);
        };
        self.modify(offset..offset + data.len() as u64, durable, set_bits).await
    }

    /// Makes every write that was acknowledged durable.
    pub async fn flush(&self) -> Result<(), Fault> {
        let covered = self.changes.get();
        self.store.sync().await?;
        self.synced.set(covered.max(self.synced.get()));
        Ok(())
    }

    /// Waits for the reads and writes that have begun before now.
    pub async fn settled(&self) {
        self.generations.settled().await;
    }

    /// Whether something was written since the last flush.
    pub fn is_dirty(&self) -> bool {
        self.changes.get() > self.synced.get()
    }

    /// Lets the backing forget the whole blocks of the range; the rest stays.
    pub async fn trim(&self, offset: u64, len: u64, durable: bool) -> Result<(), Fault> {
        let _running = self.change();
        self.still_inside(offset, len, Kind::Invalid)?;
        let inner = self.blocks_inside(offset..offset + len);
        if inner.is_empty() {
            return Ok(());
        }
        let _guard = self.ranges.exclusive(inner.clone()).await;
        for step in self.steps(inner) {
            match self.store.discard(step.start, step.end - step.start).await {
                // Trimming is advice; a backing that cannot take it has done no harm.
                Err(fault) if fault.kind() == Kind::Unsupported => break,
                result => result,
            }?;
            self.let_others().await;
        }
        self.sync_if(durable).await
    }

    /// Zeroes the range.
    pub async fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        how: Zeroing,
        durable: bool,
    ) -> Result<(), Fault> {
        let _running = self.change();
        self.still_inside(offset, len, Kind::NoSpace)?;
        let range = offset..offset + len;
        let inner = self.blocks_inside(range.clone());
        if inner.is_empty() {
            return self.modify_zero(range, durable).await;
        }
        {
            let _guard = self.ranges.exclusive(inner.clone()).await;
            for step in self.steps(inner.clone()) {
                match self.store.zero(step.start, step.end - step.start, how).await {
                    Err(fault) if fault.kind() == Kind::Unsupported && !how.fast_only => {
                        self.fill_with_zeroes(step).await
                    }
                    result => result,
                }?;
                self.let_others().await;
            }
        }
        self.modify_zero(range.start..inner.start, false).await?;
        self.modify_zero(inner.end..range.end, false).await?;
        self.sync_if(durable).await
    }

    /// What is allocated from `offset` on.
    pub async fn extents(&self, offset: u64, len: u64, extents_max: usize) -> Result<Vec<Extent>, Fault> {
        self.store.extents(offset, len, extents_max).await
    }

    /// Says that the range will be read soon.
    pub async fn prefetch(&self, offset: u64, len: u64) -> Result<(), Fault> {
        self.store.prefetch(offset, len).await
    }

    /// A request was checked when its header came; the volume may have shrunk before its data did.
    fn still_inside(&self, offset: u64, len: u64, beyond: Kind) -> Result<(), Fault> {
        let size_bytes = self.size_bytes.get();
        if offset + len <= size_bytes {
            return Ok(());
        }
        let name = &self.name;
        Err(Fault::new(beyond, format!("volume {name} has shrunk to {size_bytes} bytes under a request")))
    }

    fn change(&self) -> Change<'_> {
        Change { changes: &self.changes, _running: self.generations.begin() }
    }

    async fn sync_if(&self, durable: bool) -> Result<(), Fault> {
        if durable { self.flush().await } else { Ok(()) }
    }

    /// A write to a store that never waits and has no blocks is over within one turn of its task: nothing comes
    /// between, neither before it nor into a read-modify-write of another task.
    fn needs_no_lock(&self) -> bool {
        self.block_bytes == 1 && self.store.is_immediate()
    }

    /// Reads the blocks around `range`, lets `change` alter those bytes of the range that it is shown (and told the
    /// start of, within the range), writes them back, with nobody else writing to them.
    async fn modify(
        &self,
        range: Range<u64>,
        durable: bool,
        change: impl Fn(usize, &mut [u8]),
    ) -> Result<(), Fault> {
        let whole = self.blocks_around(range.clone());
        let held = if Sabotage::ShareBlocks.is_on() { 0..0 } else { whole.clone() };
        let _guard = self.ranges.exclusive(held).await;
        for piece in pieces(whole) {
            let mut buffer = self.store.read(piece.start, self.take(length_of(&piece))).await?;
            let (start, there) = overlap(&range, &piece, buffer.bytes_mut());
            change(start, there);
            let len = buffer.len();
            self.store.write(piece.start, buffer.into_view(0, len), durable).await?;
        }
        Ok(())
    }

    async fn modify_zero(&self, range: Range<u64>, durable: bool) -> Result<(), Fault> {
        if range.is_empty() { Ok(()) } else { self.modify(range, durable, |_, to| to.fill(0)).await }
    }

    async fn fill_with_zeroes(&self, range: Range<u64>) -> Result<(), Fault> {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(PIECE_BYTES_MAX as u64 / 4) as usize;
            let mut buffer = self.take(len);
            buffer.bytes_mut().fill(0);
            self.store.write(at, buffer.into_view(0, len), false).await?;
            self.let_others().await;
            at += len as u64;
        }
        Ok(())
    }

    /// A store that works on the spot works on a long range in steps.
    fn steps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let step = if self.is_immediate() { STEP_BYTES } else { u64::MAX };
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = at;
            at = range.end.min(start.saturating_add(step));
            (start < range.end).then_some(start..at)
        })
    }

    /// Between two steps, a turn for everything else of this core.
    async fn let_others(&self) {
        if self.is_immediate() {
            verbs::sleep(&self.core, Duration::ZERO).await;
        }
    }

    /// `data` itself, or a copy that is aligned in memory.
    fn aligned(&self, data: View) -> View {
        if data.is_aligned(self.block_bytes as usize) {
            return data;
        }
        let len = data.len();
        let mut buffer = self.take(len);
        data.copy_to(buffer.bytes_mut());
        buffer.into_view(0, len)
    }

    /// Never waits: who holds a range and waits for a buffer would wait for those who wait for the range.
    fn take(&self, len: usize) -> Buffer {
        self.core.arena().take_now(len)
    }

    fn blocks_around(&self, range: Range<u64>) -> Range<u64> {
        let mask = self.block_bytes - 1;
        range.start & !mask..(range.end + mask) & !mask
    }

    fn blocks_inside(&self, range: Range<u64>) -> Range<u64> {
        let mask = self.block_bytes - 1;
        let start = (range.start + mask) & !mask;
        start..(range.end & !mask).max(start)
    }
}

/// A range in pieces that fit a buffer.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(PIECE_BYTES_MAX).map(move |start| start..end.min(start + PIECE_BYTES_MAX as u64))
}

fn length_of(piece: &Range<u64>) -> usize {
    (piece.end - piece.start) as usize
}

/// The bytes of `piece` that belong to `range`, and where they lie in it.
fn overlap<'a>(range: &Range<u64>, piece: &Range<u64>, bytes: &'a mut [u8]) -> (usize, &'a mut [u8]) {
    let start = range.start.max(piece.start);
    let end = range.end.min(piece.end);
    let there = &mut bytes[(start - piece.start) as usize..(end - piece.start) as usize];
    ((start - range.start) as usize, there)
}
