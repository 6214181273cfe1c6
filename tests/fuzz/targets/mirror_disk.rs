//! libFuzzer's door to `mirror_disk`.
#![no_main]

#[path = "../src/mirror_disk.rs"]
mod mirror_disk;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mirror_disk::mirror_disk(data));
