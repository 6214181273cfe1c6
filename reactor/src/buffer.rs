//! Aligned slices of one arena, which the rings register once.
//!
//! A `Buffer` is the only owner of its bytes; a `View` is a shared, read-only range of a buffer, of a
//! receive buffer or of a `Region`. Both are moved into operations and come back with their results,
//! so nobody can touch bytes that the kernel is using. Pieces are powers of two from 4 KiB, each
//! aligned to its size up to a page.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use memmap2::MmapMut;

use crate::region::Region;
use crate::sync::WaitList;

/// The smallest piece.
pub const PIECE_BYTES_MIN: usize = 4096;
/// The largest piece.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
const ORDERS: usize = (PIECE_BYTES_MAX / PIECE_BYTES_MIN).ilog2() as usize + 1;

/// The buffers of one core.
pub struct Arena {
    map: RefCell<MmapMut>,
    base: NonNull<u8>,
    bytes: usize,
    registered: Cell<bool>,
    free: RefCell<[Vec<u32>; ORDERS]>,
    used: Cell<usize>,
    spilled: Cell<usize>,
    waiting: WaitList,
}

impl Arena {
    /// An arena of `bytes`, rounded up to whole pieces of `PIECE_BYTES_MAX`.
    pub fn new(bytes: usize) -> io::Result<Rc<Arena>> {
        let bytes = bytes.max(PIECE_BYTES_MAX).next_multiple_of(PIECE_BYTES_MAX);
        let mut map = MmapMut::map_anon(bytes)?;
        let base = NonNull::new(map.as_mut_ptr()).expect("a map is never at null");
        let mut free: [Vec<u32>; ORDERS] = Default::default();
        let top = (bytes / PIECE_BYTES_MAX) as u32;
        free[ORDERS - 1] = (0..top).rev().map(|i| i * (PIECE_BYTES_MAX / PIECE_BYTES_MIN) as u32).collect();
        Ok(Rc::new(Arena {
            map: RefCell::new(map),
            base,
            bytes,
            registered: Cell::new(false),
            free: RefCell::new(free),
            used: Cell::new(0),
            spilled: Cell::new(0),
            waiting: WaitList::default(),
        }))
    }

    /// A buffer of `len` bytes (at most `PIECE_BYTES_MAX`), or `None` when the arena has no such piece left.
    pub fn try_take(self: &Rc<Self>, len: usize) -> Option<Buffer> {
        assert!(len <= PIECE_BYTES_MAX, "callers cut transfers into pieces");
        let order = order_of(len);
        let index = self.pop(order)?;
        self.used.set(self.used.get() + (PIECE_BYTES_MIN << order));
        // SAFETY: `index` is a piece inside the map (`new`, `pop`), so the offset stays in its allocation.
        let ptr = unsafe { self.base.add(index as usize * PIECE_BYTES_MIN) };
        Some(Buffer { arena: self.clone(), ptr, len, order: order as u8, spilled: false })
    }

    /// A buffer of `len` bytes as soon as there is one.
    pub async fn take(self: &Rc<Self>, len: usize) -> Buffer {
        loop {
            if let Some(buffer) = self.try_take(len) {
                return buffer;
            }
            self.waiting.wait().await;
        }
    }

    /// A buffer outside the arena: not registered, so slower. The caller bounds how many there are.
    pub fn spill(self: &Rc<Self>, len: usize) -> Buffer {
        assert!(len <= PIECE_BYTES_MAX, "callers cut transfers into pieces");
        let order = order_of(len);
        let layout = spill_layout(order);
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { std::alloc::handle_alloc_error(layout) };
        self.spilled.set(self.spilled.get() + layout.size());
        Buffer { arena: self.clone(), ptr, len, order: order as u8, spilled: true }
    }

    /// A buffer of `len` bytes at once: of the arena, or outside it. The caller bounds how many there are.
    pub fn take_now(self: &Rc<Self>, len: usize) -> Buffer {
        self.try_take(len).unwrap_or_else(|| self.spill(len))
    }

    /// Wakes whenever a buffer has come back.
    pub fn returned(&self) -> &WaitList {
        &self.waiting
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the pieces handed out now.
    pub fn used_bytes(&self) -> usize {
        self.used.get()
    }

    /// Bytes of the buffers outside the arena now.
    pub fn spilled_bytes(&self) -> usize {
        self.spilled.get()
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn set_registered(&self, registered: bool) {
        self.registered.set(registered);
    }

    fn pop(&self, order: usize) -> Option<u32> {
        let free = &mut *self.free.borrow_mut();
        if let Some(index) = free[order].pop() {
            return Some(index);
        }
        if let Some(index) = split(free, order) {
            return Some(index);
        }
        coalesce(free);
        split(free, order)
    }

    fn give_back(&self, ptr: NonNull<u8>, order: usize) {
        let index = (ptr.as_ptr() as usize - self.base.as_ptr() as usize) / PIECE_BYTES_MIN;
        self.free.borrow_mut()[order].push(index as u32);
        self.used.set(self.used.get() - (PIECE_BYTES_MIN << order));
        self.waiting.wake_all();
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        debug_assert_eq!(self.used.get(), 0, "a buffer holds its arena");
        let _ = self.map.get_mut();
    }
}

/// Takes the smallest larger piece and cuts it down to `order`.
fn split(free: &mut [Vec<u32>; ORDERS], order: usize) -> Option<u32> {
    let from = (order..ORDERS).find(|&o| !free[o].is_empty())?;
    let index = free[from].pop()?;
    for o in (order..from).rev() {
        free[o].push(index + (1 << o));
    }
    Some(index)
}

/// Joins free buddies, from small to large. Only when a large piece is wanted and none is whole.
fn coalesce(free: &mut [Vec<u32>; ORDERS]) {
    for order in 0..ORDERS - 1 {
        let mut pieces = std::mem::take(&mut free[order]);
        pieces.sort_unstable();
        let mut i = 0;
        while i < pieces.len() {
            let index = pieces[i];
            let is_low_half = index & ((1 << (order + 1)) - 1) == 0;
            if is_low_half && pieces.get(i + 1) == Some(&(index + (1 << order))) {
                free[order + 1].push(index);
                i += 2;
            } else {
                free[order].push(index);
                i += 1;
            }
        }
    }
}

fn order_of(len: usize) -> usize {
    (len.max(1).next_power_of_two() / PIECE_BYTES_MIN).max(1).ilog2() as usize
}

fn spill_layout(order: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(PIECE_BYTES_MIN << order, PIECE_BYTES_MIN)
        .expect("a page-aligned power of two up to 1 MiB is a valid layout")
}

/// Bytes with one owner, aligned for O_DIRECT.
pub struct Buffer {
    arena: Rc<Arena>,
    ptr: NonNull<u8>,
    len: usize,
    order: u8,
    spilled: bool,
}

impl Buffer {
    /// The bytes asked for.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Sets the length, within the piece.
    pub fn resize(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a buffer does not outgrow its piece");
        self.len = len;
    }

    /// The bytes of the piece.
    pub fn capacity(&self) -> usize {
        PIECE_BYTES_MIN << self.order
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the piece is ours alone while `self` lives, within its mapping, and initialised (fresh maps are zero).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// The range `start..start + len` as a view that owns the buffer.
    pub fn into_view(self, start: usize, len: usize) -> View {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a view lies within its buffer");
        // SAFETY: `start` is within the piece.
        let ptr = unsafe { self.ptr.add(start) };
        View { ptr, len, keep: Keep::Buffer(self) }
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    pub(crate) fn is_registered(&self) -> bool {
        !self.spilled && self.arena.registered.get()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.spilled {
            let layout = spill_layout(self.order as usize);
            self.arena.spilled.set(self.arena.spilled.get() - layout.size());
            // SAFETY: made in `spill` with this very layout, and freed once, here.
            unsafe { std::alloc::dealloc(self.ptr.as_ptr(), layout) };
            self.arena.waiting.wake_all();
        } else {
            self.arena.give_back(self.ptr, self.order as usize);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// A shared, read-only range of bytes that something keeps alive.
pub struct View {
    ptr: NonNull<u8>,
    len: usize,
    keep: Keep,
}

enum Keep {
    Buffer(Buffer),
    Shared(Rc<Buffer>),
    /// Between two keeps, never seen from outside.
    Nothing,
    Region(#[allow(dead_code, reason = "held, never read: it keeps the bytes alive")] Rc<Region>),
}

impl Keep {
    /// Another holder of the same bytes.
    fn share(&mut self) -> Keep {
        if let Keep::Buffer(_) = self {
            let Keep::Buffer(buffer) = std::mem::replace(self, Keep::Nothing) else {
                unreachable!("looked at above")
            };
            *self = Keep::Shared(Rc::new(buffer));
        }
        match self {
            Keep::Shared(buffer) => Keep::Shared(buffer.clone()),
            Keep::Region(region) => Keep::Region(region.clone()),
            Keep::Buffer(_) | Keep::Nothing => unreachable!("made shared above"),
        }
    }
}

impl View {
    /// Bytes in it.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A range of a buffer with several owners.
    pub fn of_shared(buffer: &Rc<Buffer>, start: usize, len: usize) -> View {
        assert!(start.checked_add(len).is_some_and(|end| end <= buffer.len), "a view lies within its buffer");
        // SAFETY: `start` is within the piece.
        let ptr = unsafe { buffer.ptr.add(start) };
        View { ptr, len, keep: Keep::Shared(buffer.clone()) }
    }

    pub(crate) fn of_region(region: &Rc<Region>, ptr: NonNull<u8>, len: usize) -> View {
        View { ptr, len, keep: Keep::Region(region.clone()) }
    }

    /// Copies all of it out. `to` has the same length.
    pub fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "copies are of whole views");
        // SAFETY: `ptr..len` lives as long as `keep`; `to` is a fresh exclusive borrow, which no view can overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr.as_ptr(), to.as_mut_ptr(), self.len) };
    }

    /// Copies `start..start + to.len()` out.
    pub fn copy_range_to(&self, start: usize, to: &mut [u8]) {
        assert!(
            start.checked_add(to.len()).is_some_and(|end| end <= self.len),
            "a range lies within its view"
        );
        // SAFETY: as in `copy_to`, for a part of the range.
        unsafe {
            std::ptr::copy_nonoverlapping(self.ptr.as_ptr().wrapping_add(start), to.as_mut_ptr(), to.len())
        };
    }

    /// Whether the bytes of `start..start + len` are all zero.
    pub fn is_zero(&self, start: usize, len: usize) -> bool {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a range lies within its view");
        // SAFETY: in range; no exclusive borrow of these bytes exists while this short one does, because a core is
        // one thread and neither `Buffer` nor `Region` lends one out across this call.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().wrapping_add(start), len) };
        is_zero(bytes)
    }

    /// The CRC32C of what `crc` covers already and of all these bytes behind it.
    pub fn crc32c(&self, crc: u32) -> u32 {
        // SAFETY: as in `is_zero`.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) };
        crc32c::crc32c_append(crc, bytes)
    }

    /// Cuts off the first `count` bytes as a view of their own; both keep the bytes alive.
    pub fn split_to(&mut self, count: usize) -> View {
        assert!(count <= self.len, "a view is cut within itself");
        let front = View { ptr: self.ptr, len: count, keep: self.keep.share() };
        self.advance(count);
        front
    }

    /// The same bytes for another holder.
    pub fn share(&mut self) -> View {
        View { ptr: self.ptr, len: self.len, keep: self.keep.share() }
    }

    /// Forgets the first `count` bytes.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "a view does not outgrow itself");
        // SAFETY: stays within the range, or one past its end.
        self.ptr = unsafe { self.ptr.add(count) };
        self.len -= count;
    }

    pub(crate) fn ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    pub(crate) fn is_registered(&self) -> bool {
        match &self.keep {
            Keep::Buffer(buffer) => buffer.is_registered(),
            Keep::Shared(buffer) => buffer.is_registered(),
            Keep::Region(_) | Keep::Nothing => false,
        }
    }

    /// Whether nobody can change the bytes while the view lives: they lie in a buffer, not in a region.
    pub fn is_own(&self) -> bool {
        !matches!(self.keep, Keep::Region(_))
    }

    /// Whether the first byte lies at a multiple of `align`, a power of two.
    pub fn is_aligned(&self, align: usize) -> bool {
        (self.ptr.as_ptr() as usize).is_multiple_of(align)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes)", self.len)
    }
}

/// Whether all bytes are zero; looks at the ends first, where data differs from zero soonest.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return true };
    if *first | *last != 0 {
        return false;
    }
    let mut chunks = bytes.chunks_exact(64);
    chunks.all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
        && bytes.chunks_exact(64).remainder().iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let arena = Arena::new(2 << 20).expect("memory");
        let mut taken: Vec<Buffer> = Vec::new();
        while let Some(mut buffer) = arena.try_take(4096 * (1 + taken.len() % 5)) {
            let tag = taken.len() as u8;
            buffer.bytes_mut().fill(tag);
            assert_eq!(buffer.ptr() as usize % 4096, 0);
            taken.push(buffer);
        }
        for (i, buffer) in taken.iter().enumerate() {
            assert!(buffer.bytes().iter().all(|&b| b == i as u8), "piece {i} was overwritten");
        }
        drop(taken);
        assert_eq!(arena.used_bytes(), 0);
    }

    #[test]
    fn small_pieces_join_again_for_a_large_one() {
        let arena = Arena::new(1 << 20).expect("memory");
        let small: Vec<Buffer> = std::iter::from_fn(|| arena.try_take(4096)).collect();
        assert_eq!(small.len(), 256);
        assert!(arena.try_take(1 << 20).is_none());
        drop(small);
        assert_eq!(arena.try_take(1 << 20).expect("all is free").capacity(), 1 << 20);
    }

    #[test]
    fn spilled_buffers_are_counted_and_freed() {
        let arena = Arena::new(1 << 20).expect("memory");
        let buffer = arena.spill(5000);
        assert_eq!((buffer.len(), arena.spilled_bytes(), arena.used_bytes()), (5000, 8192, 0));
        drop(buffer);
        assert_eq!(arena.spilled_bytes(), 0);
    }

    #[test]
    fn checksums_of_parts_are_those_of_the_whole() {
        let arena = Arena::new(1 << 20).expect("memory");
        let mut buffer = arena.try_take(32).expect("the arena is empty");
        buffer.bytes_mut().fill(0);
        let mut back = buffer.into_view(0, 32);
        let front = back.split_to(5);
        // RFC 7143, appendix A.4: 32 bytes of zeroes
        assert_eq!(back.crc32c(front.crc32c(0)), 0x8a91_36aa);
    }

    #[test]
    fn zero_test_sees_every_byte() {
        for len in [0, 1, 63, 64, 65, 4096, 4099] {
            let mut bytes = vec![0u8; len];
            assert!(is_zero(&bytes));
            for i in 0..len {
                bytes[i] = 1;
                assert!(!is_zero(&bytes), "byte {i} of {len}");
                bytes[i] = 0;
            }
        }
    }
}
