//! The fuzz targets as ordinary tests: the committed corpus, damaged copies of it, and noise.

#[path = "../../tests/fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The corpus of one target, which must not be empty.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).expect("the corpus is readable")).collect()
}

/// Entries of the corpus with some bytes changed, cut or repeated; or nothing but noise.
fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
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

#[test]
fn corpus_holds() {
    corpus("negotiation").iter().for_each(|input| targets::negotiation(input));
    corpus("requests").iter().for_each(|input| targets::requests(input));
    corpus("dial").iter().for_each(|input| targets::dial(input));
    corpus("iscsi_pdu").iter().for_each(|input| targets::iscsi_pdu(input));
    corpus("iscsi_text").iter().for_each(|input| targets::iscsi_text(input));
    corpus("iscsi_login").iter().for_each(|input| targets::iscsi_login(input));
    corpus("iscsi_initiator").iter().for_each(|input| targets::iscsi_initiator(input));
    corpus("iscsi_session").iter().for_each(|input| targets::iscsi_session(input));
    corpus("scsi_cdb").iter().for_each(|input| targets::scsi_cdb(input));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn negotiation_withstands_anything(input in inputs("negotiation")) {
        targets::negotiation(&input);
    }

    #[test]
    fn requests_withstand_anything(input in inputs("requests")) {
        targets::requests(&input);
    }

    #[test]
    fn dial_withstands_anything(input in inputs("dial")) {
        targets::dial(&input);
    }

    #[test]
    fn scsi_cdbs_withstand_anything(input in inputs("scsi_cdb")) {
        targets::scsi_cdb(&input);
    }

    #[test]
    fn iscsi_session_withstands_anything(input in inputs("iscsi_session")) {
        targets::iscsi_session(&input);
    }

    #[test]
    fn iscsi_pdus_withstand_anything(input in inputs("iscsi_pdu")) {
        targets::iscsi_pdu(&input);
    }

    #[test]
    fn iscsi_text_withstands_anything(input in inputs("iscsi_text")) {
        targets::iscsi_text(&input);
    }

    #[test]
    fn iscsi_login_withstands_anything(input in inputs("iscsi_login")) {
        targets::iscsi_login(&input);
    }

    #[test]
    fn iscsi_initiator_withstands_anything(input in inputs("iscsi_initiator")) {
        targets::iscsi_initiator(&input);
    }
}
