//! Files that are somebody else's, of another time, or no metadata at all.

use replication::Geometry;
use replication::disk::{Identity, ReadError, RecordName, read};
use replication::fault::OpenError;
use replication::id::{NodeId, ReplicaId};

use super::image::{GEOMETRY, IDENTITY, Image, REPLICAS, superblock};

#[track_caller]
fn assert_refused(configured: &Identity, error: OpenError) {
    let image = Image::with(&[superblock(1)]);
    assert_eq!(read(&image.bytes, configured, REPLICAS), Err(ReadError::Other(error)));
}

#[test]
fn metadata_of_another_node_is_refused() {
    assert_refused(&Identity { node: NodeId([5; 16]), ..IDENTITY }, OpenError::ForeignNode);
}

#[test]
fn metadata_of_another_place_in_the_list_is_refused() {
    let error = OpenError::OtherReplica { stored: ReplicaId(1), configured: ReplicaId(0) };
    assert_refused(&Identity { replica: ReplicaId(0), ..IDENTITY }, error);
}

#[test]
fn metadata_of_another_geometry_is_refused() {
    let (stored, configured) = (GEOMETRY.size_bytes, 1 << 30);
    let geometry = Geometry { size_bytes: configured, ..GEOMETRY };
    assert_refused(&Identity { geometry, ..IDENTITY }, OpenError::OtherSize { stored, configured });
    // A larger size needs a longer file: the size is what is wrong, not the file.
    let configured = 1 << 40;
    let geometry = Geometry { size_bytes: configured, ..GEOMETRY };
    assert_refused(&Identity { geometry, ..IDENTITY }, OpenError::OtherSize { stored, configured });
    let (stored, configured) = (GEOMETRY.region_bytes, 1 << 20);
    let geometry = Geometry { region_bytes: configured, ..GEOMETRY };
    assert_refused(&Identity { geometry, ..IDENTITY }, OpenError::OtherRegions { stored, configured });
}

#[test]
fn another_version_of_the_format_is_refused() {
    let mut image = Image::new();
    for at in [8, 65536 + 8] {
        image.bytes[at..at + 2].copy_from_slice(&2_u16.to_le_bytes());
    }
    assert_eq!(image.read(), Err(ReadError::OtherVersion(2)));
}

#[test]
fn one_rotten_place_of_the_identity_is_got_over() {
    let mut image = Image::with(&[superblock(1)]);
    image.bytes[8] ^= 3;
    let opened = image.read().expect("the other place");
    assert_eq!((opened.stored, opened.damages[0].record), (image.model.clone(), RecordName::Identity));
    image.bytes[65536 + 45] ^= 1;
    image.bytes[8] ^= 3;
    image.bytes[45] ^= 1;
    assert_eq!(image.read(), Err(ReadError::Damaged(RecordName::Identity)));
}

#[test]
fn an_identity_of_zeros_is_damage_once_anything_was_written() {
    let mut image = Image::with(&[superblock(1)]);
    for at in [0, 65536] {
        image.bytes[at..at + 4096].fill(0);
    }
    assert_eq!(image.read(), Err(ReadError::Damaged(RecordName::Identity)));
}

#[test]
fn what_is_no_metadata_is_refused() {
    let bytes: Vec<u8> = (0..2 << 20).map(|number: u32| (number % 251) as u8).collect();
    assert_eq!(read(&bytes, &IDENTITY, REPLICAS), Err(ReadError::NotMetadata));
    assert_eq!(
        ReadError::NotMetadata.to_string(),
        "the file is no metadata of a replica: check its path, or remove the file to begin with an empty copy"
    );
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    let image = Image::with(&[superblock(1)]);
    let (found, needed) = (image.bytes.len() as u64 - 1, image.bytes.len() as u64);
    let cut = &image.bytes[..image.bytes.len() - 1];
    assert_eq!(read(cut, &IDENTITY, REPLICAS), Err(ReadError::Short { found, needed }));
    let error = read(&image.bytes[..4096], &IDENTITY, REPLICAS);
    assert!(matches!(error, Err(ReadError::Short { found: 4096, .. })));
}
