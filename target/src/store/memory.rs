//! The memory backing: bytes in a `Region`, and a bitmap of what was ever written.

use std::cell::RefCell;
use std::rc::Rc;

use reactor::{Buffer, Region, View};
use wire::nbd::transmission::{Extent, STATE_HOLE, STATE_ZERO};

use crate::fault::Fault;
use crate::message::VolumeFacts;

/// The grain of allocation.
const PAGE_BYTES: u64 = 4096;

/// Volume bytes in memory.
pub struct MemoryStore {
    region: RefCell<Rc<Region>>,
    /// One bit a page.
    written: RefCell<Vec<u64>>,
}

impl MemoryStore {
    /// `size_bytes` of zeroes.
    pub fn new(size_bytes: u64) -> Result<MemoryStore, Fault> {
        let region = make_region(size_bytes)?;
        let words = size_bytes.div_ceil(PAGE_BYTES).div_ceil(64) as usize;
        Ok(MemoryStore { region: RefCell::new(Rc::new(region)), written: vec![0; words].into() })
    }

    pub(super) fn facts(&self) -> VolumeFacts {
        VolumeFacts {
            size_bytes: self.size_bytes(),
            block_bytes: 1,
            preferred_bytes: PAGE_BYTES as u32,
            io_path: "memory".into(),
            io_path_reason: String::new(),
            can_discard: true,
            can_fast_zero: true,
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.region.borrow().len() as u64
    }

    pub(super) fn set_size(&self, size_bytes: u64) -> Result<(), Fault> {
        let region = Rc::new(make_region(size_bytes)?);
        let old = self.region.borrow().clone();
        let kept = region.len().min(old.len());
        let step = 1 << 20;
        for offset in (0..kept).step_by(step) {
            if self.is_written(offset as u64, step as u64) {
                region.copy_in_view(offset, &old.view(offset, step.min(kept - offset)));
            }
        }
        let words = size_bytes.div_ceil(PAGE_BYTES).div_ceil(64) as usize;
        self.written.borrow_mut().resize(words, 0);
        self.region.replace(region);
        // A page that is kept in part keeps its mark.
        let fresh = (kept as u64).next_multiple_of(PAGE_BYTES);
        self.mark(fresh, size_bytes.saturating_sub(fresh), false);
        Ok(())
    }

    pub(super) fn view(&self, offset: u64, len: usize) -> View {
        self.region.borrow().view(offset as usize, len)
    }

    pub(super) fn read(&self, offset: u64, mut buffer: Buffer) -> Buffer {
        self.view(offset, buffer.len()).copy_to(buffer.bytes_mut());
        buffer
    }

    pub(super) fn write(&self, offset: u64, data: &View) {
        self.region.borrow().copy_in_view(offset as usize, data);
        self.mark(offset, data.len() as u64, true);
    }

    pub(super) fn zero(&self, offset: u64, len: u64, release: bool) {
        self.region.borrow().zero(offset as usize, len as usize, release);
        if release {
            let first = offset.next_multiple_of(PAGE_BYTES);
            let end = (offset + len) / PAGE_BYTES * PAGE_BYTES;
            self.mark(first, end.saturating_sub(first), false);
        } else {
            self.mark(offset, len, true);
        }
    }

    pub(super) fn extents(&self, offset: u64, len: u64, extents_max: usize) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let next = (self.alike_until(at / PAGE_BYTES) * PAGE_BYTES).min(offset + len);
            let flags = if self.is_written(at, 1) { 0 } else { STATE_HOLE | STATE_ZERO };
            let full = extents.len() == extents_max;
            match extents.last_mut() {
                Some(last) if last.flags == flags => last.length += next - at,
                _ if full => break,
                _ => extents.push(Extent { length: next - at, flags }),
            }
            at = next;
        }
        extents
    }

    /// A page up to which all are as `page` is: the next one, or the next word's where a whole word is alike.
    fn alike_until(&self, page: u64) -> u64 {
        match self.written.borrow().get((page / 64) as usize) {
            Some(&(0 | u64::MAX)) => (page / 64 + 1) * 64,
            _ => page + 1,
        }
    }

    fn mark(&self, offset: u64, len: u64, written: bool) {
        if len == 0 {
            return;
        }
        let bits = &mut *self.written.borrow_mut();
        for page in offset / PAGE_BYTES..=(offset + len - 1) / PAGE_BYTES {
            let Some(word) = bits.get_mut((page / 64) as usize) else { return };
            let bit = 1 << (page % 64);
            *word = if written { *word | bit } else { *word & !bit };
        }
    }

    fn is_written(&self, offset: u64, len: u64) -> bool {
        let bits = self.written.borrow();
        let mut pages = offset / PAGE_BYTES..=(offset + len - 1) / PAGE_BYTES;
        pages.any(|page| bits.get((page / 64) as usize).is_some_and(|word| word & (1 << (page % 64)) != 0))
    }
}

fn make_region(size_bytes: u64) -> Result<Region, Fault> {
    let len = usize::try_from(size_bytes).map_err(|_| {
        Fault::new(crate::fault::Kind::Resources, format!("{size_bytes} bytes of memory cannot be addressed"))
    })?;
    Region::new(len)
        .map_err(|error| Fault::io(format!("{size_bytes} bytes of memory are not to be had"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_those_of_single_pages_joined() {
        let pages = 300;
        let store = MemoryStore::new(pages * PAGE_BYTES).expect("memory");
        for (first, count) in [(1, 1), (63, 2), (120, 150)] {
            store.zero(first * PAGE_BYTES, count * PAGE_BYTES, false);
        }
        for (offset, len) in [(0, pages * PAGE_BYTES), (100, 5000), (64 * PAGE_BYTES, 236 * PAGE_BYTES)] {
            let mut at = offset;
            let found = store.extents(offset, len, 100);
            for pair in found.windows(2) {
                assert_ne!(pair[0].flags, pair[1].flags, "neighbours are joined");
            }
            for extent in found {
                for page in at / PAGE_BYTES..(at + extent.length).div_ceil(PAGE_BYTES) {
                    let written = store.is_written(page * PAGE_BYTES, 1);
                    assert_eq!(extent.flags == 0, written, "page {page} of {offset}+{len}");
                }
                at += extent.length;
            }
            assert_eq!(at, offset + len);
        }
    }
}
