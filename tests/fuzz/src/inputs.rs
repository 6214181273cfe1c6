//! Inputs for the fuzz targets when they run as ordinary tests: the committed corpus, damaged copies of it, noise.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The corpus of one target, which must not be empty. For crates that lie beside `tests/`.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).expect("the corpus is readable")).collect()
}

/// Entries of the corpus with some bytes changed, cut or repeated; or nothing but noise.
pub fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let edit = (any::<Index>(), any::<u8>(), 0..4_u8);
    let damaged = (select(corpus(target)), vec(edit, 0..6)).prop_map(|(mut bytes, edits)| {
        for (at, value, kind) in edits {
            damage(&mut bytes, at, value, kind);
        }
        bytes
    });
    prop_oneof![4 => damaged, 1 => vec(any::<u8>(), 0..200)]
}

fn damage(bytes: &mut Vec<u8>, at: Index, value: u8, kind: u8) {
    if bytes.is_empty() {
        return;
    }
    let at = at.index(bytes.len());
    match kind {
        0 => bytes[at] = value,
        1 => bytes.insert(at, value),
        2 => bytes.truncate(at + 1),
        _ => bytes.extend_from_within(at..),
    }
}
