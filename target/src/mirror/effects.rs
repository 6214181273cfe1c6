//! What the machine asks for, carried out.
//!
//! Its one rule: nothing here waits; what takes time is a task that comes back with an event.

use std::rc::Rc;
use std::time::Duration;

use reactor::buffer::PIECE_BYTES_MAX;
use reactor::driver::Moment;
use reactor::io as verbs;
use replication::{
    ByteRange, Change, DataId, DiskFault, Effect, Event, LocalResult, MetadataRecord, OpId, RequestId, Time,
};
use sha2::{Digest, Sha256};

use super::Mirror;
use super::requests::News;
use super::stages::Stage;
use crate::fault::{Fault, Kind};
use crate::sabotage::Sabotage;
use crate::store::Zeroing;

impl Mirror {
    pub(super) fn carry_out(&self, effect: Effect, now: Time) {
        match effect {
            Effect::ReadLocal { op, range, request } => self.read_local(op, range, request),
            Effect::WriteLocal { op, range, change, data, durable } => {
                self.write_local(op, range, change, data, durable, Moment(now.0));
            }
            Effect::FlushLocal { op } => self.flush_local(op),
            Effect::ChecksumLocal { op, range } => self.checksum_local(op, range),
            Effect::WriteMetadata { op, record } => self.write_metadata(op, record),
            Effect::Send { to, session, message, data } => {
                let volume = self.machine.borrow().volume();
                let shared = data.map(|data| self.payloads.share_checked(data));
                self.links.send(to, session, volume, &message, shared, Moment(now.0));
                if let Some(data) = data.filter(|_| Sabotage::ReleaseEarly.is_on()) {
                    self.payloads.remove(data);
                }
            }
            Effect::Release { data } if !Sabotage::ReleaseNever.shows() => drop(self.payloads.remove(data)),
            Effect::Release { .. } => {}
            Effect::Complete { request, result } => self.requests.tell(request, News::Over(result)),
            Effect::Propose { record, .. } => {
                // Nobody but the replicas decides here; the machine asks only where a service was configured.
                let decision = replication::Decision::Unavailable;
                self.events.borrow_mut().push_back(Event::Decided { epoch: record.epoch, decision });
            }
            Effect::Disconnect { peer, session, reason } => {
                self.links.hang_up(peer, session, &reason, &self.name)
            }
            Effect::WakeAt(at) => self.timer.wake_at(&self.this(), Moment(at.0)),
            Effect::Notice(notice) => self.notice(notice),
            Effect::Answer { command, result } => self.commands.answer(command, result),
        }
    }

    fn read_local(&self, op: OpId, range: ByteRange, request: Option<RequestId>) {
        if let Some(request) = request {
            return self.requests.tell(request, News::ReadHere(op));
        }
        let mirror = self.this();
        self.core.spawn(async move {
            let take = async |len| mirror.buffer(len);
            let read = mirror.local.read(range.start, range.bytes as usize, take).await;
            let since = mirror.core.turn_started();
            let result = read.map(|view| {
                let view = if view.is_own() { view } else { mirror.copy_of(&view) };
                LocalResult::Data(mirror.payloads.insert(view, None, since))
            });
            mirror.done(op, result);
        });
    }

    fn write_local(
        &self,
        op: OpId,
        range: ByteRange,
        change: Change,
        data: Option<DataId>,
        durable: bool,
        now: Moment,
    ) {
        match (change, data) {
            (Change::Data, Some(data)) => {
                let leads = self.serves_here();
                if leads {
                    self.stages.record(Stage::Order, now - self.payloads.since(data));
                }
                let at_once = self.payloads.with(data, |view| self.local.write_at_once(range.start, view));
                if let Some(result) = at_once {
                    if leads {
                        self.stages.record(Stage::LocalWrite, self.core.turn_started() - now);
                    }
                    return self.done(op, result.map(|()| LocalResult::Done));
                }
                let (mirror, view) = (self.this(), self.payloads.share(data));
                if Sabotage::TellBeforeWritten.is_on() {
                    self.core.spawn(async move {
                        mirror.done(op, Ok(LocalResult::Done));
                        let _ = mirror.local.write(range.start, view, durable).await;
                    });
                    return;
                }
                self.core.spawn(async move {
                    let result = mirror.local.write(range.start, view, durable).await;
                    if leads {
                        mirror.stages.record(Stage::LocalWrite, mirror.core.turn_started() - now);
                    }
                    mirror.done(op, result.map(|()| LocalResult::Done));
                });
            }
            (Change::Zero { deallocate }, _) => {
                let mirror = self.this();
                self.core.spawn(async move {
                    let how = Zeroing { may_unmap: deallocate, fast_only: false };
                    let result = mirror.local.write_zeroes(range.start, range.bytes, how, durable).await;
                    mirror.done(op, result.map(|()| LocalResult::Done));
                });
            }
            (Change::Data, None) => unreachable!("a write of data has data"),
        }
    }

    fn flush_local(&self, op: OpId) {
        let mirror = self.this();
        self.core.spawn(async move {
            let lies = Sabotage::TellBeforeDurable.is_on();
            let result = if lies { Ok(()) } else { mirror.local.flush().await };
            mirror.done(op, result.map(|()| LocalResult::Done));
        });
    }

    fn checksum_local(&self, op: OpId, range: ByteRange) {
        self.commands.compares(range.bytes);
        let mirror = self.this();
        self.core.spawn(async move {
            let result = mirror.checksum(range).await;
            mirror.done(op, result.map(LocalResult::Checksum));
        });
    }

    /// The first eight bytes of the range's SHA-256.
    async fn checksum(self: &Rc<Self>, range: ByteRange) -> Result<u64, Fault> {
        let mut hash = Sha256::new();
        let mut at = range.start;
        while at < range.end() {
            let len = (range.end() - at).min(PIECE_BYTES_MAX as u64 / 4) as usize;
            let take = async |len| self.buffer(len);
            let view = self.local.read(at, len, take).await?;
            let mut buffer = self.buffer(len);
            view.copy_to(buffer.bytes_mut());
            hash.update(buffer.bytes());
            at += len as u64;
            verbs::sleep(&self.core, Duration::ZERO).await;
        }
        let digest = hash.finalize();
        Ok(u64::from_le_bytes(digest[..8].try_into().expect("eight bytes")))
    }

    fn write_metadata(&self, op: OpId, record: MetadataRecord) {
        let mirror = self.this();
        self.core.spawn(async move {
            let result = mirror.metadata.write(&record).await;
            let result = result.map_err(|fault| {
                tracing::error!(volume = mirror.name, "{fault}");
                disk_fault(&fault)
            });
            mirror.handle(Event::MetadataDone { op, result });
        });
    }

    fn done(&self, op: OpId, result: Result<LocalResult, Fault>) {
        let result = result.map_err(|fault| {
            tracing::error!(volume = self.name, "the local replica: {fault}");
            disk_fault(&fault)
        });
        self.handle(Event::LocalDone { op, result });
    }
}

/// What a disk's error is to the machine.
pub(super) fn disk_fault(fault: &Fault) -> DiskFault {
    match fault.kind() {
        Kind::NoSpace => DiskFault::NoSpace,
        _ => DiskFault::Io,
    }
}
