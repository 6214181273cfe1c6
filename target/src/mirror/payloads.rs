//! The bytes that the machine knows by number.
//!
//! Its one rule: a number is given back once; whoever still needs the bytes has shared them before.

use std::cell::{Cell, RefCell};

use reactor::View;
use reactor::driver::Moment;
use replication::DataId;
use slab::Slab;

/// All payload of one volume.
#[derive(Default)]
pub struct Payloads {
    held: RefCell<Slab<Payload>>,
    link_bytes: Cell<usize>,
}

struct Payload {
    view: View,
    crc: Option<u32>,
    since: Moment,
    /// Of the peers' budget for memory.
    link_bytes: usize,
}

impl Payloads {
    /// Takes bytes in. Of those that a link has brought, the checksum is known.
    pub fn insert(&self, view: View, crc: Option<u32>, since: Moment) -> DataId {
        let link_bytes = if crc.is_some() { view.len() } else { 0 };
        self.link_bytes.set(self.link_bytes.get() + link_bytes);
        DataId(self.held.borrow_mut().insert(Payload { view, crc, since, link_bytes }) as u64)
    }

    /// The bytes for one more holder.
    pub fn share(&self, data: DataId) -> View {
        self.held.borrow_mut()[data.0 as usize].view.share()
    }

    /// The bytes, for a moment.
    pub fn with<T>(&self, data: DataId, use_them: impl FnOnce(&View) -> T) -> T {
        use_them(&self.held.borrow()[data.0 as usize].view)
    }

    /// Since when they are here.
    pub fn since(&self, data: DataId) -> Moment {
        self.held.borrow()[data.0 as usize].since
    }

    /// The same, with their CRC32C, which is computed once.
    pub fn share_checked(&self, data: DataId) -> (View, u32) {
        let mut payloads = self.held.borrow_mut();
        let payload = &mut payloads[data.0 as usize];
        let crc = *payload.crc.get_or_insert_with(|| payload.view.crc32c(0));
        (payload.view.share(), crc)
    }

    /// Lets them go.
    pub fn remove(&self, data: DataId) -> View {
        let payload = self.held.borrow_mut().remove(data.0 as usize);
        self.link_bytes.set(self.link_bytes.get() - payload.link_bytes);
        payload.view
    }

    /// How many are held.
    pub fn count(&self) -> usize {
        self.held.borrow().len()
    }

    /// Bytes that links have brought and the machine still holds.
    pub fn link_bytes(&self) -> usize {
        self.link_bytes.get()
    }
}
