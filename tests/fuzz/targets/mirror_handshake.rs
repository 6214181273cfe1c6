//! libFuzzer's door to `mirror_handshake`.
#![no_main]

#[path = "../src/mirror_handshake.rs"]
mod mirror_handshake;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mirror_handshake::mirror_handshake(data));
