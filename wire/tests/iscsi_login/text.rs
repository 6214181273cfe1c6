//! key=value lists: what is taken, what is refused, and how texts are collected.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::text::{Collector, Limits, Pairs, TEXT_BYTES_MAX, TextError, parse_number, put_pair};

fn parse(text: &[u8]) -> Result<Vec<(String, String)>, TextError> {
    let pairs = Pairs::parse(text, Limits::default())?;
    Ok(pairs.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn pairs_end_with_nul_or_the_text() {
    let expected = Ok(owned(&[("A", "1"), ("B", "2=3")]));
    for text in [&b"A=1\0B=2=3\0"[..], b"A=1\0B=2=3", b"\0A=1\0\0B=2=3\0\0\0"] {
        assert_eq!(parse(text), expected, "{text:?}");
    }
    assert_eq!(parse(b""), Ok(Vec::new()));
    assert_eq!(parse(b"A=\0"), Ok(owned(&[("A", "")])));
}

#[test]
fn what_is_no_pair_is_refused() {
    assert_eq!(parse(b"A=1\0junk\0"), Err(TextError::NotAPair("junk".to_owned())));
    assert_eq!(parse(b"=1\0"), Err(TextError::BadKey(String::new())));
    assert_eq!(parse(b"a key=1\0"), Err(TextError::BadKey("a key".to_owned())));
    assert_eq!(parse(b"A=1\0A=2\0"), Err(TextError::Twice("A".to_owned())));
    assert_eq!(parse(b"A=\xff\0"), Err(TextError::NotUtf8("A".to_owned())));
    assert!(matches!(parse(b"\xff=1\0"), Err(TextError::BadKey(_))));
}

#[test]
fn lengths_are_bounded() {
    let key = |bytes: usize| [vec![b'k'; bytes], b"=v".to_vec()].concat();
    assert!(parse(&key(63)).is_ok());
    assert!(matches!(parse(&key(64)), Err(TextError::BadKey(_))));
    let value = |bytes: usize| [b"K=".to_vec(), vec![b'v'; bytes]].concat();
    assert!(parse(&value(8192)).is_ok());
    assert_eq!(parse(&value(8193)), Err(TextError::ValueTooLong { key: "K".to_owned(), bytes_max: 8192 }));
    assert_eq!(parse(&vec![0; TEXT_BYTES_MAX + 1]), Err(TextError::TooLong(TEXT_BYTES_MAX)));
    let many = |count: usize| (0..count).flat_map(|at| format!("K{at}=\0").into_bytes()).collect::<Vec<_>>();
    assert_eq!(parse(&many(128)).map(|pairs| pairs.len()), Ok(128));
    assert_eq!(parse(&many(129)), Err(TextError::TooManyPairs(128)));
}

#[test]
fn text_goes_on_over_pdus_and_may_be_cut_anywhere() {
    let mut collector = Collector::default();
    assert_eq!(collector.add(b"Initiator", true), Ok(None));
    assert!(!collector.is_empty());
    assert_eq!(collector.add(b"", true), Ok(None));
    assert_eq!(collector.add(b"Name=x\0", false), Ok(Some(b"InitiatorName=x\0".to_vec())));
    assert!(collector.is_empty());
}

#[test]
fn endless_text_is_given_up() {
    let mut collector = Collector::default();
    for _ in 0..8 {
        assert_eq!(collector.add(&[b'x'; 8192], true), Ok(None));
    }
    assert_eq!(collector.add(b"x", true), Err(TextError::TooLong(TEXT_BYTES_MAX)));
    assert!(collector.is_empty());
}

#[test]
fn numbers_are_decimal_or_hexadecimal() {
    let good = [("0", 0), ("007", 7), ("262144", 262_144), ("0x40000", 262_144), ("0Xff", 255)];
    for (text, number) in good {
        assert_eq!(parse_number(text), Some(number), "{text}");
    }
    assert_eq!(parse_number("18446744073709551615"), Some(u64::MAX));
    for text in
        ["", "0x", "-1", "+1", "1 ", "a", "18446744073709551616", "0x10000000000000000", "0b00", "1.0"]
    {
        assert_eq!(parse_number(text), None, "{text}");
    }
}

#[test]
fn strangers_words_do_not_flood_the_log() {
    let error = parse(&[b'\x1b'; 9000]).expect_err("no pair");
    assert!(error.to_string().len() < 800 && !error.to_string().contains('\x1b'), "{error}");
}

proptest! {
    #[test]
    fn pairs_come_back(values in vec("[^\\x00]{0,40}", 0..20)) {
        let mut out = Vec::new();
        let pairs: Vec<_> = values.iter().enumerate().map(|(at, value)| (format!("K{at}"), value.clone())).collect();
        pairs.iter().for_each(|(key, value)| put_pair(&mut out, key, value));
        prop_assert_eq!(parse(&out), Ok(pairs));
    }

    #[test]
    fn any_bytes_are_pairs_or_refused(text in vec(prop_oneof![any::<u8>(), Just(b'='), Just(0)], 0..300)) {
        let _ = parse(&text);
    }
}
