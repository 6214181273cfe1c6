//! Receive buffers that the kernel picks from when data has come, so that an idle connection holds none.
//!
//! Few are published at a time, and the last one back is the next one out: they stay in the cache.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

use crate::buffer::{Arena, Buffer};
use crate::uring::entry::RECEIVE_GROUP;

pub(super) struct Provided {
    /// `entries` ring entries; the kernel reads them and our tail.
    map: MmapMut,
    entries: u16,
    tail: u16,
    published: Vec<Option<Buffer>>,
    vacant: Vec<u16>,
    buffer_bytes: usize,
}

impl Provided {
    pub(super) fn new(ring: &IoUring, entries: u16, buffer_bytes: usize) -> io::Result<Provided> {
        assert!(entries.is_power_of_two(), "a buffer ring has a power of two of entries");
        let map = MmapMut::map_anon(usize::from(entries) * size_of::<BufRingEntry>())?;
        // SAFETY: the map is page-aligned, holds `entries` entries, and outlives the ring's use of it, because the
        // driver drops its ring first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(map.as_ptr() as u64, entries, RECEIVE_GROUP, 0)
        }?;
        let published = (0..entries).map(|_| None).collect();
        Ok(Provided { map, entries, tail: 0, published, vacant: (0..entries).rev().collect(), buffer_bytes })
    }

    /// Publishes buffers until all entries are out, as far as the arena has some.
    pub(super) fn replenish(&mut self, arena: &Rc<Arena>) {
        let before = self.tail;
        while let Some(&id) = self.vacant.last() {
            let Some(buffer) = arena.try_take(self.buffer_bytes) else { break };
            self.vacant.pop();
            self.write_entry(id, &buffer);
            self.published[usize::from(id)] = Some(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            self.publish_tail();
        }
    }

    /// The buffer that the kernel picked.
    pub(super) fn take(&mut self, id: u16) -> Buffer {
        self.vacant.push(id);
        self.published[usize::from(id)].take().expect("the kernel picks what is published")
    }

    fn write_entry(&mut self, id: u16, buffer: &Buffer) {
        let index = usize::from(self.tail & (self.entries - 1));
        let base: *mut BufRingEntry = self.map.as_mut_ptr().cast();
        // SAFETY: `index` is below `entries`, which the map holds.
        let entry = unsafe { base.add(index) };
        // SAFETY: the kernel reads entries before the tail only; this one is at it, so it is ours to write.
        let entry = unsafe { &mut *entry };
        entry.set_addr(buffer.ptr() as u64);
        entry.set_len(buffer.len() as u32);
        entry.set_bid(id);
    }

    fn publish_tail(&self) {
        // SAFETY: the tail lies in the first entry of a live ring.
        let tail = unsafe { BufRingEntry::tail(self.map.as_ptr().cast()) };
        // SAFETY: two-byte aligned within the map; the kernel reads it atomically, and we are its only writer.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
