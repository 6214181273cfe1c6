//! libFuzzer's door to `fuzz::iscsi_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::iscsi_text(data));
