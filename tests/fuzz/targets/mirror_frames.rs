//! libFuzzer's door to `mirror_frames`.
#![no_main]

#[path = "../src/mirror_frames.rs"]
mod mirror_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mirror_frames::mirror_frames(data));
