//! libFuzzer's door to `fuzz::negotiation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::negotiation(data));
