//! Stores: where a replica's bytes lie, behind one interface.
//!
//! A store takes ranges inside its size and aligned to its blocks, and asserts that; `volume` sees to it.

mod file;
mod memory;
mod nvme;
mod open;

use nix::libc;
use reactor::{Buffer, Core, View};
use wire::nbd::transmission::Extent;

use crate::fault::{Fault, Kind};
use crate::message::VolumeFacts;

pub use open::{Opened, create, open, remove, resize};

/// An open store on its core.
pub enum Store {
    /// A regular file or a block device.
    File(file::FileStore),
    /// An NVMe namespace.
    Nvme(nvme::NvmeStore),
    /// Memory.
    Memory(memory::MemoryStore),
}

/// How a range is to be zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zeroing {
    /// It may become a hole.
    pub may_unmap: bool,
    /// `Unsupported` rather than writing zeroes.
    pub fast_only: bool,
}

impl Store {
    /// Brings `opened` to `core`.
    pub fn attach(core: &Core, opened: Opened) -> Result<Store, Fault> {
        opened.attach(core)
    }

    /// What it is now.
    pub fn facts(&self) -> VolumeFacts {
        match self {
            Store::File(file) => file.facts(),
            Store::Nvme(nvme) => nvme.facts(),
            Store::Memory(memory) => memory.facts(),
        }
    }

    /// Bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Store::File(file) => file.size_bytes(),
            Store::Nvme(nvme) => nvme.size_bytes(),
            Store::Memory(memory) => memory.size_bytes(),
        }
    }

    /// Serves `size_bytes` from now on; the backing has that size already.
    pub fn set_size(&self, size_bytes: u64) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.set_size(size_bytes),
            Store::Nvme(nvme) => nvme.set_size(size_bytes),
            Store::Memory(memory) => memory.set_size(size_bytes),
        }
    }

    /// Offsets, lengths and addresses must be multiples of this, a power of two.
    pub fn block_bytes(&self) -> u32 {
        match self {
            Store::File(file) => file.block_bytes(),
            Store::Nvme(nvme) => nvme.block_bytes(),
            Store::Memory(_) => 1,
        }
    }

    /// Whether operations never wait for a device, so that a buffer lent to one is free again in the next turn.
    pub fn is_immediate(&self) -> bool {
        match self {
            Store::File(file) => file.is_immediate(),
            Store::Nvme(_) => false,
            Store::Memory(_) => true,
        }
    }

    /// The bytes at `offset` without a buffer to read into, where the store holds them in memory.
    pub fn view(&self, offset: u64, len: usize) -> Option<View> {
        match self {
            Store::Memory(memory) => Some(memory.view(offset, len)),
            _ => None,
        }
    }

    /// Fills `buffer` from `offset`.
    pub async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        match self {
            Store::File(file) => file.read(offset, buffer).await,
            Store::Nvme(nvme) => nvme.read(offset, buffer).await,
            Store::Memory(memory) => Ok(memory.read(offset, buffer)),
        }
    }

    /// Writes `data` to `offset`; durably if asked (NBD FUA).
    pub async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.write(offset, data, durable).await,
            Store::Nvme(nvme) => nvme.write(offset, data, durable).await,
            Store::Memory(memory) => {
                memory.write(offset, &data);
                Ok(())
            }
        }
    }

    /// The same, where the store is in memory; `false` where it is not.
    pub fn write_at_once(&self, offset: u64, data: &View) -> bool {
        let Store::Memory(memory) = self else { return false };
        memory.write(offset, data);
        true
    }

    /// Makes everything written so far durable.
    pub async fn sync(&self) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.sync().await,
            Store::Nvme(nvme) => nvme.sync().await,
            Store::Memory(_) => Ok(()),
        }
    }

    /// Tells the backing that the range's bytes are no longer needed. It may keep them.
    pub async fn discard(&self, offset: u64, len: u64) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.discard(offset, len).await,
            Store::Nvme(nvme) => nvme.discard(offset, len).await,
            Store::Memory(memory) => {
                memory.zero(offset, len, true);
                Ok(())
            }
        }
    }

    /// Zeroes the range without the caller writing zeroes; `Unsupported` where the backing cannot.
    pub async fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.zero(offset, len, how).await,
            Store::Nvme(nvme) => nvme.zero(offset, len, how).await,
            Store::Memory(memory) => {
                memory.zero(offset, len, how.may_unmap);
                Ok(())
            }
        }
    }

    /// What is allocated from `offset` on, at most `len` bytes and `extents_max` extents.
    pub async fn extents(&self, offset: u64, len: u64, extents_max: usize) -> Result<Vec<Extent>, Fault> {
        match self {
            Store::File(file) => file.extents(offset, len, extents_max).await,
            Store::Nvme(_) => Ok(vec![Extent { length: len, flags: 0 }]),
            Store::Memory(memory) => Ok(memory.extents(offset, len, extents_max)),
        }
    }

    /// Says that the range will be read soon.
    pub async fn prefetch(&self, offset: u64, len: u64) -> Result<(), Fault> {
        match self {
            Store::File(file) => file.prefetch(offset, len).await,
            _ => Ok(()),
        }
    }
}

/// Whether an error says that the backing lacks the operation.
fn lacks_it(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY))
}

fn unsupported(what: &str, path: &std::path::Path) -> Fault {
    Fault::new(Kind::Unsupported, format!("{} cannot {what}", path.display()))
}
