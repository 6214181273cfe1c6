//! A metadata file in memory, and records to put there.

use replication::disk::{CHUNK_BYTES, Identity, Layout, Opened, ReadError, Reader, Writer, format, read};
use replication::id::{Epoch, Incarnation, NodeId, ReplicaId, ReplicaSet, Time, VolumeId};
use replication::{
    BitmapPage, Effect, Event, Geometry, History, Limits, MetadataRecord, Record, RegionSet, Replica,
    ReplicaConfig, Stored, Superblock, Term,
};

pub const REPLICAS: usize = 3;
/// 40 pages: three groups of bitmaps, the last page cut short.
pub const GEOMETRY: Geometry = Geometry { size_bytes: (40 << 30) - 5 * 65536 - 512, region_bytes: 64 << 10 };
pub const IDENTITY: Identity = Identity { node: NodeId([4; 16]), replica: ReplicaId(1), geometry: GEOMETRY };

/// What is on the disk, and what should be.
#[derive(Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub writer: Writer,
    pub model: Stored,
}

impl Image {
    pub fn new() -> Image {
        let mut head = Vec::new();
        let writer = format(&IDENTITY, &mut head);
        let mut bytes = vec![0; Layout::new(&GEOMETRY, REPLICAS).file_bytes() as usize];
        bytes[..head.len()].copy_from_slice(&head);
        let model = Stored { bitmaps: vec![RegionSet::new(); REPLICAS], ..Stored::default() };
        Image { bytes, writer, model }
    }

    /// With these records written, whole.
    pub fn with(records: &[MetadataRecord]) -> Image {
        let mut image = Image::new();
        records.iter().for_each(|record| image.write(record));
        image
    }

    pub fn write(&mut self, record: &MetadataRecord) {
        let (at, bytes) = self.encode(record);
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        self.model.apply(record);
    }

    /// What would be written, and where.
    pub fn encode(&mut self, record: &MetadataRecord) -> (usize, Vec<u8>) {
        let mut bytes = vec![0xEE; 3];
        let at = self.writer.encode(record, &mut bytes) as usize;
        assert!(at.is_multiple_of(4096) && bytes.len().is_multiple_of(4096));
        (at, bytes)
    }

    pub fn read(&self) -> Result<Opened, ReadError> {
        read(&self.bytes, &IDENTITY, REPLICAS)
    }

    /// The same, but quickly: only the head and the first group of bitmaps are looked at.
    pub fn read_first(&self) -> Result<Opened, ReadError> {
        let mut reader = Reader::new(&IDENTITY, REPLICAS, self.bytes.len() as u64)?;
        while let Some(offset) = reader.wants() {
            let at = offset as usize;
            reader.take((at <= REPLICAS * CHUNK_BYTES).then(|| &self.bytes[at..at + CHUNK_BYTES]))?;
        }
        Ok(reader.finish())
    }
}

/// The first that a replica's machine wants written.
fn first_superblock() -> Superblock {
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let config = ReplicaConfig::new(IDENTITY.replica, names, IDENTITY.node, GEOMETRY.size_bytes);
    let mut replica = Replica::open(config, Stored::default(), Time(0)).expect("a sound configuration");
    let mut effects = Vec::new();
    replica.step(Event::Tick, Time(0), &mut effects);
    let first = effects.into_iter().find_map(|effect| match effect {
        Effect::WriteMetadata { record: MetadataRecord::Superblock(superblock), .. } => Some(superblock),
        _ => None,
    });
    first.expect("a new replica writes its superblock")
}

pub fn superblock(epoch: u64) -> MetadataRecord {
    let run = |epoch: u64| Term {
        leader: ReplicaId((epoch % 3) as u8),
        incarnation: Incarnation(epoch ^ 0xABCD),
        first: Epoch(epoch),
        last: Epoch(epoch),
    };
    MetadataRecord::Superblock(Superblock {
        volume: Some(VolumeId([9; 16])),
        promised: Epoch(epoch + 1),
        record: Some(Record {
            epoch: Epoch(epoch),
            term: Epoch(epoch),
            leader: Some(ReplicaId(1)),
            incarnation: Incarnation(epoch),
            in_sync: ReplicaSet(0b110),
        }),
        in_force: epoch.is_multiple_of(2),
        history: History::from_terms((1..=epoch).map(run).collect()),
        full: ReplicaSet(1),
        ..first_superblock()
    })
}

/// So many marks; 4096 fill every page of the slot.
pub fn activity(count: u32) -> MetadataRecord {
    MetadataRecord::Activity((0..count).map(|number| number * 2 + count % 2).collect())
}

pub fn longest_activity() -> MetadataRecord {
    activity(Limits::ACTIVE_EXTENTS_MAX as u32)
}

pub fn page(of: u8, page: u32, word: u64) -> MetadataRecord {
    let words = (0..BitmapPage::PAGE_EXTENTS).map(|index| if index % 3 == 0 { word } else { 0 }).collect();
    MetadataRecord::Bitmap(BitmapPage { of: ReplicaId(of), page, words })
}
