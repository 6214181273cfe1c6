//! How values become bytes, in frames and on disk: bincode with integers of their own width, little endian.
//!
//! ```text
//! enum  u32 variant, then its fields         Option  u8 0 | 1 value       bool   u8 0 | 1
//! list  u64 count, then its values           String  u64 count, UTF-8     usize  u64
//! what is implemented here by hand is laid out as each implementation says
//! ```
//! Its one rule: a number from outside that nobody could have meant never becomes a value.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::{Decode, Decoder};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

use crate::config::Limits;
use crate::coordinator::Record;
use crate::history::{History, Term};
use crate::id::{Epoch, FlushId, ForwardId, Incarnation, NodeId, ReplicaId, ReplicaSet, Seq, VolumeId};
use crate::region::{ByteRange, RegionSet};

/// A set of regions in a message has words for at most so many extents: twice the logs of all replicas together.
const REGION_WORDS_MAX: usize = 2 * Limits::ACTIVE_EXTENTS_MAX * ReplicaId::COUNT_MAX;

/// What counts up stays below this, so that there is always a next one.
const COUNTED_MAX: u64 = u64::MAX >> 1;

type Bounded<const BYTES: usize> = Configuration<LittleEndian, Fixint, Limit<BYTES>>;

const fn bounded<const BYTES: usize>() -> Bounded<BYTES> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<BYTES>()
}

/// Appends a value's bytes.
#[inline]
pub(crate) fn encode(value: &impl Encode, out: &mut Vec<u8>) {
    // The limit is only looked at when decoding.
    bincode::encode_into_writer(value, Tail(out), bounded::<0>()).expect("a vector takes any bytes");
}

/// The value at the beginning of `bytes`, of at most `BYTES_MAX` bytes in memory, and how many it took.
pub(crate) fn decode<T: Decode<()>, const BYTES_MAX: usize>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::decode_from_slice(bytes, bounded::<BYTES_MAX>())
}

struct Tail<'a>(&'a mut Vec<u8>);

impl Writer for Tail<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

macro_rules! encoded {
    ($($name:ty: |$value:ident| $plain:expr, |$decoded:ident: $inner:ty| $checked:expr;)*) => {$(
        impl Encode for $name {
            #[inline]
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                let $value = self;
                $plain.encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            #[inline]
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                let $decoded = <$inner>::decode(decoder)?;
                $checked
            }
        }

        bincode::impl_borrow_decode!($name);
    )*};
}

encoded! {
    Epoch: |epoch| epoch.0, |number: u64| counted(number).map(Epoch);
    Seq: |seq| seq.0, |number: u64| counted(number).map(Seq);
    FlushId: |flush| flush.0, |number: u64| counted(number).map(FlushId);
    ForwardId: |id| id.0, |number: u64| counted(number).map(ForwardId);
    Incarnation: |run| run.0, |number: u64| Ok(Incarnation(number));
    VolumeId: |volume| volume.0, |bytes: [u8; 16]| Ok(VolumeId(bytes));
    NodeId: |node| node.0, |bytes: [u8; 16]| Ok(NodeId(bytes));
    ReplicaSet: |set| set.0, |bits: u8| Ok(ReplicaSet(bits));
    ReplicaId: |replica| replica.0, |number: u8| replica(number);
    ByteRange: |range| (range.start, range.bytes), |pair: (u64, u64)| range(pair.0, pair.1);
    Record: |record| (record.epoch, record.term, record.leader, record.incarnation, record.in_sync),
        |parts: (Epoch, Epoch, Option<ReplicaId>, Incarnation, ReplicaSet)| record(parts);
}

fn counted(number: u64) -> Result<u64, DecodeError> {
    if number <= COUNTED_MAX { Ok(number) } else { Err(DecodeError::Other("a number has no next one")) }
}

fn replica(number: u8) -> Result<ReplicaId, DecodeError> {
    let replica = ReplicaId(number);
    let exists = replica.index() < ReplicaId::COUNT_MAX;
    if exists { Ok(replica) } else { Err(DecodeError::Other("no volume has so many replicas")) }
}

fn range(start: u64, bytes: u64) -> Result<ByteRange, DecodeError> {
    if bytes == 0 || bytes > Limits::OPERATION_BYTES_MAX {
        return Err(DecodeError::Other("a range is empty, or too long"));
    }
    if start.checked_add(bytes).is_none_or(|end| end > COUNTED_MAX) {
        return Err(DecodeError::Other("a range ends beyond every volume"));
    }
    Ok(ByteRange::new(start, bytes))
}

fn record(parts: (Epoch, Epoch, Option<ReplicaId>, Incarnation, ReplicaSet)) -> Result<Record, DecodeError> {
    let (epoch, term, leader, incarnation, in_sync) = parts;
    if in_sync.is_empty() {
        return Err(DecodeError::Other("a record without a replica in sync"));
    }
    Ok(Record { epoch, term, leader, incarnation, in_sync })
}

/// u32 count, then the terms.
impl Encode for History {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        assert!(self.terms().len() <= History::TERMS_MAX, "a history is bounded");
        (self.terms().len() as u32).encode(encoder)?;
        self.terms().iter().try_for_each(|term| term.encode(encoder))
    }
}

impl<C> Decode<C> for History {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let count = count::<C, D>(decoder, History::TERMS_MAX)?;
        let mut terms: Vec<Term> = Vec::with_capacity(count);
        for _ in 0..count {
            let term = Term::decode(decoder)?;
            if term.first > term.last {
                return Err(DecodeError::Other("a term ends before it begins"));
            }
            terms.push(term);
        }
        Ok(History::from_terms(terms))
    }
}

bincode::impl_borrow_decode!(History);

/// u32 count, then for each extent that has some, in order: u32 extent, u64 its regions, bit n for region n.
impl Encode for RegionSet {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        assert!(self.extents() <= REGION_WORDS_MAX, "a set that is sent comes from activity logs");
        (self.extents() as u32).encode(encoder)?;
        self.masks().try_for_each(|word| word.encode(encoder))
    }
}

impl<C> Decode<C> for RegionSet {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let count = count::<C, D>(decoder, REGION_WORDS_MAX)?;
        let (mut set, mut next) = (RegionSet::new(), 0);
        for _ in 0..count {
            let (extent, mask) = <(u32, u64)>::decode(decoder)?;
            if u64::from(extent) < next || mask == 0 {
                return Err(DecodeError::Other("extents are out of order, or without a region"));
            }
            next = u64::from(extent) + 1;
            set.insert_mask(extent, mask);
        }
        Ok(set)
    }
}

bincode::impl_borrow_decode!(RegionSet);

fn count<C, D: Decoder<Context = C>>(decoder: &mut D, most: usize) -> Result<usize, DecodeError> {
    let count = u32::decode(decoder)? as usize;
    if count <= most { Ok(count) } else { Err(DecodeError::Other("a list is too long")) }
}
