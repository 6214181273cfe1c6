//! Replies, lawful and damaged, cut anywhere: never a panic, and alike however they are cut.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wire::nbd::transmission::{
    Extent, put_block_status, put_done, put_error, put_none, put_offset_data, put_offset_hole,
    put_simple_reply,
};

use super::fuzz::{LENGTH, STYLES, fed, replies, table};
use super::*;
use crate::client::request::Place;

/// A reply or chunk to some request, which may or may not be in its place.
fn any_reply() -> impl Strategy<Value = (usize, u8, u64, u64, bool)> {
    let lengths = prop_oneof![Just(LENGTH), 1..LENGTH + 10];
    (0..6_usize, 0..6_u8, prop_oneof![Just(5000_u64), 4990..6010_u64], lengths, any::<bool>())
}

fn put(
    out: &mut Vec<u8>,
    style: ReplyStyle,
    cookie: Cookie,
    (_, kind, at, length, done): (usize, u8, u64, u64, bool),
) {
    let data = vec![7; length as usize];
    match (style, kind) {
        (ReplyStyle::Simple, _) | (ReplyStyle::Structured, 5) => {
            put_simple_reply(out, cookie, (kind == 0).then_some(Errno::Io));
            if kind == 1 {
                out.extend_from_slice(&data);
            }
        }
        (_, 0) => put_error(out, style, done, cookie, 5000, Errno::Io, "no"),
        (_, 1) => {
            put_offset_data(out, style, done, cookie, 5000, at, length);
            out.extend_from_slice(&data);
        }
        (_, 2) => put_offset_hole(out, style, done, cookie, 5000, at, length as u32),
        (_, 3) => put_block_status(out, style, done, cookie, 5000, 1, &[Extent { length, flags: 3 }]),
        _ => put_done(out, style, cookie, 5000, Ok(())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn replies_mean_the_same_however_they_are_cut(
        style in select(&STYLES[..]),
        replies in vec(any_reply(), 1..8),
        edits in vec((any::<Index>(), any::<u8>()), 0..3),
        cut in 1..200_usize,
    ) {
        let (_, cookies) = table();
        let mut bytes = Vec::new();
        for reply in replies {
            let cookie = cookies.get(reply.0).copied().unwrap_or(Cookie(99));
            put(&mut bytes, style, cookie, reply);
        }
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        prop_assert_eq!(fed(style, &bytes, cut), fed(style, &bytes, usize::MAX));
    }

    #[test]
    fn noise_is_borne(style in select(&STYLES[..]), bytes in vec(any::<u8>(), 0..300), cut in 1..50_usize) {
        prop_assert_eq!(fed(style, &bytes, cut), fed(style, &bytes, usize::MAX));
    }
}

#[test]
fn no_read_succeeds_with_bytes_missing() {
    let (mut table, cookies) = table();
    let mut bytes = Vec::new();
    put_offset_data(&mut bytes, ReplyStyle::Structured, false, cookies[0], 5000, 5000, LENGTH - 1);
    bytes.resize(bytes.len() + LENGTH as usize - 1, 7);
    let mut replies = Replies::new(0, ReplyStyle::Structured, Some(1));
    assert_eq!(replies.advance(&bytes, &mut table), Ok(bytes.len()));
    assert_eq!(table.slot(0).place, Place::Sent(0, cookies[0]));
    let mut last = Vec::new();
    put_none(&mut last, ReplyStyle::Structured, true, cookies[0], 5000);
    assert_eq!(replies.advance(&last, &mut table), Err(Violation::DataMissing));
}

#[test]
fn the_fuzzers_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/replies");
    let files = fs::read_dir(&folder).expect("the corpus is there");
    let inputs: Vec<_> =
        files.map(|file| fs::read(file.expect("readable").path()).expect("readable")).collect();
    assert!(!inputs.is_empty());
    inputs.iter().for_each(|input| replies(input));
}
