//! A volume on its core, as fronts know it: its bytes, alone or mirrored, its settings and its counters.
//!
//! Fronts know a volume, never a store or a peer. Ranges lie inside the volume: fronts check them against its size.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use reactor::sync::WaitList;
use reactor::{Buffer, View};
use wire::nbd::transmission::Extent;

use crate::fault::{Fault, Kind};
use crate::local::Local;
use crate::message::VolumeFacts;
use crate::mirror::Mirror;
use crate::settings::VolumeSettings;
use crate::snapshot::{Operation, OperationCounters, VolumeSnapshot};
use crate::store::Zeroing;

/// Latencies are kept from 1 ns to 100 s with two significant digits.
pub const LATENCY_NS_MAX: u64 = 100_000_000_000;

/// One volume.
pub struct Volume {
    settings: RefCell<Arc<VolumeSettings>>,
    local: Rc<Local>,
    mirror: Option<Rc<Mirror>>,
    operations: RefCell<Vec<OperationCounters>>,
    connections: Cell<usize>,
    detached: WaitList,
}

impl Volume {
    /// Serves what is in `local`, or mirrored by `mirror`.
    pub fn over(settings: Arc<VolumeSettings>, local: Rc<Local>, mirror: Option<Rc<Mirror>>) -> Rc<Volume> {
        let operations = Operation::ALL.map(|operation| OperationCounters {
            operation,
            requests: 0,
            bytes: 0,
            errors: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are lawful"),
        });
        Rc::new(Volume {
            settings: RefCell::new(settings),
            local,
            mirror,
            operations: RefCell::new(operations.into()),
            connections: Cell::new(0),
            detached: WaitList::default(),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> Arc<VolumeSettings> {
        self.settings.borrow().clone()
    }

    /// New settings of the same backing.
    pub fn set_settings(&self, settings: Arc<VolumeSettings>) {
        if let (Some(mirror), Some(new)) = (&self.mirror, &settings.mirror) {
            mirror.set_settings(new);
        }
        self.settings.replace(settings);
    }

    /// Its mirror, if it has replicas.
    pub fn mirror(&self) -> Option<&Rc<Mirror>> {
        self.mirror.as_ref()
    }

    /// Of a mirrored volume: changes when acknowledged, unflushed writes may be lost. 0 while unknown, and for others.
    pub fn era(&self) -> u64 {
        self.mirror.as_ref().map_or(0, |mirror| mirror.era())
    }

    /// What it is now.
    pub fn facts(&self) -> VolumeFacts {
        self.local.facts()
    }

    /// Bytes.
    pub fn size_bytes(&self) -> u64 {
        self.local.size_bytes()
    }

    /// Serves `size_bytes` from now on, and waits until nothing that began under another size is in flight.
    pub async fn set_size(&self, size_bytes: u64) -> Result<VolumeFacts, Fault> {
        self.alone("be resized while it is served")?;
        self.local.set_size(size_bytes).await
    }

    /// Whether `write` never waits for a device or a peer, so that data may be lent to it from a receive buffer.
    pub fn is_immediate(&self) -> bool {
        self.mirror.is_none() && self.local.is_immediate()
    }

    /// The bytes of `offset..offset + len`, at most `PIECE_BYTES_MAX`. `take` gives the buffer, where one is needed.
    pub async fn read(
        &self,
        offset: u64,
        len: usize,
        take: impl AsyncFnOnce(usize) -> Buffer,
    ) -> Result<View, Fault> {
        match &self.mirror {
            None => self.local.read(offset, len, take).await,
            Some(mirror) => mirror.read(offset, len, take).await,
        }
    }

    /// Writes `data` to `offset`, durably if asked.
    pub async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        match &self.mirror {
            None => self.local.write(offset, data, durable).await,
            Some(mirror) => mirror.write(offset, data, durable).await,
        }
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
        self.alone("compare and write in one step")?;
        self.local.compare_and_write(offset, expected, data, durable).await
    }

    /// Sets the bits that are set in `data`, with no other write of any client in between.
    pub async fn or_write(&self, offset: u64, data: &[u8], durable: bool) -> Result<(), Fault> {
        self.alone("set bits in one step")?;
        self.local.or_write(offset, data, durable).await
    }

    /// Makes every write that was acknowledged durable.
    pub async fn flush(&self) -> Result<(), Fault> {
        match &self.mirror {
            None => self.local.flush().await,
            Some(mirror) => mirror.flush().await,
        }
    }

    /// Waits for the reads and writes that have begun before now.
    pub async fn settled(&self) {
        self.local.settled().await;
    }

    /// Makes durable what this node has and has not made durable; of a mirror, its own replica alone.
    pub async fn close(&self) -> Result<(), Fault> {
        if let Some(mirror) = &self.mirror {
            mirror.step_down().await;
            mirror.close();
        }
        if self.local.is_dirty() { self.local.flush().await } else { Ok(()) }
    }

    /// Lets the backing forget the whole blocks of the range; the rest stays. Of a mirror: all of it reads as zero.
    pub async fn trim(&self, offset: u64, len: u64, durable: bool) -> Result<(), Fault> {
        match &self.mirror {
            None => self.local.trim(offset, len, durable).await,
            Some(mirror) => mirror.write_zeroes(offset, len, true, durable).await,
        }
    }

    /// Zeroes the range.
    pub async fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        how: Zeroing,
        durable: bool,
    ) -> Result<(), Fault> {
        match &self.mirror {
            None => self.local.write_zeroes(offset, len, how, durable).await,
            // Nobody here knows whether a peer can do it fast.
            Some(_) if how.fast_only => self.alone("be zeroed without writing zeroes"),
            Some(mirror) => mirror.write_zeroes(offset, len, how.may_unmap, durable).await,
        }
    }

    /// What is allocated from `offset` on.
    pub async fn extents(&self, offset: u64, len: u64, extents_max: usize) -> Result<Vec<Extent>, Fault> {
        match &self.mirror {
            // What is a hole here may be data where the volume is led.
            Some(mirror) if !mirror.serves_here() => Ok(vec![Extent { length: len, flags: 0 }]),
            _ => self.local.extents(offset, len, extents_max).await,
        }
    }

    /// Says that the range will be read soon.
    pub async fn prefetch(&self, offset: u64, len: u64) -> Result<(), Fault> {
        self.local.prefetch(offset, len).await
    }

    /// Counts one answered request.
    pub fn record(&self, operation: Operation, bytes: u64, ok: bool, latency: Duration) {
        let counters = &mut self.operations.borrow_mut()[operation as usize];
        counters.requests += 1;
        match ok {
            true => counters.bytes += bytes,
            false => counters.errors += 1,
        }
        counters.latency_ns.saturating_record((latency.as_nanos() as u64).max(1));
    }

    /// Counts a client in.
    pub fn attach_client(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// Counts a client out.
    pub fn detach_client(&self) {
        self.connections.set(self.connections.get() - 1);
        self.detached.wake_all();
    }

    /// Waits until no client is left.
    pub async fn without_clients(&self) {
        while self.connections.get() > 0 {
            self.detached.wait().await;
        }
    }

    /// A copy of the counters.
    pub fn snapshot(&self) -> VolumeSnapshot {
        let settings = self.settings();
        VolumeSnapshot {
            uuid: settings.uuid,
            name: settings.name.clone(),
            connections: self.connections.get(),
            facts: self.facts(),
            operations: self.operations.borrow().clone(),
            mirror: self.mirror.as_ref().map(|mirror| mirror.snapshot()),
        }
    }

    /// What a mirrored volume cannot do.
    fn alone(&self, what: &str) -> Result<(), Fault> {
        if self.mirror.is_none() {
            return Ok(());
        }
        let name = &self.settings.borrow().name;
        Err(Fault::new(Kind::Unsupported, format!("volume {name} is mirrored and cannot {what}")))
    }
}
