//! Bytes, as the simulator sees them: one number a sector; and who holds them.
//!
//! Its one rule: what a machine holds it gives back once, and a number never names other bytes later.

use replication::DataId;

pub(crate) const SECTOR: u64 = 512;
/// So many sectors go into one write, read or resync.
pub(crate) const SECTORS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    len: u8,
    values: [u64; SECTORS_MAX],
}

impl Payload {
    pub(crate) fn all(value: u64, sectors: u64) -> Payload {
        assert!(sectors as usize <= SECTORS_MAX, "the simulator's ranges are short");
        Payload { len: sectors as u8, values: [value; SECTORS_MAX] }
    }

    pub(crate) fn of(sectors: &[u64]) -> Payload {
        let mut values = [0; SECTORS_MAX];
        values[..sectors.len()].copy_from_slice(sectors);
        Payload { len: sectors.len() as u8, values }
    }

    #[inline]
    pub(crate) fn values(&self) -> &[u64] {
        &self.values[..usize::from(self.len)]
    }
}

#[derive(Clone, Debug)]
struct Slot {
    generation: u32,
    payload: Option<Payload>,
}

/// All that one node's machine holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Held {
    #[inline]
    pub(crate) fn hold(&mut self, payload: Payload) -> DataId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, payload: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation += 1;
        slot.payload = Some(payload);
        DataId(u64::from(slot.generation) << 32 | u64::from(index))
    }

    #[inline]
    pub(crate) fn get(&self, data: DataId) -> Option<&Payload> {
        let slot = self.slots.get(data.0 as u32 as usize)?;
        if u64::from(slot.generation) != data.0 >> 32 {
            return None;
        }
        slot.payload.as_ref()
    }

    /// None: it is not held (any more).
    #[inline]
    pub(crate) fn take(&mut self, data: DataId) -> Option<Payload> {
        self.get(data)?;
        let index = data.0 as u32;
        self.free.push(index);
        self.slots[index as usize].payload.take()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Payload> {
        self.slots.iter().filter_map(|slot| slot.payload.as_ref())
    }
}
