//! A large stretch of memory that holds a volume's bytes, for the memory backing.
//!
//! Lives on one core. Its bytes are only ever copied in and out, never lent, so a view of them that the
//! kernel is sending may change underneath, as the bytes of a disk would.

use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};

use crate::buffer::View;

/// How much of a range is loaded ahead: the processor goes on by itself.
const WARM_BYTES: usize = 4096;

/// Zeroed memory of a fixed size; pages never written take none.
pub struct Region {
    map: MmapMut,
    base: NonNull<u8>,
    len: usize,
}

impl Region {
    /// `len` bytes of zeroes. Pages are taken from the system when they are first written.
    pub fn new(len: usize) -> io::Result<Region> {
        let mut map = MmapOptions::new().len(len.max(1)).no_reserve_swap().map_anon()?;
        // Fewer TLB misses on random access; a system without huge pages says no, which changes nothing.
        let _ = map.advise(Advice::HugePage);
        let base = NonNull::new(map.as_mut_ptr()).expect("a map is never at null");
        Ok(Region { map, base, len })
    }

    /// Bytes in it.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes `offset..offset + len`, as they will be when they are looked at.
    pub fn view(self: &Rc<Self>, offset: usize, len: usize) -> View {
        let start = self.at(offset, len);
        warm(start, len);
        View::of_region(self, start, len)
    }

    /// Copies `from` in at `offset`.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: in range (`at`); `from` cannot overlap the map because no reference into it is ever made.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
    }

    /// Copies `from` in at `offset`.
    pub fn copy_in_view(&self, offset: usize, from: &View) {
        let to = self.at(offset, from.len());
        // SAFETY: in range (`at`); `copy` allows for a view of this same region.
        unsafe { std::ptr::copy(from.ptr(), to.as_ptr(), from.len()) };
    }

    /// Zeroes `len` bytes at `offset`; whole pages are given back to the system when `release` is set.
    pub fn zero(&self, offset: usize, len: usize, release: bool) {
        let start = self.at(offset, len).as_ptr();
        let page = 4096;
        let first = offset.next_multiple_of(page);
        let end = (offset + len) / page * page;
        if release && end > first {
            // SAFETY: private anonymous memory reads as zeroes after MADV_DONTNEED, and no reference into it exists.
            let released =
                unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first) };
            if released.is_ok() {
                // SAFETY: the head before the first whole page is in range.
                unsafe { start.write_bytes(0, first - offset) };
                let tail = self.at(end, offset + len - end);
                // SAFETY: the tail after the last whole page is in range.
                unsafe { tail.write_bytes(0, offset + len - end) };
                return;
            }
        }
        // SAFETY: in range (`at`).
        unsafe { start.write_bytes(0, len) };
    }

    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "callers check the volume's end");
        // SAFETY: `offset` is within the map.
        unsafe { self.base.add(offset) }
    }
}

/// Begins to load what will be copied soon: at depth, the misses of one request pass while others are parsed.
#[inline]
fn warm(start: NonNull<u8>, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len.min(WARM_BYTES)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let line = start.as_ptr().wrapping_add(line);
        // SAFETY: a prefetch is a hint; it cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroing_touches_its_range_alone() {
        for release in [false, true] {
            for (offset, len) in [(0, 100), (100, 8000), (4096, 8192), (5000, 20000), (65535, 1)] {
                let region = Rc::new(Region::new(65536).expect("memory"));
                region.copy_in(0, &vec![7; 65536]);
                region.zero(offset, len, release);
                let mut out = vec![0; 65536];
                region.view(0, 65536).copy_to(&mut out);
                for (i, &byte) in out.iter().enumerate() {
                    let expected = if (offset..offset + len).contains(&i) { 0 } else { 7 };
                    assert_eq!(byte, expected, "byte {i} of {offset}+{len}, release {release}");
                }
            }
        }
    }
}
