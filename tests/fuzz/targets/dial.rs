//! libFuzzer's door to `fuzz::dial`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dial(data));
