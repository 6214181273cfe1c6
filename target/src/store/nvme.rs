//! The NVMe backing: I/O commands on a namespace's generic character device by IORING_OP_URING_CMD.
//!
//! The namespace's block device is held open exclusively meanwhile, so nobody mounts what we write to.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use reactor::op::NvmeCommand;
use reactor::{Buffer, Core, Handle, Path, View, io as verbs};

use crate::fault::{Fault, Kind};
use crate::message::VolumeFacts;
use crate::store::{Zeroing, unsupported};

/// Opcodes of the NVM Command Set Specification.
const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;
const DATASET_MANAGEMENT: u8 = 0x09;

/// Command dword 12 of reads, writes and write zeroes.
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Command dword 12 of write zeroes: deallocate.
const DEALLOCATE: u32 = 1 << 25;
/// Command dword 11 of dataset management: the ranges may be deallocated.
const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;
/// Bytes of one range of dataset management.
const RANGE_BYTES: usize = 16;
/// Logical blocks of one write zeroes command: the field has 16 bits, counted from zero.
const BLOCKS_PER_COMMAND: u64 = 1 << 16;

/// Status "Invalid Command Opcode" and "Invalid Field in Command" (type 0), without the retry and more bits.
const UNKNOWN_OPCODE: u16 = 0x01;
const INVALID_FIELD: u16 = 0x02;

/// An open namespace.
pub struct NvmeStore {
    pub(super) path: PathBuf,
    pub(super) core: Core,
    pub(super) handle: Handle,
    /// The block device of the namespace, held with O_EXCL.
    pub(super) _held: File,
    pub(super) namespace: u32,
    pub(super) facts: VolumeFacts,
    pub(super) size_bytes: Cell<u64>,
    /// Of one command (MDTS and the limits of the host).
    pub(super) transfer_bytes_max: usize,
}

impl NvmeStore {
    pub(super) fn facts(&self) -> VolumeFacts {
        VolumeFacts { size_bytes: self.size_bytes.get(), ..self.facts.clone() }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.get()
    }

    pub(super) fn set_size(&self, size_bytes: u64) -> Result<(), Fault> {
        self.size_bytes.set(size_bytes);
        Ok(())
    }

    pub(super) fn block_bytes(&self) -> u32 {
        self.facts.block_bytes
    }

    pub(super) async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        if buffer.len() <= self.transfer_bytes_max {
            return self.read_at_once(offset, buffer).await;
        }
        let mut whole = buffer;
        let mut at = 0;
        while at < whole.len() {
            let len = (whole.len() - at).min(self.transfer_bytes_max);
            let part = self.core.arena().take(len).await;
            let part = self.read_at_once(offset + at as u64, part).await?;
            whole.bytes_mut()[at..at + len].copy_from_slice(part.bytes());
            at += len;
        }
        Ok(whole)
    }

    async fn read_at_once(&self, offset: u64, buffer: Buffer) -> Result<Buffer, Fault> {
        let command = self.transfer(READ, offset, buffer.len(), 0);
        let (status, buffer) = verbs::nvme_in(&self.handle, command, buffer).await;
        self.check("read", offset, status)?;
        Ok(buffer)
    }

    pub(super) async fn write(&self, offset: u64, data: View, durable: bool) -> Result<(), Fault> {
        let dword12 = if durable { FORCE_UNIT_ACCESS } else { 0 };
        if data.len() <= self.transfer_bytes_max {
            let command = self.transfer(WRITE, offset, data.len(), dword12);
            return self.check("write", offset, verbs::nvme_out(&self.handle, command, data).await);
        }
        let mut whole = vec![0; data.len()];
        data.copy_to(&mut whole);
        drop(data);
        for (i, bytes) in whole.chunks(self.transfer_bytes_max).enumerate() {
            let offset = offset + (i * self.transfer_bytes_max) as u64;
            let mut part = self.core.arena().take(bytes.len()).await;
            part.bytes_mut().copy_from_slice(bytes);
            let command = self.transfer(WRITE, offset, bytes.len(), dword12);
            let status = verbs::nvme_out(&self.handle, command, part.into_view(0, bytes.len())).await;
            self.check("write", offset, status)?;
        }
        Ok(())
    }

    pub(super) async fn sync(&self) -> Result<(), Fault> {
        let command = NvmeCommand { opcode: FLUSH, namespace: self.namespace, dwords: [0; 6] };
        self.check("flush", 0, verbs::nvme(&self.handle, command).await)
    }

    pub(super) async fn discard(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let block = u64::from(self.block_bytes());
        let mut at = offset;
        while at < offset + len {
            let blocks = ((offset + len - at) / block).min(u32::MAX.into());
            let mut range = self.core.arena().take(RANGE_BYTES).await;
            range.bytes_mut()[0..4].fill(0);
            range.bytes_mut()[4..8].copy_from_slice(&(blocks as u32).to_le_bytes());
            range.bytes_mut()[8..16].copy_from_slice(&(at / block).to_le_bytes());
            let dwords = [0, ATTRIBUTE_DEALLOCATE, 0, 0, 0, 0];
            let command = NvmeCommand { opcode: DATASET_MANAGEMENT, namespace: self.namespace, dwords };
            let status = verbs::nvme_out(&self.handle, command, range.into_view(0, RANGE_BYTES)).await;
            self.check("discard", at, status)?;
            at += blocks * block;
        }
        Ok(())
    }

    pub(super) async fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), Fault> {
        if !self.facts.can_fast_zero {
            return Err(unsupported("write zeroes", &self.path));
        }
        let block = u64::from(self.block_bytes());
        let dword12 = if how.may_unmap && self.facts.can_discard { DEALLOCATE } else { 0 };
        let mut at = offset;
        while at < offset + len {
            let bytes = (offset + len - at).min(BLOCKS_PER_COMMAND * block);
            let command = self.transfer(WRITE_ZEROES, at, bytes as usize, dword12);
            self.check("zero", at, verbs::nvme(&self.handle, command).await)?;
            at += bytes;
        }
        Ok(())
    }

    fn transfer(&self, opcode: u8, offset: u64, len: usize, dword12: u32) -> NvmeCommand {
        let block = u64::from(self.block_bytes());
        let lba = offset / block;
        let blocks = len as u64 / block;
        assert!(
            blocks > 0 && offset.is_multiple_of(block) && (len as u64).is_multiple_of(block),
            "volume aligns"
        );
        let dwords = [lba as u32, (lba >> 32) as u32, dword12 | (blocks - 1) as u32, 0, 0, 0];
        NvmeCommand { opcode, namespace: self.namespace, dwords }
    }

    fn check(&self, what: &str, offset: u64, status: io::Result<u16>) -> Result<(), Fault> {
        let path = self.path.display();
        match status {
            Ok(0) => Ok(()),
            Ok(status)
                if matches!(status & 0x7ff, UNKNOWN_OPCODE | INVALID_FIELD)
                    && what != "read"
                    && what != "write" =>
            {
                Err(unsupported(what, &self.path))
            }
            Ok(status) => {
                let context = format!("{path}: cannot {what} at {offset}: NVMe status {:#x}", status & 0x7ff);
                Err(Fault::new(Kind::Io, context))
            }
            Err(error) => Err(Fault::caused(Kind::Io, format!("{path}: cannot {what} at {offset}"), error)),
        }
    }
}

/// The path of a handle by whether the device has queues for polling.
pub(super) fn path_for(polled: bool) -> Path {
    if polled { Path::Polled } else { Path::Ring }
}
