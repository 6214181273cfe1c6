//! Messages of every kind: a list for tests that go through all, and a strategy for those that want any.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use replication::fault::{DiskFault, Fault, Refusal};
use replication::id::{Epoch, FlushId, ForwardId, Incarnation, ReplicaId, ReplicaSet, Seq, VolumeId};
use replication::message::{Hello, Lead, Message, Origin};
use replication::wire::frame::Payload;
use replication::{ByteRange, Change, Comparison, History, Limits, Operation, Record, RegionSet, Term};

/// A message, and how many bytes of payload it has.
pub type Sample = (Message, Option<u32>);

/// The payload of a sample.
pub fn payload(bytes: Option<u32>) -> Option<Payload> {
    bytes.map(|bytes| Payload { bytes, crc: 0xC0FF_EE00 })
}

pub fn record() -> Record {
    Record {
        epoch: Epoch(5),
        term: Epoch(4),
        leader: Some(ReplicaId(1)),
        incarnation: Incarnation(0x0123_4567_89AB_CDEF),
        in_sync: ReplicaSet(3),
    }
}

pub fn history() -> History {
    let term = |leader, first, last| Term {
        leader: ReplicaId(leader),
        incarnation: Incarnation(u64::from(leader) + 7),
        first: Epoch(first),
        last: Epoch(last),
    };
    History::from_terms(vec![term(0, 1, 3), term(1, 4, 5)])
}

fn regions() -> RegionSet {
    [(0, 0b101), (7, u64::MAX), (u32::MAX, 1)].into_iter().collect()
}

pub fn hello() -> Hello {
    Hello {
        replica: ReplicaId(1),
        volume: Some(VolumeId([7; 16])),
        names: vec!["a".to_owned(), "b".to_owned()],
        size_bytes: 20 << 30,
        region_bytes: 64 << 10,
        incarnation: Incarnation(u64::MAX),
        promised: Epoch(6),
        record: Some(record()),
        history: history(),
        leads: true,
        blank: false,
        unbroken: true,
        activity: regions(),
    }
}

fn lead() -> Lead {
    Lead {
        volume: VolumeId([7; 16]),
        era: 9,
        record: record(),
        history: history(),
        joined: ReplicaSet(7),
        term: Epoch(4),
        begins: false,
        report: true,
    }
}

fn origin() -> Origin {
    Origin {
        replica: ReplicaId(2),
        incarnation: Incarnation(11),
        id: ForwardId(12),
        answered_below: ForwardId(10),
    }
}

/// At least one of every kind, with every value of the enums inside.
pub fn all() -> Vec<Sample> {
    let (epoch, seq, flush, id) = (Epoch(5), Seq(77), FlushId(3), ForwardId(12));
    let range = ByteRange::new(8192, 4096);
    let result = Err(DiskFault::NoSpace);
    let write = |change, durable, origin| Message::Write { epoch, seq, range, change, durable, origin };
    let zero = Change::Zero { deallocate: true };
    let forward = |sent_before, operation| Message::Forward {
        id,
        answered_below: ForwardId(10),
        sent_before,
        operation,
    };
    let mut all = vec![
        (Message::Hello(Box::new(hello())), None),
        (Message::Prepare { epoch, forced: true }, None),
        (Message::Promise { epoch, record: Some(record()), history: history(), unbroken: true }, None),
        (Message::Lead(Box::new(lead())), None),
        (Message::Led { epoch, activity: regions() }, None),
        (Message::InForce { epoch }, None),
        (write(Change::Data, true, None), Some(4096)),
        (write(Change::Data, false, Some(origin())), Some(4096)),
        (write(zero, false, None), None),
        (Message::Written { epoch, seq, result: Ok(()), also: vec![Seq(seq.0 + 1), Seq(seq.0 + 3)] }, None),
        (Message::Written { epoch, seq, result, also: Vec::new() }, None),
        (Message::Flush { epoch, flush }, None),
        (Message::Flushed { epoch, flush, result: Err(DiskFault::Io) }, None),
        (Message::Durable { epoch, flush, mended: true }, None),
        (Message::Lacking { epoch, of: ReplicaId(2), regions: regions() }, None),
        (Message::Resync { epoch, seq, range }, Some(4096)),
        (Message::Resynced { epoch, seq, result: Err(DiskFault::TimedOut) }, None),
        (Message::Ping { epoch, number: 8 }, None),
        (Message::Pong { epoch, number: 8, granted: 800_000_000 }, None),
        (Message::Checksum { epoch, seq, range }, None),
        (Message::Checksummed { epoch, seq, result: Ok(u64::MAX) }, None),
        (forward(None, Operation::Write { range, change: Change::Data, durable: false }), Some(4096)),
        (forward(Some(epoch), Operation::Write { range, change: zero, durable: true }), None),
        (forward(None, Operation::Flush), None),
        (forward(None, Operation::Read { range }), None),
        (Message::Forwarded { id, result: Ok(()) }, Some(4096)),
        (Message::Forwarded { id, result: Ok(()) }, None),
        (Message::NotLeading { id }, None),
    ];
    all.extend(faults().map(|fault| (Message::Forwarded { id, result: Err(fault) }, None)));
    all.extend(
        refusals().map(|reason| (Message::Refused { epoch, promised: Epoch(6), record: None, reason }, None)),
    );
    all
}

fn faults() -> impl Iterator<Item = Fault> {
    [Fault::Disk(DiskFault::Io), Fault::NoLeader, Fault::Indeterminate, Fault::OutOfRange, Fault::Busy]
        .into_iter()
}

fn refusals() -> impl Iterator<Item = Refusal> {
    let (who, some) = (ReplicaId(1), ReplicaSet(5));
    [
        Refusal::OldEpoch(Epoch(9)),
        Refusal::LeaderAlive(who),
        Refusal::LeaseOut,
        Refusal::AlreadyLeads,
        Refusal::NotLeader,
        Refusal::NotInSync { since: Epoch(2), in_sync: some },
        Refusal::MayHaveGoneOn { unreachable: some },
        Refusal::NoMajority { reachable: 1, replicas: 3 },
        Refusal::NewAndAlone { unreachable: some },
        Refusal::Mixed,
        Refusal::MayLackUnflushed(who),
        Refusal::SplitBrain(who),
        Refusal::Coordinator,
        Refusal::Disk(DiskFault::TimedOut),
        Refusal::Busy,
        Refusal::Unanswered(some),
        Refusal::NoSuccessor,
        Refusal::Leads,
        Refusal::OtherVolume,
        Refusal::OtherSize { its: 1, own: 2 },
        Refusal::OtherRegions { its: 1, own: 2 },
        Refusal::OtherReplicas,
        Refusal::OtherName(who),
        Refusal::Histories(Comparison::Diverged),
    ]
    .into_iter()
}

fn number() -> impl Strategy<Value = u64> {
    0..=u64::MAX >> 1
}

fn any_replica() -> impl Strategy<Value = ReplicaId> {
    (0..8_u8).prop_map(ReplicaId)
}

fn any_range() -> impl Strategy<Value = ByteRange> {
    (0..1_u64 << 60, 1..=Limits::OPERATION_BYTES_MAX).prop_map(|(start, bytes)| ByteRange::new(start, bytes))
}

fn any_record() -> impl Strategy<Value = Record> {
    (number(), number(), option::of(any_replica()), any::<u64>(), 1..=u8::MAX).prop_map(
        |(epoch, term, leader, run, in_sync)| Record {
            epoch: Epoch(epoch),
            term: Epoch(term),
            leader,
            incarnation: Incarnation(run),
            in_sync: ReplicaSet(in_sync),
        },
    )
}

fn any_history() -> impl Strategy<Value = History> {
    let term = (any_replica(), any::<u64>(), number(), number()).prop_map(|(leader, run, one, other)| Term {
        leader,
        incarnation: Incarnation(run),
        first: Epoch(one.min(other)),
        last: Epoch(one.max(other)),
    });
    vec(term, 0..=History::TERMS_MAX).prop_map(History::from_terms)
}

pub fn any_regions() -> impl Strategy<Value = RegionSet> {
    vec((any::<u32>(), 1..=u64::MAX), 0..200).prop_map(|words| words.into_iter().collect())
}

prop_compose! {
    fn any_hello()(
        replica in any_replica(),
        volume in option::of(any::<[u8; 16]>()),
        names in vec(".{0,60}", 1..=8),
        (size_bytes, region_bytes, run) in any::<(u64, u64, u64)>(),
        promised in number(),
        record in option::of(any_record()),
        history in any_history(),
        (leads, blank, unbroken) in any::<(bool, bool, bool)>(),
        activity in any_regions(),
    ) -> Hello {
        Hello {
            replica, names, size_bytes, region_bytes, record, history, leads, blank, unbroken, activity,
            volume: volume.map(VolumeId), incarnation: Incarnation(run), promised: Epoch(promised),
        }
    }
}

fn any_write() -> impl Strategy<Value = Sample> {
    let origin = (any_replica(), any::<u64>(), number(), number()).prop_map(|(replica, run, id, below)| {
        Origin { replica, incarnation: Incarnation(run), id: ForwardId(id), answered_below: ForwardId(below) }
    });
    let numbers = (number(), number(), any::<bool>());
    (numbers, any_range(), 0..3_u8, option::of(origin)).prop_map(|(numbers, range, change, origin)| {
        let (epoch, seq, durable) = numbers;
        let change = if change == 0 { Change::Data } else { Change::Zero { deallocate: change == 1 } };
        let message = Message::Write { epoch: Epoch(epoch), seq: Seq(seq), range, change, durable, origin };
        (message, (change == Change::Data).then_some(range.bytes as u32))
    })
}

/// Any message.
pub fn any_sample() -> impl Strategy<Value = Sample> {
    let promise = (number(), option::of(any_record()), any_history(), any::<bool>()).prop_map(
        |(epoch, record, history, unbroken)| {
            (Message::Promise { epoch: Epoch(epoch), record, history, unbroken }, None)
        },
    );
    let led = (number(), any_regions())
        .prop_map(|(epoch, activity)| (Message::Led { epoch: Epoch(epoch), activity }, None));
    prop_oneof![
        4 => any_write(),
        1 => any_hello().prop_map(|hello| (Message::Hello(Box::new(hello)), None)),
        1 => promise,
        1 => led,
        4 => proptest::sample::select(all()),
    ]
}
