//! CHAP's arithmetic, against values computed elsewhere (Python's hashlib), and the forms of binary values.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::iscsi::chap::{Algorithm, Challenge, ChapUser, Secret, decode_binary, encode_binary};

const SECRET: &[u8] = b"correct horse battery";
const VECTORS: [(Algorithm, &str); 4] = [
    (Algorithm::Md5, "0x7efffe0f324cdaeb9442b9216e36d904"),
    (Algorithm::Sha1, "0xf960d1db12d99fa70d7120fdb7368a2226f7ca0b"),
    (Algorithm::Sha256, "0x27750b3c27f8f918a878a6e96ac6ba3778f21ad55a7cd93fbd1424ab63cbe87b"),
    (Algorithm::Sha3_256, "0x983c8a268420313515d40186ac94b8c2146173a611c48d1fa21af77a5fe8f0cd"),
];

#[test]
fn responses_are_what_others_compute() {
    let challenge: Vec<u8> = (0..16).collect();
    for (algorithm, expected) in VECTORS {
        let response = algorithm.response(0x2a, &Secret::new(SECRET), &challenge);
        assert_eq!(encode_binary(&response), expected, "{algorithm:?}");
        assert_eq!(response.len(), algorithm.response_bytes());
    }
}

#[test]
fn first_known_algorithm_of_the_initiator_is_taken() {
    assert_eq!(Algorithm::choose("5"), Some(Algorithm::Md5));
    assert_eq!(Algorithm::choose("8,7,6,5"), Some(Algorithm::Sha3_256));
    assert_eq!(Algorithm::choose("99,x,,6,8"), Some(Algorithm::Sha1));
    assert_eq!(Algorithm::choose("0x7"), Some(Algorithm::Sha256));
    for list in ["", "4", "9,10", "MD5", "261", "5 "] {
        assert_eq!(Algorithm::choose(list), None, "{list}");
    }
}

fn users() -> Vec<ChapUser> {
    ["alice", "bob"]
        .map(|name| ChapUser { name: name.to_owned(), secret: Secret::new(name.as_bytes()) })
        .to_vec()
}

#[test]
fn only_the_right_user_with_the_right_secret_is_proved() {
    let challenge = Challenge { algorithm: Algorithm::Sha256, identifier: 9, bytes: [3; 32] };
    let decoy = Secret::new(*b"nobody knows this");
    let respond = |secret: &[u8]| Algorithm::Sha256.response(9, &Secret::new(secret), &[3; 32]);
    let verify = |name: &str, response: &[u8]| {
        challenge.verify(&users(), name, response, &decoy).map(|user| user.name.clone())
    };
    assert_eq!(verify("alice", &respond(b"alice")), Some("alice".to_owned()));
    assert_eq!(verify("bob", &respond(b"bob")), Some("bob".to_owned()));
    assert_eq!(verify("alice", &respond(b"bob")), None);
    assert_eq!(verify("carol", &respond(b"carol")), None);
    assert_eq!(verify("carol", &respond(b"nobody knows this")), None, "the decoy is nobody's secret");
    assert_eq!(verify("alice", &respond(b"alice")[..31]), None);
    assert_eq!(verify("alice", b""), None);
    assert_eq!(verify("", b""), None);
}

#[test]
fn secrets_are_not_shown() {
    let user = ChapUser { name: "alice".to_owned(), secret: Secret::new(SECRET) };
    assert_eq!(format!("{user:?}"), "ChapUser { name: \"alice\", secret: Secret(…) }");
}

#[test]
fn binary_values_are_hexadecimal_or_base64() {
    let good: [(&str, &[u8]); 11] = [
        ("0x00ff", &[0, 255]),
        ("0XAbCd", &[0xab, 0xcd]),
        ("0xf", &[15]),
        ("0x123", &[1, 0x23]),
        ("0bAP8=", &[0, 255]),
        ("0BAP8", &[0, 255]),
        ("0b/w==", &[255]),
        ("0b/w", &[255]),
        ("0bAQID", &[1, 2, 3]),
        ("0bAQIDBA==", &[1, 2, 3, 4]),
        ("0b++++", &[0xfb, 0xef, 0xbe]),
    ];
    for (text, bytes) in good {
        assert_eq!(decode_binary(text, 4).as_deref(), Some(bytes), "{text}");
    }
}

#[test]
fn malformed_binary_values_are_refused() {
    let bad = [
        "", "0", "0x", "0b", "0b=", "0b====", "12", "ff", "0xg0", "0x1 ", "0x-1", "0bA", "0bAQIDB", "0bA===",
        "0bAP9=", "0bAP8==", "0bA-_=", "0bAP=8", "xx00", "ä0", "0é",
    ];
    for text in bad {
        assert_eq!(decode_binary(text, 100), None, "{text}");
    }
}

#[test]
fn binary_values_are_bounded_before_they_are_stored() {
    assert!(decode_binary("0x0102", 2).is_some());
    assert_eq!(decode_binary("0x010203", 2), None);
    assert_eq!(decode_binary("0x10203", 2), None);
    assert_eq!(decode_binary("0bAQID", 2), None);
    assert_eq!(decode_binary("0bAQI=", 1), None);
    assert_eq!(decode_binary(&format!("0b{}", "A".repeat(1 << 20)), 1024), None);
}

proptest! {
    #[test]
    fn binary_values_come_back(bytes in vec(any::<u8>(), 1..100)) {
        prop_assert_eq!(decode_binary(&encode_binary(&bytes), 100), Some(bytes));
    }

    #[test]
    fn any_text_decodes_within_its_bound_or_not_at_all(text in "0[xb][A-Za-z0-9+/=]{0,60}") {
        if let Some(bytes) = decode_binary(&text, 20) {
            prop_assert!((1..=20).contains(&bytes.len()));
        }
    }
}
